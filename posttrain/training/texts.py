"""Conversations and pairs become training sequences: exactly the tokens that the renderer marks, and no others.

A text that does not fit is never cut: a cut end teaches not to end, a cut beginning teaches to answer what was not
asked. It is dropped and counted, or refused, as the configuration says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from posttrain.batching import TokenSequence
from posttrain.renderer import Rendered, Renderer, Tools
from posttrain.types import Message, UserError

Item = TypeVar("Item")
Made = TypeVar("Made")

WhenTooLong = Literal["drop", "error"]


def sequence(rendered: Rendered, trained: Literal["assistant", "all"] = "assistant") -> TokenSequence:
    """The rendered conversation as a prompt (up to the first trained token) and what follows it, with its marks.

    `all` trains on every token but the first, which nothing predicts. Raises UserError where nothing is trained on.
    """
    if trained == "all":
        return TokenSequence(rendered.token_ids[:1], rendered.token_ids[1:])
    if not any(rendered.trained):
        raise UserError("nothing in this conversation is the assistant's, so that there is nothing to train on: give it an assistant's message")
    start = rendered.trained.index(True)
    return TokenSequence(rendered.token_ids[:start], rendered.token_ids[start:], rendered.trained[start:])


def completion(renderer: Renderer, prompt: Sequence[Message], answer: Sequence[Message], tools: Tools = ()) -> TokenSequence:
    """A prompt and the assistant's answer to it, the tokens of the answer's own turns marked.

    Answers to one prompt share it token for token, so that they pack together. The assistant's turns in the prompt are
    not trained on.
    """
    read = renderer.prompt(prompt, tools)
    rendered = renderer.render((*prompt, *answer), tools)
    if rendered.token_ids[: len(read)] != read:
        raise UserError("this chat template writes a prompt in another way when an answer follows it: give a template that only appends")
    marks = rendered.trained[len(read) :]
    last = max((i for i, mark in enumerate(marks) if mark), default=-1) + 1
    return TokenSequence(read, rendered.token_ids[len(read) : len(read) + last], marks[:last])


@dataclass(frozen=True)
class Fitted(Generic[Item, Made]):
    """What has been made of the items that can be used, and why others cannot."""

    items: list[Item]
    made: list[Made]
    dropped: dict[str, int] = field(default_factory=dict)
    """How many items were left out, by reason."""


def fit(
    items: Sequence[Item], make: Callable[[Item], Made], sequences: Callable[[Made], Sequence[TokenSequence]], context: int,
    when_too_long: WhenTooLong = "drop", name: Callable[[Item], Any] = lambda item: getattr(item, "id", item),
) -> Fitted[Item, Made]:  # fmt: skip
    """Make every item, and leave out those of which a sequence is longer than `context` tokens.

    Raises UserError at the first such item with `when_too_long` "error", and where nothing is left.
    """
    kept, made, n_long = [], [], 0
    for item in items:
        new = make(item)
        longest = max((len(s.prompt) + len(s.tokens) for s in sequences(new)), default=0)
        if longest <= context:
            kept.append(item)
            made.append(new)
        elif when_too_long == "error":
            raise UserError(f"{name(item)} has {longest} tokens, the context holds {context}: shorten it, or say --when-too-long drop")
        else:
            n_long += 1
    if not kept:
        raise UserError(f"none of the {len(items)} texts fits the context of {context} tokens: give shorter ones, or a model with a longer context")
    return Fitted(kept, made, {f"longer than {context} tokens": n_long} if n_long else {})
