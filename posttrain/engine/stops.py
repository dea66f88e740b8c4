"""Texts that end a completion: where they begin in its text, and the token that completes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stops."""
    places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    return text[: min(places)] if places else text


def reached(token_ids: Sequence[int], stops: Sequence[str], decode: Decode) -> bool:
    """Whether one of the stops ends within the last token. Looks at as many tokens as a stop can have, a byte each."""
    if not stops:
        return False
    tail = decode(token_ids[-(4 * max(map(len, stops)) + 4) :])
    return any(stop in tail for stop in stops)
