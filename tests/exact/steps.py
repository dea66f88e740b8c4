"""One optimizer step, and one run, of the random model *tiny*: cut, packed, regularised, killed.

The step: 16 attempts at 4 problems, 1 to 16 tokens long, as another policy might have drawn them; one is unscored, and one
group has no signal. A gradient's error is its largest difference in units of its largest entry.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from posttrain.algorithms.grpo import Config, Learner, step
from posttrain.batching import rollout_sequences
from posttrain.policy.models import last_checkpoint
from posttrain.policy.optim import AdamWConfig
from tests.algorithms.gradient import CLOSE, LOSSES, REDUCTIONS, by_hand, config, gradient
from tests.algorithms.kills import STEPS, VARIANTS, command, differing_bytes, finish, kill_when, left_by, n_steps, writing
from tests.algorithms.toy import difference, digest, learner, made_round, tiny
from tests.exact.check import Check

ROW_TOKENS = (1, 60, 128, 250)
"""Tokens in a packed row: from an attempt in each to nearly all in one."""


def any_split_of_a_step_gives_the_same_gradient() -> Iterator[Check]:
    for loss in LOSSES:
        whole = gradient(config(loss=loss, tokens_per_batch=10_000))
        cut = max(difference(gradient(config(loss=loss, tokens_per_batch=n)), whole) for n in ROW_TOKENS)
        claim = f"loss {loss}, a step cut into rows of at most {', '.join(map(str, ROW_TOKENS))} tokens: error against one row"
        yield Check("17", claim, 0, cut, CLOSE)


def a_packed_step_has_the_gradient_of_its_formula_written_out() -> Iterator[Check]:
    for loss in LOSSES:
        settings = [config(loss=loss, reduction=reduction) for reduction in REDUCTIONS]
        error = max(difference(gradient(chosen), by_hand(chosen)) for chosen in settings)
        claim = f"loss {loss}, every reduction: error against transformers' logits, unpacked and in float64"
        yield Check("36", claim, 0, error, CLOSE)


def a_kl_in_the_loss_has_the_gradient_of_its_formula_written_out() -> Iterator[Check]:
    for kl_in in ("loss_k2", "loss_k3"):
        chosen = config(kl_coef=0.5, kl_in=kl_in)
        claim = f"clipped and {kl_in.removeprefix('loss_')}, packed: error against transformers' logits, unpacked and in float64"
        yield Check("36", claim, 0, difference(gradient(chosen), by_hand(chosen)), CLOSE)


def _after_steps(lora_rank: int) -> Learner:
    settings = Config(
        problems_per_step=3, group_size=4, max_tokens=6, dtype="float32", kl_coef=0.01, lora_rank=lora_rank,
        optim=AdamWConfig(learning_rate=1e-2),
    )  # fmt: skip
    made = learner(settings)
    for _ in range(3):
        asyncio.run(step(made))
    return made


def a_reference_does_not_drift() -> Iterator[Check]:
    made = _after_steps(lora_rank=0)
    changed = digest(made.reference.policy.model.state_dict().values()) != digest(tiny().model.state_dict().values())
    yield Check("13", "a frozen reference after 3 steps: 1 if any bit of its weights has changed", 0, float(changed))

    round = made_round(tiny(), [(4, 7), (12, 5)], [(1.0, 0.0), (0.0, 1.0)], drift=0.0)
    sampled = [x for rollout in round.rollouts for x in rollout.completions[0].sampling_logprobs]
    for name, read in (("its weights trained", made), ("an adapter trained", _after_steps(lora_rank=4))):
        found = torch.cat(read.reference.logprobs([s for rollout in round.rollouts for s in rollout_sequences(rollout)]))
        largest = (found - torch.tensor(sampled)).abs().max().item()
        yield Check("12", f"log-probs of the reference of a policy with {name} against the initial model's: largest difference, nats", 0, largest)


def a_killed_run_goes_on_to_the_same_bits() -> Iterator[Check]:
    with tempfile.TemporaryDirectory() as folder:
        for name, changes in VARIANTS.items():
            alone, killed = (Path(folder, name, run) for run in ("alone", "killed"))
            finish(command(alone, changes))
            dice = random.Random(name)
            for at in sorted(dice.sample(range(STEPS - 1), 2)):
                kill_when(command(killed, changes), lambda at=at, run=killed: n_steps(run) > at)
            kill_when(command(killed, changes), lambda run=killed: last_checkpoint(run) is not None and writing(run))
            finish(command(killed, changes))
            claim = f"a run of {STEPS} steps ({name}), killed at two random steps and while it wrote a checkpoint: bytes that differ from an undisturbed run's"
            yield Check("40", claim, 0, differing_bytes(left_by(killed), left_by(alone)))


CHECKS = (
    any_split_of_a_step_gives_the_same_gradient,
    a_packed_step_has_the_gradient_of_its_formula_written_out,
    a_kl_in_the_loss_has_the_gradient_of_its_formula_written_out,
    a_reference_does_not_drift,
)
SLOW_CHECKS = (a_killed_run_goes_on_to_the_same_bits,)
