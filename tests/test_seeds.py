"""Randomness by key: known values, no memory, no accidental equals."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import kstest, pearsonr

from posttrain.seeds import fold, uniforms

SPLITMIX64_FROM_0 = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
"""The first outputs of the published generator from state 0."""


def test_uniforms_are_the_top_53_bits_of_splitmix64():
    expected = [(x >> 11) / 2**53 for x in SPLITMIX64_FROM_0]
    assert uniforms([0] * 4, range(4)).tolist() == expected


def test_a_uniform_does_not_depend_on_what_is_drawn_beside_it():
    together = uniforms([3, 5, 3, 2**63 - 1], [0, 7, 1000, 2])
    alone = [uniforms([s], [p])[0] for s, p in ((3, 0), (5, 7), (3, 1000), (2**63 - 1, 2))]
    assert together.tolist() == alone


def test_uniforms_stay_below_one():
    drawn = uniforms(np.arange(200_000), np.arange(200_000) % 7)
    assert drawn.dtype == np.float64
    assert 0 <= drawn.min() and drawn.max() < 1


@pytest.mark.parametrize("axis", ["seeds", "positions"])
def test_uniforms_are_uniform_along_seeds_and_along_positions(axis):
    varied, fixed = np.arange(100_000), np.full(100_000, 12345)
    drawn = uniforms(varied, fixed) if axis == "seeds" else uniforms(fixed, varied)
    assert kstest(drawn, "uniform").pvalue > 0.001
    assert pearsonr(drawn[1:], drawn[:-1]).pvalue > 0.001


def test_siblings_draw_independently():
    first, second = (uniforms([fold(9, sample)] * 50_000, range(50_000)) for sample in (0, 1))
    assert pearsonr(first, second).pvalue > 0.001


def test_a_folded_seed_is_a_function_of_its_key():
    assert fold(1, "step", 2) == fold(1, "step", 2)
    assert 0 <= fold(1, "step", 2) < 2**63


def test_different_keys_give_different_seeds():
    keys = [(s, *parts) for s in range(20) for parts in product(range(10), ["a", "b"])]
    keys += [(1, 2), (1, "2"), (12,), (1, "2", ""), (1, ""), (1,), (1, 23), (12, 3), (-1,), (2**70,)]
    assert len({fold(*key) for key in keys}) == len(keys)


def test_the_order_of_a_key_matters():
    assert fold(0, 1, 2) != fold(0, 2, 1) != fold(1, 0, 2)
