"""The two ends of a stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posttrain.sandbox.output import HeadAndTail


def written(limit: int, pieces: list[bytes]) -> HeadAndTail:
    stream = HeadAndTail(limit)
    for piece in pieces:
        stream.write(piece)
    return stream


def test_what_fits_is_kept_whole():
    assert written(10, [b"01234", b"56789"]).text() == "0123456789"


def test_of_what_does_not_fit_both_ends_are_kept_and_the_gap_is_counted():
    assert written(4, [b"abcdefgh"]).text() == "ab\n… 4 bytes left out …\ngh"


@given(limit=st.integers(2, 40), pieces=st.lists(st.binary(max_size=30), max_size=30))
def test_however_it_is_cut_into_pieces_the_ends_are_the_streams_own_and_memory_is_bounded(limit: int, pieces: list[bytes]):
    stream, whole = written(limit, pieces), b"".join(pieces)
    assert stream.total == len(whole)
    assert bytes(stream.head) == whole[: limit // 2]
    tail = bytes(stream.tail[-stream.half :])
    assert whole[len(stream.head) :].endswith(tail) and len(tail) == min(stream.half, len(whole) - len(stream.head))
    assert len(stream.head) + len(stream.tail) <= 3 * stream.half


def test_bytes_that_are_no_text_are_replaced():
    assert written(10, [b"a\xffb"]).text() == "a\N{REPLACEMENT CHARACTER}b"
