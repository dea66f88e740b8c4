"""What the tests of algorithms train on: the random tiny model, a task whose reward varies from the first attempt on, and
attempts made up by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256

import torch
from torch import Tensor

from posttrain.agents.loop import ModelAgent
from posttrain.algorithms.grpo import Config, Learner
from posttrain.batching import rollout_sequences
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.lora import LoraConfig
from posttrain.policy.optim import Optimizer
from posttrain.training.loop import Trained
from posttrain.training.reference import Reference
from posttrain.training.rounds import Round
from posttrain.types import Completion, Message, Problem, Rollout, Sampling, Score, unscored


@dataclass(frozen=True)
class EvenBytes:
    """The reward is the share of even bytes in the answer: random models differ in it, and any model can learn it."""

    n: int = 12
    name: str = "even bytes"

    def problems(self, split: str) -> list[Problem]:
        return [Problem(f"{split}-{i}", (Message("user", f"Say {i}."),), "2468") for i in range(self.n)]

    async def score(self, rollout: Rollout) -> Score:
        said = rollout.text.encode()
        return Score(sum(byte % 2 == 0 for byte in said) / max(1, len(said)))

    def solution(self, problem: Problem) -> str:
        return problem.answer


def tiny(lora_rank: int = 0) -> Policy:
    torch.manual_seed(0)
    return load_policy("tiny", "float32", LoraConfig(lora_rank) if lora_rank else None)


def learner(config: Config, task: EvenBytes = EvenBytes()) -> Learner:
    """Everything a step needs, around the tiny model."""
    policy = tiny(config.lora_rank)
    reference = Reference(policy if config.lora_rank else policy.frozen_copy(), bool(config.lora_rank)) if config.kl_coef else None
    trained = Trained(policy, Optimizer(policy.parameters(), config.optim))
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(config.temperature, config.max_tokens))
    return Learner(trained, agent, task, task.problems("train"), reference, config)


def digest(weights: Iterable[Tensor]) -> str:
    """Equal for weights that are equal to the last bit."""
    return sha256(b"".join(w.detach().contiguous().view(torch.uint8).numpy().tobytes() for w in weights)).hexdigest()


@contextmanager
def gradients(policy: Policy) -> Iterator[list[Tensor]]:
    """What one optimizer step has added up before it cuts and applies it, in the order of the parameters."""
    found = [torch.zeros_like(p) for p in policy.parameters()]
    hooks = [p.register_post_accumulate_grad_hook(_keep_in(kept)) for p, kept in zip(policy.parameters(), found, strict=True)]
    yield found
    for hook in hooks:
        hook.remove()


def _keep_in(kept: Tensor) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        kept.copy_(parameter.grad)

    return hook


def difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest difference of two gradients, in units of the largest entry of the second."""
    ours, theirs = (torch.cat([g.double().flatten() for g in gradient]) for gradient in (ours, theirs))
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def made_round(
    policy: Policy, lengths_PG: Sequence[Sequence[int]], values_PG: Sequence[Sequence[float]], *,
    drift: float = 0.4, temperature: float = 0.8, truncated: Sequence[tuple[int, int]] = (),
) -> Round:  # fmt: skip
    """Attempts of random tokens with these lengths and scores (nan: unscored), as another policy might have drawn them.

    Their sampling log-probs are the policy's own, moved by a normal number of the size `drift` for each token, so that
    ratios spread around 1 and clips act; 0 makes them exact.
    """
    problems = EvenBytes(len(lengths_PG)).problems("train")
    draw = torch.Generator().manual_seed(0)
    tokens = lambda n: tuple(torch.randint(0, 256, (n,), generator=draw).tolist())  # noqa: E731
    rollouts_PG = []
    for p, (problem, lengths) in enumerate(zip(problems, lengths_PG, strict=True)):
        prompt = policy.renderer.prompt(problem.messages)
        group = []
        for g, length in enumerate(lengths):
            completion = Completion(prompt, tokens(length), (0.0,) * length, "stop", Sampling(temperature, 16), g)
            outcome = "truncated" if (p, g) in truncated else "terminated"
            group.append(Rollout(problem, (policy.renderer.parse(completion.token_ids),), (completion,), outcome, g))
        rollouts_PG.append(group)
    round = Round(problems, rollouts_PG, [[Score(v) if v == v else unscored("made so") for v in row] for row in values_PG])
    return _with_logprobs(policy, round, drift, draw)


def _with_logprobs(policy: Policy, round: Round, drift: float, draw: torch.Generator) -> Round:
    sequences = [s for rollout in round.rollouts for s in rollout_sequences(rollout)]
    logprobs = policy.score(sequences)[0]
    parts = iter((logprobs + drift * torch.randn(len(logprobs), generator=draw)).split([s.n_predicted for s in sequences]))

    def moved(rollout: Rollout) -> Rollout:
        completion = replace(rollout.completions[0], sampling_logprobs=tuple(next(parts).tolist()))
        return replace(rollout, completions=(completion,))

    return replace(round, rollouts_PG=[[moved(rollout) for rollout in group] for group in round.rollouts_PG])
