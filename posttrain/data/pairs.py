"""Preferences: of two answers to one prompt, the one that was preferred.

    {"prompt": "…" or messages, "chosen": "…" or messages, "rejected": "…" or messages, "margin": 1.5}
    {"chosen": [messages of the whole conversation], "rejected": [likewise]}      the common beginning is the prompt
    {"chosen": "\\n\\nHuman: … \\n\\nAssistant: …", "rejected": …}                    hh-rlhf's text, likewise
    {"instruction": "…", "input": "…", "chosen": "…", "rejected": "…"}
    {"message_tree_id": "…", "prompt": {"role": "prompter", "text": …, "replies": […]}}   Open-Assistant's ranked trees (2304.07327):
                                                                      behind every prompt, the answer ranked first against the last

And answers judged one by one, for KTO: {"prompt": …, "completion": …, "label": true}. Each may have a `system` text and `tools` beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.data.conversations import as_messages, check_order, conversation_messages, text, tools_of, with_system
from posttrain.data.loaded import Loaded, Unusable, WhenBad, load_rows
from posttrain.types import Message

TREE_ROLES = {"prompter": "user", "assistant": "assistant"}
HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt."""

    id: str
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    margin: float = 0.0
    """How much better the chosen answer is, in units of reward; 0 where nobody has said."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Descriptions of what could be called."""


@dataclass(frozen=True)
class Labelled:
    """One answer, called good or bad."""

    id: str
    prompt: tuple[Message, ...]
    answer: tuple[Message, ...]
    is_good: bool
    tools: tuple[Mapping[str, Any], ...] = ()


def load_pairs(path: str | Path, when_bad: WhenBad = "error") -> Loaded[Pair]:
    """The pairs of a .jsonl or .jsonl.gz file. Raises UserError as `load_rows` does; empty, one-sided and equal pairs are unusable."""
    return _flat(load_rows(path, _pairs, when_bad))


def load_labelled(path: str | Path, when_bad: WhenBad = "error") -> Loaded[Labelled]:
    """Single answers with a `label` of true or false; of a pair's row, both sides."""
    return _flat(load_rows(path, _labelled, when_bad))


def _flat(loaded: Loaded[list[Any]]) -> Loaded[Any]:
    return Loaded([item for items in loaded.items for item in items], loaded.dropped)


def both_sides(pair: Pair) -> list[Labelled]:
    """A pair as one good and one bad answer."""
    sides = (("chosen", pair.chosen, True), ("rejected", pair.rejected, False))
    return [Labelled(f"{pair.id} {side}", pair.prompt, answer, is_good, pair.tools) for side, answer, is_good in sides]


def pair_row(pair: Pair) -> dict[str, Any]:
    """A pair as a row that `load_pairs` reads."""
    row: dict[str, Any] = {"id": pair.id} | {side: [_turn(m) for m in getattr(pair, side)] for side in ("prompt", "chosen", "rejected")}
    return row | ({"margin": pair.margin} if pair.margin else {}) | ({"tools": list(pair.tools)} if pair.tools else {})


def _turn(message: Message) -> dict[str, Any]:
    """A message as `as_messages` reads it."""
    calls = [{"id": call.id, "function": {"name": call.name, "arguments": dict(call.arguments)}} for call in message.tool_calls]
    own = {"tool_calls": calls, "tool_call_id": message.tool_call_id}
    return {"role": message.role, "content": message.content} | {name: value for name, value in own.items() if value}


def _pairs(place: str, row: Mapping[str, Any]) -> list[Pair]:
    if not isinstance(row.get("prompt"), Mapping):
        return [_pair(place, row)]
    found = list(_ranked(str(row.get("message_tree_id", place)), (), row["prompt"]))
    if not found:
        raise Unusable("has no prompt with answers that are ranked and differ")
    return found


