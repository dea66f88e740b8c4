"""Conversations and pairs become training sequences: exactly the tokens that the renderer marks, and no others.

A text that does not fit is never cut: a cut end teaches not to end, a cut beginning teaches to answer what was not
asked. It is dropped and counted, or refused, as the configuration says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import Any, Generic, Literal, TypeVar

from posttrain.batching import TokenSequence
from posttrain.data.conversations import Conversation
from posttrain.data.loaded import WhenBad
from posttrain.renderer import Rendered, Renderer, Tools
from posttrain.types import Message, UserError

Item = TypeVar("Item")
Made = TypeVar("Made")

WhenTooLong = Literal["drop", "error"]


WhichTokens = Literal["assistant", "all"]
"""Learn the assistant's tokens, or all."""


def sequences(renderer: Renderer, conversation: Conversation, trained: WhichTokens = "assistant") -> list[TokenSequence]:
    """The conversation as training sequences: one, or one for each answer where the chat template rewrites what came before.

    Every turn of the assistant is learned in exactly one of them, but for those that the conversation says are only read.
    `all` trains on every token but the first, which nothing predicts, and not again on what an earlier sequence begins
    with. Raises UserError where nothing is trained on, and where the chat template cannot mark the conversation.
    """
    learned = [i for i, m in enumerate(conversation.messages) if m.role == "assistant" and (trained == "all" or i not in conversation.only_read)]
    parts = renderer.documents(conversation.messages, conversation.tools, learned)
    if not parts:
        raise UserError("no turn of this conversation is the assistant's to learn, so that there is nothing to train on: give it one")
    return [sequence(part) for part in (everything(parts) if trained == "all" else parts)]


def sequence(rendered: Rendered) -> TokenSequence:
    """The rendered text as a prompt (up to the first trained token) and what follows it, with its marks.

    Raises UserError where nothing is trained on.
    """
    if not any(rendered.trained):
        raise UserError("nothing in this text is the assistant's, so that there is nothing to train on: give it an assistant's message")
    start = rendered.trained.index(True)
    return TokenSequence(rendered.token_ids[:start], rendered.token_ids[start:], rendered.trained[start:])


def everything(parts: Sequence[Rendered]) -> list[Rendered]:
    """The same texts with every token marked but the first, and but those that an earlier text begins with."""
    made: list[Rendered] = []
    for part in parts:
        seen = max((len(commonprefix([part.token_ids, earlier.token_ids])) for earlier in made), default=1)
        made.append(Rendered(part.token_ids, tuple(i >= max(1, seen) for i in range(len(part.token_ids)))))
    return made


def completion(renderer: Renderer, prompt: Sequence[Message], answer: Sequence[Message], tools: Tools = ()) -> TokenSequence:
    """A prompt and the assistant's answer to it, the tokens of the answer's own turns marked.

    Answers to one prompt share it token for token, so that they pack together. The assistant's turns in the prompt are
    not trained on. It ends where the last of the answer's turns does. Raises UserError as `Renderer.documents`, where
    the answer has no turn of the assistant, and where the chat template rewrites the answer's own turns.
    """
    turns = range(len(prompt), len(prompt) + len(answer))
    parts = renderer.documents((*prompt, *answer), tools, turns)
    if len(parts) != 1:
        raise UserError("this chat template rewrites an answer of several turns as it goes on (or it has none): give a template that only appends")
    part, read = parts[0], renderer.prompt(prompt, tools)
    start = len(read) if part.token_ids[: len(read)] == read else part.trained.index(True)
    return TokenSequence(part.token_ids[:start], part.token_ids[start : part.n_settled], part.trained[start : part.n_settled])


@dataclass(frozen=True)
class Fitted(Generic[Item, Made]):
    """What has been made of the items that can be used, and why others cannot."""

    items: list[Item]
    made: list[Made]
    dropped: dict[str, int] = field(default_factory=dict)
    """How many items were left out, by reason."""


def fit(
    items: Sequence[Item], make: Callable[[Item], Made], sequences: Callable[[Made], Sequence[TokenSequence]], context: int,
    when_too_long: WhenTooLong = "drop", name: Callable[[Item], Any] = lambda item: getattr(item, "id", item), when_bad: WhenBad = "error",
) -> Fitted[Item, Made]:  # fmt: skip
    """Make every item, and leave out those of which a sequence is longer than `context` tokens.

    Raises UserError, naming the item, at the first that is too long with `when_too_long` "error" and at the first that
    cannot be made (its chat template refuses it, say) with `when_bad` "error"; and where nothing is left.
    """
    kept: list[Item] = []
    made: list[Made] = []
    dropped = Counter[str]()
    for item in items:
        try:
            new = make(item)
        except UserError as error:
            if when_bad == "error":
                raise UserError(f"{name(item)}: {error}") from error
            dropped[str(error)] += 1
            continue
        longest = max((len(s.prompt) + len(s.tokens) for s in sequences(new)), default=0)
        if longest <= context:
            kept.append(item)
            made.append(new)
        elif when_too_long == "error":
            raise UserError(f"{name(item)} has {longest} tokens, the context holds {context}: shorten it, or say --when-too-long drop")
        else:
            dropped[f"longer than {context} tokens"] += 1
    if not kept:
        why = ", ".join(f"{n} {reason}" for reason, n in dropped.items())
        raise UserError(f"none of the {len(items)} texts can be used ({why}); give others, or a model with another template or a longer context")
    return Fitted(kept, made, dict(dropped))
