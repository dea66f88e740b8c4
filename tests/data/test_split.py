"""What is held out: equal items together, nothing left empty, and a share of what was split before too."""

from __future__ import annotations

import pytest

from posttrain.data.loaded import split
from posttrain.types import UserError

ITEMS = [f"prompt {i}" for i in range(400)]


def test_every_item_is_on_one_side_and_the_share_is_held_out():
    learned, heldout = split(ITEMS, 0.1)
    assert sorted(learned + heldout) == sorted(ITEMS)
    assert 0.09 <= len(heldout) / len(ITEMS) <= 0.15


def test_what_was_left_to_learn_from_can_be_split_again():
    learned, _ = split(ITEMS, 0.1)
    again, heldout = split(learned, 0.1)
    assert len(heldout) == pytest.approx(0.1 * len(learned), abs=1) and again


def test_the_prompts_held_out_are_held_out_among_their_pairs_too():
    pairs = [(item, side) for item in ITEMS for side in ("first", "second")]
    _, prompts = split(ITEMS, 0.1, lambda item: item)
    _, heldout = split(pairs, 0.1, lambda pair: pair[0])
    assert set(prompts) == {item for item, _ in heldout}


def test_order_and_repetition_change_nothing():
    _, heldout = split(ITEMS, 0.1)
    assert set(split(ITEMS[::-1] + ITEMS[:50], 0.1)[1]) == set(heldout)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_neither_side_is_empty(n):
    learned, heldout = split(ITEMS[:n], 0.1)
    assert learned and heldout
    assert split(ITEMS[:n], 0) == (ITEMS[:n], [])


def test_items_that_are_all_the_same_cannot_be_held_out():
    with pytest.raises(UserError, match="nothing to learn from, since all 3 share one prompt"):
        split(["a"] * 3, 0.1)
