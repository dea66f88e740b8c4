"""A completion as text while it is written: joined, the pieces are the whole, and nothing said has to be taken back."""

from __future__ import annotations

import pytest

from posttrain.engine.stops import cut, reached
from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.serve.speech import Speech

RENDERER = Renderer(tiny_tokenizer())
TEXTS = ("plain", "naïve 日本 👩‍👩‍👧 done", "", "a\n\nb  c ")


def said(text: str, *stops: str) -> list[str]:
    speech = Speech(RENDERER.decode, stops, RENDERER.stop_token_ids)
    return [*(speech.add(token) for token in RENDERER.encode(text)), speech.end()]


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_joined_are_the_text_and_none_holds_half_a_character(text: str) -> None:
    pieces = said(text)
    assert "".join(pieces) == text and not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_a_character_that_is_never_finished_is_said_at_the_end() -> None:
    speech = Speech(RENDERER.decode)
    assert [speech.add(token) for token in RENDERER.encode("é")[:1]] == [""] and speech.end() == "\N{REPLACEMENT CHARACTER}"


def test_what_may_be_the_beginning_of_a_stop_waits_and_the_stop_is_never_said() -> None:
    assert said("12END34", "END") == ["1", "2", "", "", "", "", "", ""]
    assert "".join(said("12ENE34", "END")) == "12ENE34"
    assert "".join(said("a stop here and a halt", "halt", "stop")) == "a "


def test_the_end_of_a_turn_is_no_word() -> None:
    speech = Speech(RENDERER.decode, (), RENDERER.stop_token_ids)
    assert speech.add(RENDERER.stop_token_ids[0]) == speech.end() == ""


def test_a_text_is_cut_before_the_first_of_its_stops() -> None:
    assert (cut("a.b,c", (",", ".")), cut("abc", (",",)), cut("abc", ())) == ("a", "abc", "abc")


@pytest.mark.parametrize("stop", ["END", "日本", "x"])
def test_a_stop_is_reached_with_its_last_token_and_not_before(stop: str) -> None:
    tokens = RENDERER.encode(f"one two three 日 {stop} four")
    first = next(i for i in range(1, len(tokens) + 1) if reached(tokens[:i], (stop,), RENDERER.decode))
    assert RENDERER.decode(tokens[:first]).endswith(stop) and stop not in RENDERER.decode(tokens[: first - 1])
    assert not reached(tokens, (), RENDERER.decode)
