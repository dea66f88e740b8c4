"""Where probability went: by hand, on distributions made up for it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from posttrain.batching import TokenSequence
from posttrain.training.displacement import fork, fork_distributions, mass_moved
from posttrain.training.pairs import PairTokens
from tests.small_models import EOS
from tests.training.steps import setting

PROMPT = (1, 2, 3)


def pair(chosen: tuple[int, ...], rejected: tuple[int, ...]) -> PairTokens:
    return PairTokens(TokenSequence(PROMPT, chosen), TokenSequence(PROMPT, rejected))


def moved_from(now: Tensor, gains: dict[int, float]) -> Tensor:
    """The log-probs before, if since then the mass of each token had moved by this much."""
    before = now.exp()
    for token, gain in gains.items():
        before[token] -= gain
    return before.log()


def test_answers_part_where_they_first_differ_and_nowhere_if_one_begins_the_other() -> None:
    assert fork(pair((7, 8, 9), (7, 8, 4))) == 2
    assert fork(pair((7,), (8, 9))) == 0
    assert fork(pair((7, 8), (7, 8, 9))) is None


def test_a_distribution_is_that_behind_what_the_answers_share() -> None:
    policy = setting()[0]
    (found,) = fork_distributions(policy, [pair((7, 8, 9, 10), (7, 8, 4))])
    scored = [policy.score_tokens([(PROMPT, (7, 8, token))])[0][0][2] for token in (9, 4, 100)]
    assert found[[9, 4, 100]].tolist() == pytest.approx(scored, abs=1e-5)
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_mass_that_left_both_answers_is_found_where_it_went() -> None:
    policy = setting()[0]
    pairs = [pair((7, 8, 9), (7, 8, 4)), pair((5, 6), (5, 6, 7)), pair((20,), (21, 22))]
    now = fork_distributions(policy, pairs)
    assert len(now) == 2, "answers of which one begins the other part nowhere"
    small = min(now[0].exp()[[9, 4, 65]].min().item(), now[1].exp()[[20, 21, 65]].min().item()) / 4
    before = [moved_from(now[0], {9: -small, 4: -2 * small, 65: 3 * small}), moved_from(now[1], {20: 2 * small, 21: -3 * small, 65: small})]
    moved = mass_moved(policy, before, pairs)
    assert moved.chosen.value == pytest.approx(small / 2, rel=1e-3)
    assert moved.rejected.value == pytest.approx(-2.5 * small, rel=1e-3)
    assert moved.others.value == pytest.approx(2 * small, rel=1e-3)
    assert moved.chosen.value + moved.rejected.value + moved.others.value == pytest.approx(0, abs=1e-9)
    assert moved.chosen.n == 2
    text, gain = moved.gainers[0]
    assert text == policy.renderer.decode([65]) and gain == pytest.approx(2 * small, rel=1e-3)
    assert repr(text) in str(moved) and "n = 2" in str(moved)


def test_a_policy_that_has_not_moved_has_moved_no_mass() -> None:
    policy = setting()[0]
    pairs = [pair((7, EOS), (8, EOS))]
    moved = mass_moved(policy, fork_distributions(policy, pairs), pairs, n_gainers=2)
    assert (moved.chosen.value, moved.rejected.value, abs(moved.others.value)) == (0, 0, 0)
    assert len(moved.gainers) == 2 and not any(math.isnan(gain) for _, gain in moved.gainers)
    assert torch.isfinite(torch.tensor([gain for _, gain in moved.gainers])).all()
