"""posttrain's DPO: `algorithms/dpo.step`, as `posttrain train dpo` runs it."""

from __future__ import annotations

import asyncio

import torch

from benchmarks.learning import Pairs
from benchmarks.memory import state_bytes
from benchmarks.work import Done, Moment, durations
from posttrain.algorithms.dpo import Config, Learner, step
from posttrain.policy.optim import Optimizer
from posttrain.training.loop import Trained
from posttrain.training.pairs import PairTokens, flat_sequences
from posttrain.training.reference import Reference
from posttrain.training.stream import Stream


def run(work: Pairs, setting: str = "") -> Done:
    """All steps of each pass, everything in them: the reference's log-probs, forward and backward, AdamW."""
    pairs = work.items()
    learner = _learner(work, pairs)
    metrics, moments = asyncio.run(_passes(learner, work))
    models = [learner.trained.policy.model, learner.reference.policy.model]
    return Done(
        *durations(moments[work.warmup : -1], moments[work.warmup + 1 :]),
        {"trained": int(sum(m["data/trained_tokens"] for m in metrics[: work.steps])), "read": sum(map(_read, pairs))},
        state_bytes=state_bytes(models, learner.trained.optimizer.adamw),
        nll_nats=-torch.cat(learner.reference.logprobs(flat_sequences(pairs))).mean().item(),
    )


def _read(pair: PairTokens) -> int:
    """Tokens of a pair, its prompt once."""
    return len(pair.chosen.prompt) + len(pair.chosen.tokens) + len(pair.rejected.tokens)


def _learner(work: Pairs, pairs: list[PairTokens]) -> Learner:
    config = Config(model=work.model, dtype=work.dtype, pairs_per_step=work.per_step, measure_every=0, seed=work.seed, optim=work.optim)
    policy = work.trainable()
    trained = Trained(policy, Optimizer(policy.parameters(), config.optim))
    reference = Reference.of(policy, str(work.folder), work.dtype, adapter_is_new=False)
    stream = Stream(pairs, config.seed)

    async def take() -> tuple[list[PairTokens], None]:
        return stream.take(config.pairs_per_step)[0], None

    return Learner(trained, reference, take, [], config)


async def _passes(learner: Learner, work: Pairs) -> tuple[list[dict[str, float]], list[Moment]]:
    """What each step saw, and the moments between the passes."""
    metrics, moments = [], [Moment.now()]
    for first in range(0, work.n_repeats * work.steps, work.steps):
        metrics += [(await step(learner, first + number)).metrics for number in range(1, work.steps + 1)]
        moments.append(Moment.now())
    return metrics, moments
