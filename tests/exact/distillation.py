"""Distillation: where each divergence ends, what it tends to, and what a sampled token stands for.

Student and teacher give a distribution at every state; a state counts as often as the student comes there, and that number
is held fixed, as it is where samples are drawn first and differentiated afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from posttrain.losses.policy import reinforce
from posttrain.policy.divergence import Divergence, dense_divergence, divergences
from posttrain.policy.head import Head, tempered_logprobs
from tests.exact.check import Check, gradient_check
from tests.exact.expectation import Groups, expected_loss, gradient, gradient_error, kl_divergence, slopes, to_go, total_variation
from tests.exact.fixed_points import natural_step
from tests.exact.policies import EnumerablePolicy, bandit, stopping_tree, transformer, tree

N_STEPS = 30
KINDS: tuple[tuple[str, Divergence, float], ...] = (
    ("reverse KL", "reverse_kl", 0.5), ("forward KL", "forward_kl", 0.5), ("JSD, beta .5", "jsd", 0.5), ("JSD, beta .1", "jsd", 0.1)
)  # fmt: skip
SETTINGS: dict[str, Callable[[int], EnumerablePolicy]] = {"bandit": bandit, "tree": tree, "stopping tree": stopping_tree}


def _pair(make: Callable[[int], EnumerablePolicy]) -> tuple[EnumerablePolicy, EnumerablePolicy]:
    """A student and a frozen teacher."""
    return make(0), make(1).requires_grad_(False)


def expected_divergence(student: EnumerablePolicy, teacher: EnumerablePolicy, kind: Divergence, beta: float = 0.5, temperatures: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """The expected sum over the tokens of an answer of the student's, with the student's samples held fixed."""
    ours_nV, theirs_nV = student.log_distributions(temperatures[0]), teacher.log_distributions(temperatures[1])
    chance_n = student.per_sequence(student.logprobs(temperatures[0])).exp().detach()[student.sequence_ids]
    return chance_n @ dense_divergence(ours_nV, theirs_nV, kind, beta)


def expected_sampled_divergence(student: EnumerablePolicy, teacher: EnumerablePolicy, credit_n: Tensor | None = None) -> Tensor:
    """The expected loss of `--divergence sampled`: REINFORCE with log(teacher / sampler) of each token, or with a credit given."""
    advantages_n = (teacher.logprobs() - student.logprobs()).detach() if credit_n is None else credit_n

    def loss(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
        return reinforce(logprobs_N, advantages_n[groups.token_N])

    return expected_loss(student, torch.zeros(len(student.sequences), dtype=torch.float64), loss=loss)


# ---------------------------------------------------------------------------------------------------------------- optima


def every_divergence_ends_at_the_teacher() -> Iterator[Check]:
    for name, make in list(SETTINGS.items())[1:]:
        for words, kind, beta in KINDS:
            # JSD is flatter than the KLs, by beta (1 - beta): its step is longer by as much.
            scale = 0.5 / (beta * (1 - beta)) if kind == "jsd" else 0.5
            reached_S = _descend(make, lambda s, t, kind=kind, beta=beta, scale=scale: scale * expected_divergence(s, t, kind, beta))
            apart = total_variation(reached_S, make(1).probabilities().detach())
            yield Check("6", f"{words} at each token of own samples: total variation from the teacher, {name}", 0, apart, 1e-6)


def _descend(make: Callable[[int], EnumerablePolicy], loss: Callable[[EnumerablePolicy, EnumerablePolicy], Tensor], n_steps: int = N_STEPS) -> Tensor:
    student, teacher = _pair(make)
    for _ in range(n_steps):
        natural_step(student, loss(student, teacher))
    return student.probabilities().detach()


def the_sampled_form_ends_at_the_teacher_too() -> Iterator[Check]:
    for name, make in SETTINGS.items():
        reached_S = _descend(make, lambda s, t: 0.5 * expected_sampled_divergence(s, t))
        apart = total_variation(reached_S, make(1).probabilities().detach())
        yield Check("6", f"reverse KL from the sampled token alone: total variation from the teacher, {name}", 0, apart, 1e-6)


def two_temperatures_end_elsewhere() -> Iterator[Check]:
    for words, temperatures, relation, bound in (("both", (0.7, 0.7), "=", 0.0), ("the student alone", (0.7, 1.0), ">", 0.05)):
        reached_S = _descend(tree, lambda s, t, temperatures=temperatures: 0.25 * expected_divergence(s, t, "reverse_kl", 0.5, temperatures), 2 * N_STEPS)
        apart = total_variation(reached_S, tree(1).probabilities().detach())
        yield Check("6", f"reverse KL, T = 0.7 for {words}: total variation from the teacher at T = 1, tree", bound, apart, 1e-6, relation)


def a_jsd_tends_to_both_kls() -> Iterator[Check]:
    student, teacher = (policy.log_distributions().detach() for policy in _pair(tree))
    for words, kind, betas, divisor in (
        ("over beta, against forward KL, beta =", "forward_kl", (1e-2, 1e-4), lambda b: b),
        ("over 1 - beta, against reverse KL, 1 - beta =", "reverse_kl", (1e-2, 1e-4), lambda b: b),
    ):
        limit = dense_divergence(student, teacher, kind)
        for small in betas:
            beta = small if kind == "forward_kl" else 1 - small
            near = dense_divergence(student, teacher, "jsd", beta) / divisor(small)
            error = ((near - limit).abs() / limit).max().item()
            yield Check("6", f"JSD {words} {small:g}: largest relative error of a state, tree", 0, error, 3 * small)


# -------------------------------------------------------------------------------------------------------- sampled tokens


def a_sampled_token_stands_for_its_states_reverse_kl() -> Iterator[Check]:
    for name, make in (*SETTINGS.items(), ("transformer", transformer)):
        student, teacher = _pair(make)
        dense = gradient(expected_divergence(student, teacher, "reverse_kl"), student)
        sampled = gradient(expected_sampled_divergence(student, teacher), student)
        claim = "expected gradient of the sampled form is that of the reverse KL at each token, the states held fixed"
        yield gradient_check("6", claim, name, ((sampled - dense).norm() / dense.norm()).item())


def neither_form_is_the_reverse_kl_of_whole_answers() -> Iterator[Check]:
    for name, make, bound in (("bandit", bandit, 0.0), ("tree", tree, 0.05), ("transformer", transformer, 0.05)):
        student, teacher = _pair(make)
        true = slopes(lambda s=student, t=teacher: kl_divergence(s.probabilities(), t.probabilities()), student)
        error = gradient_error(expected_sampled_divergence(student, teacher), true, student)
        claim = f"the same against KL(student, teacher) of whole answers: relative gradient error, {name}"
        yield Check("10", claim, bound, error, 1e-8, "=" if name == "bandit" else ">")
        to_come_n = to_go(student, (teacher.logprobs() - student.logprobs()).detach())
        error = gradient_error(expected_sampled_divergence(student, teacher, to_come_n), true, student)
        yield gradient_check("10", "with the sum of what is to come in place of the token's own log-ratio, against the same", name, error)


# ---------------------------------------------------------------------------------------------------------------- blocks


def _heads(n: int, vocabulary: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Hidden states, embedding and bias of a student and of a wider teacher; a temperature for each prediction."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    student, teacher = ([draw(n, width), draw(vocabulary, width), draw(vocabulary)] for width in (6, 9))
    return student, teacher, torch.rand(n, generator=generator) + 0.5


def blocked_divergences_are_the_dense_ones() -> Iterator[Check]:
    values, others, temperatures = _heads(20, 50)
    grads = torch.randn(20, generator=torch.Generator().manual_seed(1))
    for words, kind, beta in KINDS[:3]:
        inputs = [x.clone().requires_grad_() for x in values]
        head, teacher = Head(inputs[1], inputs[2], block=7), Head(others[1], others[2], block=7)
        blocked = divergences(head, inputs[0], teacher, others[0], temperatures, kind, beta)
        found = [blocked, *torch.autograd.grad((blocked * grads).sum(), inputs)]
        doubles, other_doubles = [x.double().requires_grad_() for x in values], [x.double() for x in others]
        logp, theirs = (
            tempered_logprobs(states @ weight.T + bias, temperatures.double()) for states, weight, bias in (doubles, other_doubles)
        )
        dense = dense_divergence(logp, theirs, kind, beta)
        true = [dense, *torch.autograd.grad((dense * grads.double()).sum(), doubles)]
        for name, a, b in zip(("values", "gradient of hidden states", "gradient of the embedding", "gradient of the bias"), found, true, strict=True):
            error = ((a.double() - b).abs().max() / b.abs().max()).item()
            yield Check("6", f"{words}, in blocks of 7 tokens and fp32 against dense and fp64, largest error over largest value: {name}", 0, error, 1e-5)


CHECKS = (
    every_divergence_ends_at_the_teacher,
    the_sampled_form_ends_at_the_teacher_too,
    two_temperatures_end_elsewhere,
    a_jsd_tends_to_both_kls,
    a_sampled_token_stands_for_its_states_reverse_kl,
    neither_form_is_the_reverse_kl_of_whole_answers,
    blocked_divergences_are_the_dense_ones,
)
