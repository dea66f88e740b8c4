"""A DPO step: pairs of one's own samples, KTO's reference point, and what is reported, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from posttrain.algorithms.dpo import Config, Learner, best_against_worst, descend, pair_metrics, reference_point
from posttrain.batching import TokenSequence
from posttrain.policy.hf import Policy
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.training.loop import Trained
from posttrain.training.pairs import PairTokens, flat_sequences
from posttrain.training.reference import Reference
from tests.algorithms.toy import made_round, tiny

NAN = math.nan
LENGTHS, VALUES = ((3, 5), (4, 2), (6, 1)), ((1.0, 0.0), (0.0, 1.0), (1.0, 0.5))
OFFLINE = Config(data="-", beta=0.1)


def pairs(policy: Policy) -> list[PairTokens]:
    return best_against_worst(made_round(policy, LENGTHS, VALUES))


@cache
def moved() -> tuple[Policy, Reference]:
    """A policy that has gone its way from its reference."""
    policy = tiny()
    reference = Reference(policy.frozen_copy(), False)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return policy, reference


def learner(policy: Policy, reference: Reference | None, config: Config) -> Learner:
    return Learner(Trained(policy, Optimizer(policy.parameters(), config.optim)), reference, None, [], config)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- one's own pairs


def test_the_best_answer_is_preferred_to_the_worst_and_equals_make_no_pair() -> None:
    round = made_round(tiny(), ((3, 5, 4), (2, 2, 2), (6, 1, 3)), ((0.5, 0.0, 1.0), (0.7, 0.7, 0.7), (NAN, 0.2, NAN)))
    (pair,) = best_against_worst(round)
    assert (len(pair.chosen.tokens), len(pair.rejected.tokens), pair.margin) == (4, 5, 1.0)
    assert pair.chosen.tokens == round.rollouts_PG[0][2].completions[0].token_ids


def test_an_unscored_answer_is_in_no_pair() -> None:
    round = made_round(tiny(), ((3, 5, 4),), ((0.5, NAN, 1.0),))
    (pair,) = best_against_worst(round)
    assert (len(pair.chosen.tokens), len(pair.rejected.tokens)) == (4, 3)


def test_pairs_are_learned_at_temperature_1_whatever_they_were_sampled_at() -> None:
    assert {s.temperature for s in flat_sequences(best_against_worst(made_round(tiny(), LENGTHS, VALUES, temperature=0.7)))} == {1.0}


# ------------------------------------------------------------------------------------------------------ reference point


def test_ktos_reference_point_is_the_mean_log_ratio_of_answers_to_another_prompt() -> None:
    policy, reference = moved()
    sequences = flat_sequences(pairs(policy))
    prompts = [s.prompt for s in sequences]
    assert prompts[0] == prompts[1] != prompts[2]
    ratios = []
    for prompt, other in zip(prompts, [*sequences[2:], *sequences[:2]], strict=True):
        alone = TokenSequence(prompt, other.tokens)
        ratios.append((policy.score([alone])[0] - reference.logprobs([alone])[0]).sum().item())
    expected = sum(ratios) / len(ratios)
    assert reference_point(policy, reference, sequences) == pytest.approx(max(0.0, expected), abs=1e-4)
    assert abs(expected) > 0.1


def test_a_reference_point_is_never_below_0_and_0_before_training() -> None:
    policy, reference = moved()
    sequences = flat_sequences(pairs(policy))
    ways = [reference_point(policy, reference, sequences), reference_point(reference.policy, Reference(policy, False), sequences)]
    assert min(ways) >= 0
    assert reference_point(policy, Reference(policy, False), sequences) == 0


def test_a_lone_pair_has_no_answers_of_others_to_be_measured_against() -> None:
    policy, reference = moved()
    assert reference_point(policy, reference, flat_sequences(pairs(policy)[:1])) == 0


# --------------------------------------------------------------------------------------------------------------- the step


@pytest.mark.parametrize(("loss", "expected"), [("dpo", math.log(2)), ("robust", math.log(2)), ("ipo", 25.0), ("kto", 0.5)])
def test_before_training_the_loss_says_nothing_of_the_answers(loss: str, expected: float) -> None:
    policy = tiny()
    made = learner(policy, Reference(policy.frozen_copy(), False), replace(OFFLINE, loss=loss))
    metrics = descend(made, pairs(policy))
    assert metrics["loss/mean"] == pytest.approx(expected, rel=1e-4)
    assert metrics["pairs/margin"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "kto", "orpo", "simpo"])
def test_a_few_steps_widen_the_margin_of_the_pairs_that_were_learned(loss: str) -> None:
    policy = tiny()
    config = replace(OFFLINE, loss=loss, optim=AdamWConfig(learning_rate=1e-3))
    made = learner(policy, Reference(policy.frozen_copy(), False) if config.needs_reference else None, config)
    learned = pairs(policy)
    margins = [descend(made, learned)["pairs/margin"] for _ in range(4)]
    assert margins[0] < margins[1] and margins[-1] > margins[0] + 0.01


def test_accuracy_and_margin_by_hand() -> None:
    """Log-ratios of 2 and -1, 0 and 0, -1 and 1."""
    sums, refs = torch.tensor([-3.0, -6.0, -4.0, -4.0, -5.0, -3.0]), torch.tensor([-5.0, -5.0, -4.0, -4.0, -4.0, -4.0])
    metrics = pair_metrics("pairs", sums, refs, torch.tensor([2, 3, 4, 4, 5, 3]), OFFLINE)
    assert metrics["pairs/accuracy"] == pytest.approx(0.5) and metrics["pairs/n"] == 3
    assert metrics["pairs/margin"] == pytest.approx(0.1 * (3 + 0 - 2) / 3)
    assert metrics["pairs/chosen_change_nats"] == pytest.approx(1 / 3)
    assert metrics["pairs/rejected_change_nats"] == pytest.approx(0)
    assert metrics["pairs/displaced_frac"] == pytest.approx(1 / 3)


def test_without_a_reference_means_per_token_are_ranked() -> None:
    sums, lengths = torch.tensor([-4.0, -3.0]), torch.tensor([4, 2])
    metrics = pair_metrics("pairs", sums, torch.zeros(2), lengths, replace(OFFLINE, loss="simpo", beta=2.0))
    assert metrics["pairs/accuracy"] == 1 and metrics["pairs/margin"] == pytest.approx(2 * (-1 + 1.5))
    assert "pairs/displaced_frac" not in metrics
