"""Where pass@k curves cross: by hand, and on counts whose rates are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from posttrain.statistics import crossover
from posttrain.statistics.crossing import _first_behind


def test_the_base_overtakes_where_its_curve_first_lies_above_by_hand() -> None:
    """The trained model always solves one problem of two; the base is right in two of four attempts at either.

    pass@1 is .5 for both, which is not ahead; pass@2 of the base is 1 - C(2,2) / C(4,2) = 5/6.
    """
    found = crossover([4, 4], [2, 2], [4, 4], [4, 0])
    assert found is not None and (found.k, found.largest_k, found.n) == (2, 4, 2)


def test_a_model_that_is_never_overtaken_has_no_crossover_and_its_interval_says_up_to_where() -> None:
    found = crossover([8] * 20, [1] * 20, [8] * 20, [4] * 20)
    assert found is not None and (found.k, found.low, found.high, found.share) == (math.inf, math.inf, math.inf, 0)
    assert found.largest_k == 8


def test_two_equal_models_do_not_cross() -> None:
    counts = [0, 3, 8, 5]
    found = crossover([8] * 4, counts, [8] * 4, counts)
    assert found is not None and found.k == math.inf and found.share == 0


def test_a_base_that_is_better_from_the_start_is_ahead_at_the_first_attempt() -> None:
    found = crossover([8] * 10, [4] * 10, [8] * 10, [1] * 10)
    assert found is not None and (found.k, found.low, found.high, found.share) == (1, 1, 1, 1)


def test_the_crossover_of_known_rates_is_found_and_its_interval_holds_it() -> None:
    """A trained model that always solves 80% of the problems, and a base that is right 3 times in 10 at each: 1 - .7**k > .8 from 5 on."""
    dice, hits = np.random.default_rng(0), 0
    for _ in range(40):
        base, trained = dice.binomial(32, 0.3, 100), np.where(dice.random(100) < 0.8, 32, 0)
        found = crossover([32] * 100, base, [32] * 100, trained, resamples=200)
        assert found is not None and found.largest_k == 32
        hits += found.low <= 5 <= found.high
    assert hits >= 36


def test_a_gain_that_few_problems_carry_has_an_interval_that_reaches_to_none() -> None:
    """The base is ahead at the end by a single problem that only it solves: drawn anew, that problem is often missing."""
    found = crossover([8] * 20, [4] * 19 + [4], [8] * 20, [8] * 19 + [0])
    assert found is not None and found.k < math.inf and found.high == math.inf
    assert found.share == pytest.approx(1 - (19 / 20) ** 20, abs=0.05)


def test_problems_that_share_a_text_are_drawn_together() -> None:
    alone = crossover([8] * 4, [4, 4, 4, 4], [8] * 4, [8, 8, 8, 0])
    fourfold = [count for count in (4, 4, 4, 4) for _ in range(4)], [count for count in (8, 8, 8, 0) for _ in range(4)]
    together = crossover([8] * 16, fourfold[0], [8] * 16, fourfold[1], clusters=[i // 4 for i in range(16)])
    assert alone is not None and together == alone


def test_too_little_for_a_curve_is_no_crossover() -> None:
    assert crossover([1, 1], [0, 1], [1, 1], [1, 1]) is None
    assert crossover([4], [1], [4], [2]) is None
    assert crossover([0, 0], [0, 0], [4, 4], [1, 1]) is None


def test_a_few_problems_with_fewer_scored_attempts_are_left_out_rather_than_shortening_the_curve() -> None:
    found = crossover([8] * 19 + [2], [4] * 19 + [1], [8] * 20, [2] * 20)
    assert found is not None and (found.largest_k, found.n) == (8, 19)


def test_differences_within_rounding_are_no_lead() -> None:
    assert _first_behind(np.array([[0.1, -1e-12, 0.0], [0.1, -0.01, 0.2]])).tolist() == [math.inf, 2]
