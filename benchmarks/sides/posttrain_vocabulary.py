"""posttrain's training step on one vocabulary: the step of SFT, rejection sampling and distillation to given answers."""

from __future__ import annotations

from benchmarks.memory import state_bytes
from benchmarks.vocabularies import LEARNING_RATE, Vocabularies
from benchmarks.work import Done, Moment, durations
from posttrain.policy.hf import load_policy
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.training.likelihood import likelihood_step


def run(work: Vocabularies, setting: str) -> Done:
    """A step for each repeat; `setting` is the size of the vocabulary."""
    with work.model(int(setting)) as folder:
        policy = load_policy(str(folder), work.dtype)
    optimizer = Optimizer(policy.parameters(), AdamWConfig(learning_rate=LEARNING_RATE))
    moments, metrics = [Moment.now()], {}
    for _ in range(work.n_repeats):
        metrics = likelihood_step(policy, optimizer, [work.sequence], work.tokens)
        moments.append(Moment.now())
    return Done(
        *durations(moments[work.warmup : -1], moments[work.warmup + 1 :]), {"trained": int(metrics["data/trained_tokens"])},
        state_bytes=state_bytes([policy.model], optimizer.adamw),
    )  # fmt: skip
