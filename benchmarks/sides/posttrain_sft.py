"""posttrain's SFT: `algorithms/sft.step`, as `posttrain train sft` runs it."""

from __future__ import annotations

import asyncio

from benchmarks.learning import Conversations
from benchmarks.memory import state_bytes
from benchmarks.work import Done, Moment, durations
from posttrain.algorithms.sft import Config, Learner, step
from posttrain.policy.optim import Optimizer
from posttrain.training.loop import Trained


def run(work: Conversations, setting: str = "") -> Done:
    """All steps of each pass, everything in them; nothing is held out, so that nothing is measured in between."""
    learner = _learner(work)
    metrics, moments = asyncio.run(_passes(learner, work))
    first = metrics[: work.steps]
    trained = [m["data/trained_tokens"] for m in first]
    return Done(
        *durations(moments[work.warmup : -1], moments[work.warmup + 1 :]),
        {"trained": int(sum(trained)), "read": int(sum(m["data/tokens"] for m in first))},
        state_bytes=state_bytes([learner.trained.policy.model], learner.trained.optimizer.adamw),
        nll_nats=sum(m["loss/nll_nats"] * n for m, n in zip(first, trained, strict=True)) / sum(trained),
    )


def _learner(work: Conversations) -> Learner:
    config = Config(model=work.model, dtype=work.dtype, conversations_per_step=work.per_step, measure_every=0, seed=work.seed, optim=work.optim)
    policy = work.trainable()
    trained = Trained(policy, Optimizer(policy.parameters(), config.optim))
    return Learner(trained, [[sequence] for sequence in work.items()], [], config)


async def _passes(learner: Learner, work: Conversations) -> tuple[list[dict[str, float]], list[Moment]]:
    """What each step saw, and the moments between the passes."""
    metrics, moments = [], [Moment.now()]
    for first in range(0, work.n_repeats * work.steps, work.steps):
        metrics += [(await step(learner, first + number)).metrics for number in range(1, work.steps + 1)]
        moments.append(Moment.now())
    return metrics, moments