def _ranked(name: str, before: tuple[Message, ...], node: Any) -> Iterator[Pair]:
    """The pairs of a tree: of this message's replies, and of all that follow them."""
    if not isinstance(node, Mapping) or node.get("role") not in TREE_ROLES:
        raise Unusable("has a message in its tree whose role is neither prompter nor assistant")
    seen = (*before, Message(TREE_ROLES[node["role"]], text(node.get("text"), "text in its tree")))
    replies = [reply for reply in node.get("replies") or () if isinstance(reply, Mapping) and not reply.get("deleted")]
    ranked = sorted((r for r in replies if isinstance(r.get("rank"), int)), key=lambda reply: reply["rank"])
    if node["role"] == "prompter" and len(ranked) > 1 and ranked[0].get("text") != ranked[-1].get("text"):
        best, worst = (Message("assistant", text(reply.get("text"), "text in its tree")) for reply in (ranked[0], ranked[-1]))
        check_order((*seen, best))
        yield Pair(f"{name} {len(seen)} {node.get('message_id', '')}".strip(), seen, (best,), (worst,))
    for reply in replies:
        yield from _ranked(name, seen, reply)


def _pair(place: str, row: Mapping[str, Any]) -> Pair:
    for side in ("chosen", "rejected"):
        _check_side(row.get(side), f"{side} answer")
    prompt, chosen, rejected = _parts(row)
    prompt = with_system(prompt, row)
    margin = row.get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
        raise Unusable("has a margin that is not a finite number")
    if chosen == rejected:
        raise Unusable("has the same answer as chosen and rejected")
    for answer in (chosen, rejected):
        _check(prompt, answer)
    return Pair(str(row.get("id", place)), prompt, chosen, rejected, float(margin), tools_of(row))


def _check_side(value: Any, name: str) -> None:
    """Raises Unusable for what is missing, empty, or neither text nor messages."""
    if value is None:
        raise Unusable(f"has no {name}")
    if not isinstance(value, str | list):
        raise Unusable(f"has a {name} that is neither text nor messages")
    if not value or (isinstance(value, str) and not value.strip()):
        raise Unusable(f"has an empty {name}")


def _parts(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """Prompt, chosen and rejected answer; where the two are whole conversations, their common beginning is the prompt."""
    if row.get("prompt"):
        prompt = as_messages(row["prompt"], "user")
        chosen, rejected = (as_messages(row[side], "assistant") for side in ("chosen", "rejected"))
        if chosen[: len(prompt)] == prompt and rejected[: len(prompt)] == prompt:  # whole conversations beside their prompt
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        return prompt, chosen, rejected
    if "instruction" in row:
        prompt = conversation_messages({"instruction": row["instruction"], "input": row.get("input", ""), "output": "?"})[:-1]
        return prompt, as_messages(row["chosen"], "assistant"), as_messages(row["rejected"], "assistant")
    chosen, rejected = (_whole(row[side]) for side in ("chosen", "rejected"))
    n = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
    while n and (n == min(len(chosen), len(rejected)) or chosen[n].role != "assistant" or rejected[n].role != "assistant"):
        n -= 1
    if not n:
        raise Unusable("has no prompt, and its two conversations share no beginning")
    return chosen[:n], chosen[n:], rejected[n:]


def _whole(value: Any) -> tuple[Message, ...]:
    """A whole conversation: messages, or hh-rlhf's text."""
    if not isinstance(value, str):
        return as_messages(value, "assistant")
    pieces = HH_TURN.split(value)
    if len(pieces) < 5 or pieces[0].strip():
        raise Unusable("has no prompt")
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message("user" if who == "Human" else "assistant", said.strip()) for who, said in turns)


def _labelled(place: str, row: Mapping[str, Any]) -> list[Labelled]:
    if "chosen" in row or "rejected" in row:
        return both_sides(_pair(place, row))
    if isinstance(row.get("prompt"), Mapping):
        return [side for pair in _pairs(place, row) for side in both_sides(pair)]
    if not isinstance(row.get("label"), bool):
        raise Unusable("has neither a chosen and a rejected answer nor a label of true or false")
    for side in ("prompt", "completion"):
        _check_side(row.get(side), side)
    prompt, answer = with_system(as_messages(row["prompt"], "user"), row), as_messages(row["completion"], "assistant")
    _check(prompt, answer)
    return [Labelled(str(row.get("id", place)), prompt, answer, row["label"], tools_of(row))]


def _check(prompt: Sequence[Message], answer: Sequence[Message]) -> None:
    if prompt[-1].role == "assistant":
        raise Unusable("has a prompt that ends in a turn of the assistant")
    if not any(m.content.strip() or m.tool_calls for m in answer):
        raise Unusable("has an empty answer")
    if answer[-1].role != "assistant":
        raise Unusable(f"has an answer that ends in a turn of the {answer[-1].role}")
    check_order((*prompt, *answer))
