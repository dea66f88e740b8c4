"""Losses of whole answers: their gradient is that of the formula, however the step is cut, and a pair is never torn apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from posttrain.algorithms.dpo import Config, pair_loss
from posttrain.data.pairs import Pair
from posttrain.losses.preference import kto
from posttrain.training.pairs import AnswerLogprobs, PairTokens, answer_sums, answers_step
from posttrain.types import Message, UserError
from tests.algorithms.gradient import CLOSE
from tests.algorithms.toy import difference
from tests.training.steps import ONE_ROW, ROW_TOKENS, collected, sequences, setting, still

PAIR_LOSSES = {
    "dpo": Config(data="-", beta=0.1),
    "cdpo": Config(data="-", beta=0.1, label_smoothing=0.2),
    "robust": Config(data="-", loss="robust", label_smoothing=0.2),
    "ipo": Config(data="-", loss="ipo"),
    "orpo": Config(data="-", loss="orpo"),
    "simpo": Config(data="-", loss="simpo", beta=2.0),
}
LOSSES: dict[str, tuple[int, Callable[[AnswerLogprobs, Tensor], Tensor]]] = {
    name: (2, partial(lambda answers, which, config: pair_loss(answers, config), config=config)) for name, config in PAIR_LOSSES.items()
} | {"kto": (1, lambda answers, which: kto(answers.log_ratios, which % 2 == 0, 0.3, 0.1))}
"""How many answers make a unit, and the loss of those in a row."""
every_loss = pytest.mark.parametrize("name", LOSSES)


def reference_sums() -> Tensor:
    """As if the reference had drawn the answers: near the policy's own, and not the same."""
    parts = setting()[2].logprobs
    noise = torch.randn(len(parts), generator=torch.Generator().manual_seed(3))
    return torch.stack([part.sum() for part in parts]).detach().float() + noise


def step(name: str, tokens_per_batch: int) -> tuple[list[Tensor], Tensor, dict[str, float]]:
    policy, (together, loss) = setting()[0], LOSSES[name]
    found: list[tuple[Tensor, dict[str, float]]] = []
    gradient = collected(policy, lambda: found.append(
        answers_step(policy, still(policy), sequences(), reference_sums(), loss, tokens_per_batch, together)
    ))  # fmt: skip
    return gradient, *found[0]


@every_loss
def test_the_gradient_is_that_of_the_formula_on_sums_over_whole_answers(name: str) -> None:
    together, loss = LOSSES[name]
    parts = setting()[2].logprobs
    answers = AnswerLogprobs(torch.stack([part.sum() for part in parts]), reference_sums().double(), torch.tensor([len(part) for part in parts]))
    by_hand = loss(answers, torch.arange(len(parts))).sum() / (len(parts) // together)
    gradient, sums, metrics = step(name, ONE_ROW)
    assert difference(gradient, setting()[2].gradient(by_hand)) < CLOSE
    assert metrics["loss/mean"] == pytest.approx(by_hand.item(), rel=1e-4)
    assert sums.tolist() == pytest.approx(answers.policy.tolist(), rel=1e-5)


@every_loss
def test_any_split_into_rows_gives_the_same_gradient(name: str) -> None:
    whole, sums, metrics = step(name, ONE_ROW)
    for tokens in ROW_TOKENS:
        gradient, cut_sums, cut_metrics = step(name, tokens)
        assert difference(gradient, whole) < CLOSE
        assert cut_sums.tolist() == pytest.approx(sums.tolist(), rel=1e-5)
        assert cut_metrics == pytest.approx(metrics, rel=1e-4)


def test_answer_sums_by_hand() -> None:
    lengths = [s.n_predicted for s in sequences()]
    ones = answer_sums(torch.ones(sum(lengths)), sequences())
    assert ones.tolist() == lengths


def test_answers_that_a_template_writes_alike_are_refused() -> None:
    renderer = setting()[0].renderer
    said = lambda text: (Message("assistant", text),)  # noqa: E731
    prompt = (Message("user", "1+1?"),)
    assert PairTokens.of(renderer, Pair("a", prompt, said("2"), said("3"))).chosen.tokens != ()
    with pytest.raises(UserError, match="same tokens"):
        PairTokens.of(renderer, Pair("b", prompt, said("2"), said("2")))
