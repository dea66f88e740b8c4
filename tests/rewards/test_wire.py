"""What crosses between tests and program comes out as it went in, and as nothing more than a value."""

from __future__ import annotations

import datetime
import json
import os
from collections import Counter, OrderedDict, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.rewards.inside.wire import MAX_FRAME, Connection, Gone, Unsendable, pack, unpack


def refuse(value: object) -> int:
    raise Unsendable(type(value).__name__)


def crossed(value: object) -> object:
    return unpack(json.loads(json.dumps(pack(value, refuse))), lambda number: f"the value {number}")


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.complex_numbers(allow_nan=False), st.text(), st.binary(),
    st.decimals(allow_nan=False), st.fractions(), st.dates(), st.datetimes(), st.times(), st.timedeltas(),
)  # fmt: skip
HASHABLE = st.recursive(PLAIN, lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)), max_leaves=5)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner), st.sets(HASHABLE, max_size=3), st.dictionaries(HASHABLE, inner, max_size=3)
    ),
    max_leaves=15,
)  # fmt: skip


@given(VALUES)
def test_a_value_comes_out_equal_and_of_the_same_type(value: object):
    found = crossed(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [range(1, 9, 2), bytearray(b"x"), float("inf"), float("nan"), "\ud800", -0.0, int, dict], ids=repr)
def test_odd_values_cross_too(value: object):
    assert repr(crossed(value)) == repr(value)


@pytest.mark.parametrize("bits", [61, 62, 63, 64, 100_000])
def test_whole_numbers_of_any_size_cross(bits: int):
    for value in (1 << bits, -(1 << bits), (1 << bits) - 1):
        assert crossed(value) == value


def test_what_derives_from_a_plain_type_is_that_type_on_the_other_side():
    class Cheat(int):
        __eq__ = lambda self, other: True  # noqa: E731
        __hash__ = int.__hash__

    class Text(str):
        __eq__ = lambda self, other: True  # noqa: E731
        __hash__ = str.__hash__
        __str__ = lambda self: "something else"  # noqa: E731

    colour, pair = IntEnum("Colour", "RED"), namedtuple("Pair", "a b")
    for value, plain in (
        (Cheat(3), 3), (Text("a"), "a"), (colour.RED, 1), (pair(1, 2), (1, 2)), (Counter("aa"), {"a": 2}), (OrderedDict(a=1), {"a": 1}),
    ):  # fmt: skip
        found = crossed(value)
        assert (type(found), found) == (type(plain), plain)
    assert crossed(Cheat(3)) != 4


@pytest.mark.parametrize("value", [len, object(), lambda: 0, iter([]), [1, (2, {3: object()})], eval, type])
def test_what_is_no_data_does_not_cross(value: object):
    with pytest.raises(Unsendable):
        pack(value, refuse)
    assert "the value 7" in repr(unpack(json.loads(json.dumps(pack(value, lambda held: 7))), lambda number: f"the value {number}"))


@pytest.mark.parametrize(
    "data",
    [["k", "eval"], ["x"], [], ["d", 1], ["i", "x"], ["D", "x"], ["s", ["l"]], [[]], ["l", ["k", "open"]], ["T", "x"], ["r", 1, 2, 0]],
)
def test_what_is_no_value_raises_an_exception_of_its_own_kind(data: list):
    with pytest.raises((ValueError, KeyError, TypeError, ArithmeticError)):
        unpack(data, lambda number: None)


def test_frames_cross_a_pipe_and_its_end_is_told():
    reads, writes = os.pipe()
    sending, receiving = Connection(-1, writes), Connection(reads, -1)
    sending.send(["a", {"b": 1}])
    assert receiving.receive() == ["a", {"b": 1}]
    with pytest.raises(Unsendable, match="more than"):
        sending.send("x" * MAX_FRAME)
    os.write(writes, b"\xff\xff\xff\xff")
    with pytest.raises(Gone):
        receiving.receive()
    os.close(writes)
    with pytest.raises(Gone):
        receiving.receive()
    os.close(reads)


def test_dates_keep_their_zone():
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    assert crossed(moment) == moment
    assert crossed([Decimal("1.10"), Fraction(1, 3)]) == [Decimal("1.1"), Fraction(1, 3)]
