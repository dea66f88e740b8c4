"""What one optimizer step adds up to: held against the formula written out by hand, and against itself cut otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posttrain.algorithms.grpo import ADVANTAGES, ReferenceLogprobs, Tokens, rewards
from posttrain.training.reference import Reference
from tests.algorithms.gradient import CLOSE, LENGTHS, LOSSES, NAN, REDUCTIONS, VALUES, by_hand, config, gradient, readings, setting
from tests.algorithms.toy import difference, made_round

# ------------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize(("advantage", "loss", "reduction"), list(product(ADVANTAGES, LOSSES, REDUCTIONS)))
def test_the_steps_gradient_is_that_of_the_formula_written_out(advantage: str, loss: str, reduction: str) -> None:
    chosen = config(advantage=advantage, loss=loss, reduction=reduction)
    assert difference(gradient(chosen), by_hand(chosen)) < CLOSE


@pytest.mark.parametrize("loss", ["clipped", "cispo", "gspo"])
def test_the_clip_acts_in_the_round_that_the_formulas_are_held_on(loss: str) -> None:
    wide = config(loss=loss, clip_low=1e9, clip_high=1e9)
    assert difference(by_hand(config(loss=loss)), by_hand(wide)) > 0.01


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kl_in", ["loss_k2", "loss_k3"])
def test_a_kl_in_the_loss_is_that_of_the_formula_in_all_that_was_scored(kl_in: str, reduction: str) -> None:
    chosen = config(kl_coef=0.5, kl_in=kl_in, reduction=reduction)
    assert difference(gradient(chosen), by_hand(chosen)) < CLOSE
    assert difference(by_hand(chosen), by_hand(config(reduction=reduction))) > 0.1


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_an_entropy_bonus_is_reduced_as_the_loss_is_over_all_that_was_scored(reduction: str) -> None:
    chosen = config(entropy_coef=0.5, reduction=reduction)
    assert difference(gradient(chosen), by_hand(chosen)) < CLOSE


def test_an_entropy_bonus_raises_entropy_and_a_negative_one_lowers_it() -> None:
    (reading, _), (policy, _, _) = readings(), setting()
    slope = torch.autograd.grad(torch.cat(reading.entropies).mean(), reading.parameters, retain_graph=True)
    plain = gradient(config())

    def along_entropy(coefficient: float) -> float:
        moved = gradient(config(entropy_coef=coefficient))
        return sum(((p - m).double() * s).sum().item() for p, m, s in zip(plain, moved, slope, strict=True))

    assert along_entropy(0.5) > 0 > along_entropy(-0.5)


def test_a_kl_in_the_reward_lowers_it_by_the_whole_completions_gap() -> None:
    _, frozen, round = setting()
    chosen = config(kl_coef=0.1)
    gap_PG = ReferenceLogprobs.of(round, Reference(frozen, False)).gap(round)
    reference = readings()[1]
    gaps = [sum(r.completions[0].sampling_logprobs) - x.sum().item() for r, x in zip(round.rollouts, reference.logprobs, strict=True)]
    assert gap_PG.flatten().tolist() == pytest.approx(gaps, abs=1e-4)
    expected_PG = torch.tensor(VALUES).double() - 0.1 * gap_PG
    torch.testing.assert_close(rewards(round, gap_PG, chosen), expected_PG, rtol=0, atol=0, equal_nan=True)


# ------------------------------------------------------------------------------------------------------------- any split


@settings(max_examples=25)
@given(tokens_per_batch=st.integers(1, 400), loss=st.sampled_from(LOSSES), reduction=st.sampled_from(REDUCTIONS))
@example(tokens_per_batch=1, loss="gspo", reduction="sequence")
def test_any_split_of_a_step_gives_the_same_gradient(tokens_per_batch: int, loss: str, reduction: str) -> None:
    chosen = config(loss=loss, reduction=reduction)
    whole = gradient(replace(chosen, tokens_per_batch=10_000))
    assert difference(gradient(replace(chosen, tokens_per_batch=tokens_per_batch)), whole) < CLOSE


@pytest.mark.parametrize("changes", [{"kl_coef": 0.5, "kl_in": "loss_k3"}, {"entropy_coef": 0.5}], ids=["kl", "entropy"])
def test_any_split_of_a_regularised_step_gives_the_same_gradient(changes: dict[str, object]) -> None:
    whole = gradient(config(**changes, tokens_per_batch=10_000))
    for tokens_per_batch in (1, 30, 100):
        assert difference(gradient(config(**changes, tokens_per_batch=tokens_per_batch)), whole) < CLOSE


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 3, 0, 2)])
def test_the_order_of_problems_does_not_change_the_gradient(order: Sequence[int]) -> None:
    _, _, round = setting()
    assert difference(gradient(config(), round.only(order)), gradient(config())) < CLOSE


# ---------------------------------------------------------------------------------------------------- what is left out


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_dropping_groups_without_signal_does_not_change_the_gradient(loss: str, reduction: str) -> None:
    chosen = config(loss=loss, reduction=reduction)
    computed = gradient(replace(chosen, drop_groups_without_signal=False))
    assert difference(gradient(chosen), computed) < CLOSE


def test_groups_without_signal_are_spared_only_where_nothing_else_pulls_at_them() -> None:
    _, frozen, round = setting()

    def computed(**changes: object) -> int:
        chosen = config(**changes)
        reference = ReferenceLogprobs.of(round, Reference(frozen, False) if chosen.kl_coef else None)
        return len(Tokens.of(round, ADVANTAGES[chosen.advantage](round.values_PG), reference, chosen).sequences)

    scored = 15
    assert computed() == scored - 4
    assert computed(kl_coef=0.1) == scored - 4
    for changes in ({"drop_groups_without_signal": False}, {"entropy_coef": 0.1}, {"kl_coef": 0.1, "kl_in": "loss_k2"}):
        assert computed(**changes) == scored, changes


@pytest.mark.parametrize("changes", [{}, {"kl_coef": 0.5, "kl_in": "loss_k2"}, {"entropy_coef": 0.5}], ids=["plain", "kl", "entropy"])
def test_what_an_unscored_attempt_said_has_no_part_in_the_gradient(changes: dict[str, object]) -> None:
    policy, _, round = setting()
    other = made_round(policy, LENGTHS, VALUES, drift=0.9)
    groups = [list(group) for group in round.rollouts_PG]
    groups[1][1] = other.rollouts_PG[1][1]
    chosen = config(**changes)
    swapped = gradient(chosen, replace(round, rollouts_PG=groups))
    assert groups[1][1] != round.rollouts_PG[1][1]
    assert difference(swapped, gradient(chosen)) < CLOSE


def test_a_masked_attempt_keeps_its_place_in_the_normaliser() -> None:
    policy, _, _ = setting()
    cut = made_round(policy, LENGTHS, VALUES, truncated=[(0, 1)])
    unscored = replace(cut, scores_PG=made_round(policy, LENGTHS, ((1.0, NAN, 0.0, 0.5), *VALUES[1:])).scores_PG)
    for reduction in REDUCTIONS:
        masked = gradient(config(reduction=reduction, truncated="mask"), cut)
        assert difference(masked, gradient(config(reduction=reduction), unscored)) == 0
