"""A distillation step: its gradient by hand and under any split, behind two different prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from torch import Tensor

from posttrain.algorithms.distill import Config, Learner, Lesson, descend
from posttrain.batching import TokenSequence
from posttrain.policy import attention
from posttrain.policy.divergence import dense_divergence
from posttrain.policy.hf import Policy
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.training.loop import Trained
from posttrain.training.reference import Reference
from tests.algorithms.gradient import CLOSE, LENGTHS, VALUES
from tests.algorithms.toy import difference, gradients, made_round, tiny
from tests.training.steps import ORDER, ROW_TOKENS

KINDS = ("reverse_kl", "forward_kl", "jsd", "sampled")
every_kind = pytest.mark.parametrize("kind", KINDS)
HEADER = (65, 66, 67)
"""What the teacher alone has read before the prompt."""


@cache
def setting() -> tuple[Policy, Reference, list[Lesson]]:
    student = tiny()
    teacher = student.frozen_copy()
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    lessons = []
    for rollout in made_round(student, LENGTHS, VALUES, drift=0.0, temperature=0.7).rollouts:
        turn = rollout.completions[0]
        behind = [TokenSequence(prompt, turn.token_ids, None, 0.7) for prompt in (turn.prompt_token_ids, HEADER + turn.prompt_token_ids)]
        lessons.append(Lesson(*behind, torch.tensor(turn.sampling_logprobs)))
    return student, Reference(teacher, False), [lessons[i] for i in ORDER]


def step(kind: str, tokens_per_batch: int = 10_000, teacher: Reference | None = None) -> tuple[list[Tensor], dict[str, float]]:
    student, usual, lessons = setting()
    trained = Trained(student, Optimizer(student.parameters(), AdamWConfig(learning_rate=0.0)))
    config = Config(task="-", divergence=kind, tokens_per_batch=tokens_per_batch)
    learner = Learner(trained, teacher or usual, None, None, [], [], (), config)  # type: ignore[arg-type]
    with gradients(student) as found:
        metrics = descend(learner, lessons)
    return found, metrics


def log_distributions(policy: Policy, sequence: TokenSequence) -> Tensor:
    """At every answer token, as transformers computes it."""
    policy.base.set_attn_implementation("eager")
    logits = policy.base(input_ids=torch.tensor([sequence.prompt + sequence.tokens]), use_cache=False).logits[0]
    policy.base.set_attn_implementation(attention.NAME)
    return (logits[len(sequence.prompt) - 1 : -1] / sequence.temperature).log_softmax(-1)


def by_hand(kind: str, lessons: Sequence[Lesson]) -> Tensor:
    """The mean over all answer tokens of the step."""
    student, teacher, _ = setting()
    total, n = torch.zeros(()), 0
    for lesson in lessons:
        ours, theirs = log_distributions(student, lesson.student), log_distributions(teacher.policy, lesson.teacher).detach()
        tokens = torch.tensor(lesson.student.tokens)[:, None]
        if kind == "sampled":
            advantages = theirs.gather(1, tokens)[:, 0] - lesson.sampling_logprobs
            total = total - (advantages * ours.gather(1, tokens)[:, 0]).sum()
        else:
            total = total + dense_divergence(ours, theirs, kind, 0.5).sum()  # type: ignore[arg-type]
        n += len(tokens)
    return total / n


@every_kind
def test_the_gradient_is_that_of_the_formula_on_answers_read_alone(kind: str) -> None:
    gradient, metrics = step(kind)
    student, _, lessons = setting()
    loss = by_hand(kind, lessons)
    assert difference(gradient, torch.autograd.grad(loss, student.parameters())) < 10 * CLOSE  # fp32 against fp32
    if kind != "sampled":
        assert metrics["distill/divergence_nats"] == pytest.approx(loss.item(), rel=1e-4)


@every_kind
def test_any_split_into_rows_gives_the_same_gradient(kind: str) -> None:
    whole, metrics = step(kind)
    for tokens in ROW_TOKENS:
        cut, cut_metrics = step(kind, tokens)
        assert difference(cut, whole) < CLOSE
        assert cut_metrics == pytest.approx(metrics, rel=1e-4)


def test_the_sampled_form_estimates_the_reverse_kl() -> None:
    """log(sampler / teacher) of the sampled tokens, which here were drawn at random and not by the student."""
    _, metrics = step("sampled")
    _, teacher, lessons = setting()
    gaps = torch.cat([lesson.sampling_logprobs for lesson in lessons]) - torch.cat(teacher.logprobs([lesson.teacher for lesson in lessons]))
    assert metrics["distill/divergence_nats"] == pytest.approx(gaps.mean().item(), rel=1e-4)


@every_kind
def test_a_student_that_is_its_own_teacher_has_nothing_to_learn(kind: str) -> None:
    student, _, lessons = setting()
    same = [Lesson(lesson.student, lesson.student, lesson.sampling_logprobs) for lesson in lessons]
    trained = Trained(student, Optimizer(student.parameters(), AdamWConfig(learning_rate=0.0)))
    learner = Learner(trained, Reference(student.frozen_copy(), False), None, None, [], [], (), Config(task="-", divergence=kind))  # type: ignore[arg-type]
    metrics = descend(learner, same)
    assert metrics["distill/divergence_nats"] == pytest.approx(0, abs=1e-5) and metrics["policy/grad_norm"] < 1e-4
