"""What choosing among k of n gives, against every subset in every order, and against the closed forms of fresh attempts."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import hypergeom

from posttrain.scaling.vote import elected
from posttrain.statistics import expected_of_best, expected_of_majority, pass_at_k

POOLS = (
    ("4", "4", "5", "6", None),
    ("5", "5", "4", "4", "4", None),
    (None, None, "4", "5"),
    ("1", "2", "3", "4", "4", "4"),
    (None, None, None),
)


def right(answer: str | None) -> float:
    return float(answer == "4")


@pytest.mark.parametrize("answers", POOLS, ids=str)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_vote_is_worth_what_all_ordered_subsets_give(answers, k: int):
    values = [right(a) for a in answers]
    if k > len(answers):
        assert math.isnan(expected_of_majority(answers, values, k))
        return
    orders = list(itertools.permutations(range(len(answers)), k))
    truth = np.mean([values[order[elected([answers[i] for i in order], [1.0] * k)]] for order in orders])
    assert expected_of_majority(answers, values, k) == pytest.approx(truth, abs=1e-12)


def multinomial_majority(p: dict[str, float], k: int) -> float:
    """P(a vote of k independent attempts is right), summed over all counts of answers, ties shared."""
    total = 0.0
    for draw in itertools.product(p, repeat=k):
        counts = Counter(draw)
        best = [a for a, c in counts.items() if c == max(counts.values())]
        total += math.prod(p[a] for a in draw) * right("4") * ("4" in best) / len(best)
    return total


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_vote_among_k_of_n_is_unbiased_for_k_fresh_attempts(k: int):
    """Every pool of four attempts, weighted by its chance: their mean is the multinomial's sum."""
    p = {"4": 0.5, "5": 0.3, "6": 0.2}
    mean = sum(
        math.prod(p[a] for a in pool) * expected_of_majority(pool, [right(a) for a in pool], k) for pool in itertools.product(p, repeat=4)
    )
    assert mean == pytest.approx(multinomial_majority(p, k))


def test_a_vote_of_many_finds_the_mode_and_a_wrong_mode_too():
    right_mode, wrong_mode = ["4"] * 40 + ["5"] * 24, ["4"] * 24 + ["5"] * 40
    rights = [expected_of_majority(right_mode, [right(a) for a in right_mode], k) for k in (1, 7, 31, 63)]
    wrongs = [expected_of_majority(wrong_mode, [right(a) for a in wrong_mode], k) for k in (1, 7, 31, 63)]
    assert rights == sorted(rights) and rights[-1] > 0.999 and wrongs[-1] < 0.001
    assert [a + b for a, b in zip(rights, wrongs, strict=True)] == pytest.approx([1] * 4)


def test_answers_that_are_not_all_as_right_count_by_their_mean():
    """Two texts of one answer, of which the judge took one."""
    assert expected_of_majority(["4", "4", "5"], [1.0, 0.0, 0.0], 3) == pytest.approx(0.5)


def test_the_best_by_the_truth_is_coverage_and_the_best_by_chance_is_the_mean():
    values = np.array([1.0, 0, 0, 1, 0, 0, 0])
    for k in (1, 2, 5, 7):
        assert expected_of_best(values, values, k) == pytest.approx(float(pass_at_k(7, 2, k)))
        assert expected_of_best(np.zeros(7), values, k) == pytest.approx(2 / 7)
    assert math.isnan(expected_of_best(values, values, 8))


def test_the_best_of_n_has_the_closed_form_of_its_distribution():
    """Scores uniform on 1 to 4, the highest right: 1 - (3/4) ** k for k fresh attempts, the mean over every pool of four."""
    pools = itertools.product((1.0, 2.0, 3.0, 4.0), repeat=4)
    found = np.mean([[expected_of_best(np.array(p), np.array(p) == 4, k) for k in (1, 2, 3)] for p in pools], axis=0)
    assert found == pytest.approx([1 - 0.75**k for k in (1, 2, 3)])


def test_what_could_not_be_judged_wins_only_where_nothing_could():
    scores, values = np.array([-math.inf, -math.inf, -9.0]), np.array([1.0, 1.0, 0.0])
    assert expected_of_best(scores, values, 3) == 0.0 and expected_of_best(scores, values, 1) == pytest.approx(2 / 3)


def test_votes_among_too_many_attempts_are_refused():
    with pytest.raises(ValueError, match="at most 1000"):
        expected_of_majority(["4"] * 1001, [1.0] * 1001, 2)


def test_a_thousand_attempts_do_not_overflow():
    answers = ["4"] * 300 + [str(i) for i in range(1000, 1700)]
    drawn = hypergeom(1000, 300, 16)  # two votes win, and one wins where it came first
    by_hand = drawn.sf(1) + drawn.pmf(1) / 16
    assert expected_of_majority(answers, [right(a) for a in answers], 16) == pytest.approx(by_hand, abs=1e-9)
