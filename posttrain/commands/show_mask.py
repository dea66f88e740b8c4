"""`posttrain show-mask`: a conversation as the model reads it, with the tokens that SFT would learn marked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from posttrain.commands.base import DONE
from posttrain.types import Message, ToolCall, UserError

if TYPE_CHECKING:
    from rich.text import Text

    from posttrain.batching import TokenSequence
    from posttrain.data.conversations import Conversation
    from posttrain.renderer import Renderer

OPEN, CLOSE, NEWLINE = "⟦", "⟧", "⏎"


@dataclass(frozen=True)
class Args:
    """Print conversations as `train sft` learns them: trained tokens in ⟦ ⟧ and in colour, newlines as ⏎, special tokens in full."""

    model: str = "smollm2"
    """Whose chat template and tokenizer: smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
    data: str = ""
    """A file of conversations, as for train sft; empty shows a built-in one with a system message, two turns and a tool's call."""
    n: int = 3
    """How many of them, from the first."""
    trained: Literal["assistant", "all"] = "assistant"
    """Learn the assistant's tokens, or all."""
    when_bad: Literal["error", "drop"] = "error"
    """Refuse a file with an unusable conversation, or leave such out and say so."""
    json: bool = False
    """Print JSON: every token's id, its text and its mark."""


async def main(args: Args) -> int:
    """Make the training sequences that SFT would make, and show them."""
    from posttrain.data.conversations import load_conversations
    from posttrain.policy.loading import load_renderer
    from posttrain.policy.models import resolve
    from posttrain.training.texts import fit, sequences

    if args.n < 1:
        raise UserError("--n must be at least 1")
    renderer = load_renderer(args.model)
    chosen = load_conversations(args.data, args.when_bad).items[: args.n] if args.data else [_example(renderer)]
    made = fit(chosen, partial(sequences, renderer, trained=args.trained), lambda parts: parts, sys.maxsize, when_bad=args.when_bad)
    if args.json:
        rows = [_row(renderer, conversation.id, parts) for conversation, parts in zip(made.items, made.made, strict=True)]
        print(json.dumps({"model_path": str(resolve(args.model)), "trained": args.trained, "conversations": rows, "left_out": made.dropped}))
    else:
        _show(renderer, [conversation.id for conversation in made.items], made.made, made.dropped)
    return DONE


def _example(renderer: Renderer) -> Conversation:
    """The built-in conversation, without its system message where the chat template knows none."""
    from posttrain.data.conversations import Conversation

    messages, tools = EXAMPLE
    try:
        renderer.prompt(messages[:2])
    except UserError:
        messages = messages[1:]
    return Conversation("example", messages, tools)


def _marks(sequence: TokenSequence) -> tuple[bool, ...]:
    """One mark for each token of prompt and answer."""
    return (False,) * len(sequence.prompt) + (sequence.predicted or (True,) * len(sequence.tokens))


def _counts(parts: Sequence[TokenSequence]) -> tuple[int, int]:
    return sum(len(s.prompt) + len(s.tokens) for s in parts), sum(s.n_predicted for s in parts)


def _row(renderer: Renderer, name: str, parts: Sequence[TokenSequence]) -> dict[str, Any]:
    n, n_trained = _counts(parts)
    texts = [{"token_ids": s.prompt + s.tokens, "pieces": renderer.pieces(s.prompt + s.tokens), "trained": _marks(s)} for s in parts]
    return {"id": name, "n_tokens": n, "n_trained": n_trained, "texts": texts}


# ------------------------------------------------------------------------------------------------------------ for a person


def _show(renderer: Renderer, names: Sequence[str], made: Sequence[Sequence[TokenSequence]], dropped: dict[str, int]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for number, (name, parts) in enumerate(zip(names, made, strict=True), 1):
        console.print(f"── {number} · {name} · {_said(parts)}", style="bold", markup=False)
        if len(parts) > 1:
            console.print(f"   in {len(parts)} texts, for this chat template rewrites earlier turns when the conversation goes on", markup=False)
        for i, part in enumerate(parts, 1):
            if len(parts) > 1:
                console.print(f"── text {i} of {len(parts)} · {_said([part])}", markup=False)
            text = _marked(renderer, part)
            console.print(text, end="" if text.plain.endswith("\n") else "\n")
        console.print()
    for reason, n in dropped.items():
        console.print(f"left out: {n}, for {reason}", markup=False)
    flat = [part for parts in made for part in parts]
    console.print(f"{OPEN}learned{CLOSE}, the rest is only read; {NEWLINE} is a newline. {len(made)} shown: {_said(flat)}", markup=False)


def _said(parts: Sequence[TokenSequence]) -> str:
    n, n_trained = _counts(parts)
    return f"{n} tokens, {n_trained} trained"


def _marked(renderer: Renderer, sequence: TokenSequence) -> Text:
    from rich.text import Text

    text = Text()
    for words, is_trained in _runs(renderer, sequence):
        shown = _visible(words)
        text.append(f"{OPEN}{shown}{CLOSE}" if is_trained else shown, style="bold green" if is_trained else "dim")
    return text


def _runs(renderer: Renderer, sequence: TokenSequence) -> Iterator[tuple[str, bool]]:
    """Neighbours of one mark, decoded together, so that a character of several tokens is whole."""
    for is_trained, run in groupby(zip(sequence.prompt + sequence.tokens, _marks(sequence), strict=True), lambda pair: pair[1]):
        yield renderer.decode([token for token, _ in run]), is_trained


def _visible(text: str) -> str:
    """Newlines marked, and what would steer a terminal spelled out."""
    return "".join(NEWLINE + c if c == "\n" else c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


EXAMPLE = (
    (
        Message("system", "You help with sums. Use the tool."),
        Message("user", "What is 17 × 25?"),
        Message("assistant", "", (ToolCall("multiply", {"a": 17, "b": 25}, "call00001"),)),
        Message("tool", "425", (), "call00001"),
        Message("assistant", "17 × 25 is 425."),
        Message("user", "Thanks!"),
        Message("assistant", "You are welcome."),
    ),
    (
        {
            "type": "function",
            "function": {
                "name": "multiply",
                "description": "The product of two whole numbers.",
                "parameters": {
                    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"],
                },
            },
        },
    ),
)  # fmt: skip
"""A system message, two turns and a tool's call, with the tool's description."""
