"""Drawing tokens: the right frequencies, nothing impossible, and each row by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from torch.testing import assert_close

from posttrain.engine.draw import BLOCK, draw, keep_likely
from posttrain.seeds import uniforms
from posttrain.types import Sampling

ALMOST_ONE = float(np.nextafter(1.0, 0.0))


def chances(n: int, seed: int = 0) -> Tensor:
    """Uniform numbers as the engine makes them."""
    return torch.from_numpy(uniforms([seed] * n, range(n)))


def numbers(*chances: float) -> Tensor:
    return torch.tensor(chances, dtype=torch.float64)


def logs(*probabilities: float) -> Tensor:
    """One row of log-probs."""
    return torch.tensor([probabilities]).log()


# -------------------------------------------------------------------------------------------------------------------- draw


def agreement(counts: Tensor, expected: Tensor) -> float:
    """The p-value of these counts; tokens expected less than 5 times are counted together."""
    rare = expected < 5
    together = lambda x: torch.cat([x[~rare], x[rare].sum()[None]] if rare.any() else [x]).numpy()  # noqa: E731
    return chisquare(together(counts), together(expected)).pvalue


@pytest.mark.parametrize("size", [6, BLOCK, 3 * BLOCK + 40])
def test_tokens_are_drawn_as_often_as_they_are_likely(size):
    logp = (2 * torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).log_softmax(-1)
    n = 20_000
    counts = draw(logp.float().expand(n, -1), chances(n)).bincount(minlength=size).double()
    assert agreement(counts, n * logp.exp()) > 0.001
    assert agreement(counts, n * (0.9 * logp.exp() + 0.1 / size)) < 0.001, "the test would notice a difference"


def test_a_draw_is_the_first_token_whose_cumulative_probability_exceeds_the_number():
    logp = logs(0.25, 0.25, 0.5).expand(6, -1)
    assert draw(logp, numbers(0.0, 0.2499, 0.25, 0.4999, 0.5, ALMOST_ONE)).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("size", [3, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 5])
@pytest.mark.parametrize("only", [0, -1])
@pytest.mark.parametrize("chance", [0.0, 1e-300, 0.5, ALMOST_ONE])
def test_what_is_impossible_is_never_drawn(size, only, chance):
    logp = torch.full((1, size), -torch.inf)
    logp[0, only] = 0.0
    assert draw(logp, numbers(chance)).item() == only % size


@given(
    st.lists(st.sampled_from([0.0, 1.0, 3e4, -3e4, -1e30, -math.inf, 88.0, 1e-8]), min_size=1, max_size=2 * BLOCK + 3),
    st.sampled_from([0.0, 1e-17, 0.3, 1 - 1e-12, ALMOST_ONE]),
)
def test_from_huge_and_small_logits_a_possible_token_is_drawn(logits, chance):
    if all(x == -math.inf for x in logits):
        logits = [*logits, 0.0]
    logp = torch.tensor([logits]).log_softmax(-1)
    token = draw(logp, numbers(chance)).item()
    assert token < len(logits) and logp[0, token].exp() > 0


@given(st.integers(1, 4 * BLOCK), st.integers(0, 1000), st.sampled_from([0.0, ALMOST_ONE, None]))
def test_a_row_is_drawn_by_itself(size, seed, chance):
    logits = 5 * torch.randn(7, size, generator=torch.Generator().manual_seed(seed))
    logits[logits < -5] = -torch.inf
    logits[:, 0] = 0.0
    logp, number = logits.log_softmax(-1), chances(7, seed) if chance is None else torch.full((7,), chance, dtype=torch.float64)
    together = draw(logp, number)
    assert together.tolist() == [draw(logp[i : i + 1], number[i : i + 1]).item() for i in range(7)]
    assert logp.gather(1, together[:, None]).isfinite().all()


def test_log_probs_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="not numbers"):
        draw(torch.tensor([[0.0, -torch.inf], [math.nan, math.nan]]), numbers(0.5, 0.5))


# ------------------------------------------------------------------------------------------------------------- keep_likely


ODDS = (0.1, 0.4, 0.2, 0.3)


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(top_k=1), [1]),
        (Sampling(top_k=2), [1, 3]),
        (Sampling(top_k=9), [0, 1, 2, 3]),
        (Sampling(top_p=0.3), [1]),
        (Sampling(top_p=0.45), [1, 3]),
        (Sampling(top_p=0.75), [1, 3, 2]),
        (Sampling(top_p=0.95), [0, 1, 2, 3]),
        (Sampling(min_p=0.2), [0, 1, 2, 3]),
        (Sampling(min_p=0.45), [1, 2, 3]),
        (Sampling(min_p=0.6), [1, 3]),
        (Sampling(min_p=1.0), [1]),
        (Sampling(top_p=1e-9), [1]),
        (Sampling(top_k=3, top_p=0.5), [1, 3]),
        (Sampling(top_k=3, min_p=0.6), [1, 3]),
        (Sampling(top_k=2, top_p=0.55), [1]),
    ],
    ids=str,
)
def test_the_kept_tokens_by_hand(sampling, kept):
    measured = keep_likely(logs(*ODDS), sampling).exp()[0]
    mass = sum(ODDS[i] for i in kept)
    assert_close(measured, torch.tensor([p / mass if i in kept else 0.0 for i, p in enumerate(ODDS)]))


def test_of_equals_top_k_keeps_the_lower_ids_and_min_p_keeps_all():
    level = logs(0.25, 0.25, 0.25, 0.25)
    assert keep_likely(level, Sampling(top_k=2)).isfinite()[0].tolist() == [True, True, False, False]
    assert keep_likely(level, Sampling(min_p=1.0)).isfinite().all()


def test_rows_are_cut_by_themselves():
    rows = torch.cat([logs(*ODDS), logs(0.97, 0.01, 0.01, 0.01)])
    kept = keep_likely(rows, Sampling(top_p=0.9)).isfinite()
    assert kept.tolist() == [[False, True, True, True], [True, False, False, False]]


def test_nothing_is_cut_where_nothing_is_asked():
    rows = torch.randn(3, 50).log_softmax(-1)
    assert_close(keep_likely(rows, Sampling()), rows)
    assert [Sampling(top_k=1).truncates, Sampling(top_p=0.9).truncates, Sampling(min_p=0.1).truncates, Sampling().truncates] == [True, True, True, False]


def test_what_was_cut_is_never_drawn():
    rows = keep_likely(torch.randn(1, 500).log_softmax(-1), Sampling(top_k=5)).expand(20_000, -1)
    assert set(draw(rows, chances(20_000)).tolist()) == set(rows[0].isfinite().nonzero()[:, 0].tolist())
