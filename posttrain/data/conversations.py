"""Conversations to learn from, in the forms that people keep them in.

    {"messages": [{"role": "user", "content": "…"}, …], "tools": […]}       OpenAI's, with tool calls and weights
    {"prompt": "…" or messages, "completion": "…" or messages}
    {"instruction": "…", "input": "…", "output": "…"}                        Alpaca's
    {"question": "…", "answer": "…"}

Each may have a `system` text beside it, and an `id`. Content may be a text or a list of text parts, a tool's arguments an
object or JSON as text; a thought that is kept apart (`reasoning_content`) stands in <think> tags before what is said.

A conversation that teaches nothing, or the wrong thing, is refused by name: one that ends in a user's turn, has no
assistant or none whose turns are learned, has its roles out of order, or an answer to a tool's call that nobody made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.data.loaded import Loaded, Unusable, WhenBad, load_rows
from posttrain.types import Message, ToolCall

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Conversation:
    """A whole conversation, and the tools that its assistant could call."""

    id: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    """Descriptions in OpenAI's shape, as chat templates take them."""
    only_read: tuple[int, ...] = ()
    """Places of the assistant's turns that are read and not learned (OpenAI's `"weight": 0`)."""


def load_conversations(path: str | Path, when_bad: WhenBad = "error") -> Loaded[Conversation]:
    """The conversations of a .jsonl or .jsonl.gz file. Raises UserError as `load_rows` does."""
    return load_rows(path, _conversation, when_bad)


def load_prompts(path: str | Path) -> Loaded[Conversation]:
    """What a model is to answer: each row's prompt, or its messages up to the last turn that is not the assistant's."""
    return load_rows(path, _prompt, way_out="take it out of the file")


def _conversation(place: str, row: Mapping[str, Any]) -> Conversation:
    messages = conversation_messages(row)
    check_order(messages)
    if messages[-1].role != "assistant":
        raise Unusable(f"ends in a turn of the {messages[-1].role}, not of the assistant")
    only_read = _only_read(row, messages)
    if all(i in only_read for i, m in enumerate(messages) if m.role == "assistant"):
        raise Unusable("has no turn of the assistant that is to be learned: all have weight 0")
    return Conversation(str(row.get("id", place)), messages, tools_of(row), only_read)


def _prompt(place: str, row: Mapping[str, Any]) -> Conversation:
    if isinstance(row.get("prompt"), str | list) and row["prompt"]:
        messages = as_messages(row["prompt"], "user")
    elif any(key in row for key in ("messages", "instruction", "question")):
        messages = conversation_messages({"output": "?", "answer": "?", **row})
        while messages and messages[-1].role == "assistant":
            messages = messages[:-1]
    else:
        raise Unusable("has no prompt")
    if not messages or messages[-1].role not in ("user", "tool"):
        raise Unusable("has no prompt that ends in a user's turn")
    messages = with_system(messages, row)
    check_order((*messages, Message("assistant", "?")))
    return Conversation(str(row.get("id", place)), messages, tools_of(row))


def conversation_messages(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of a row in any of the forms above. Raises Unusable where it has none of them."""
    if "messages" in row:
        return with_system(as_messages(row["messages"], "user"), row)
    if "prompt" in row and "completion" in row:
        return with_system((*as_messages(row["prompt"], "user"), *as_messages(row["completion"], "assistant")), row)
    if "instruction" in row and "output" in row:
        given = text(row.get("input", ""), "input") if row.get("input") else ""
        asked = text(row["instruction"], "instruction") + (f"\n\n{given}" if given else "")
        return with_system((Message("user", asked), Message("assistant", text(row["output"], "output"))), row)
    if "question" in row and "answer" in row:
        return with_system((Message("user", text(row["question"], "question")), Message("assistant", text(row["answer"], "answer"))), row)
    raise Unusable(f"has no conversation: it needs messages, or prompt and completion, and has {', '.join(row) or 'nothing'}")


def as_messages(value: Any, role: str) -> tuple[Message, ...]:
    """A text as one message of `role`, or a list of messages in OpenAI's form."""
    if isinstance(value, str):
        return (Message(role, text(value, role)),)
    if not isinstance(value, Sequence) or not value:
        raise Unusable(f"has neither text nor messages where the {role}'s part should be")
    return tuple(_message(turn) for turn in value)


def check_order(messages: Sequence[Message]) -> None:
    """Raises Unusable unless: the system speaks first or not at all, the assistant never first, and tools answer calls."""
    if not any(m.role == "assistant" for m in messages):
        raise Unusable("has no turn of the assistant")
    called = 0
    for i, message in enumerate(messages):
        before = messages[i - 1].role if i else ""
        if message.role == "system" and i:
            raise Unusable("has a system message that is not the first")
        if message.role == "assistant" and before in ("", "system"):
            raise Unusable("has an assistant who speaks before anybody else")
        if message.role == "assistant" and before == "assistant" or message.role == "user" and before == "user":
            raise Unusable(f"has two turns of the {message.role} in a row")
        if message.role == "user" and called:
            raise Unusable("has a tool's call that is never answered")
        if message.role == "tool":
            if not called:
                raise Unusable("has a tool's answer that nobody called for")
            called -= 1
        if message.role == "assistant":
            if called:
                raise Unusable("has a tool's call that is never answered")
            called = len(message.tool_calls)


def text(value: Any, name: str) -> str:
    """The text itself. Raises Unusable for what is empty or no text."""
    if not isinstance(value, str):
        raise Unusable(f"has no text as {name}")
    if not value.strip():
        raise Unusable(f"has an empty {name}")
    return value


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise Unusable("has a message that is not an object with role and content")
    role = "system" if turn.get("role") == "developer" else turn.get("role")  # OpenAI's newer name
    if role not in ROLES:
        raise Unusable(f"has a message of an unknown role ({role!r}): roles are {', '.join(ROLES)}")
    if turn.get("function_call"):
        raise Unusable("has a function_call, which is an old form: write it as tool_calls")
    called = turn.get("tool_calls") or []
    if not isinstance(called, list):
        raise Unusable("has tool_calls that are not a list")
    calls = tuple(_call(call) for call in called)
    if calls and role != "assistant":
        raise Unusable(f"has a call of a tool by the {role}")
    content = turn.get("content")
    if content is None and calls:
        content = ""
    if isinstance(content, list):
        content = "".join(_part(part) for part in content)
    if not calls and role != "tool":
        content = text(content, f"{role}'s message")
    if not isinstance(content, str):
        raise Unusable(f"has a message of the {role} without text")
    thought = _thought(turn) if role == "assistant" else ""
    return Message(role, thought + content, calls, str(turn.get("tool_call_id") or ""))


def _thought(turn: Mapping[str, Any]) -> str:
    """What the assistant thinks before it speaks, in the tags in which the renderer expects it."""
    thought = next((turn[key] for key in ("reasoning_content", "reasoning", "thinking") if isinstance(turn.get(key), str)), "")
    return f"<think>\n{thought.strip()}\n</think>\n\n" if thought.strip() else ""


def _only_read(row: Mapping[str, Any], messages: Sequence[Message]) -> tuple[int, ...]:
    """The places of the assistant's turns with weight 0."""
    turns = row.get("messages", ())
    weights = {len(messages) - len(turns) + i: turn["weight"] for i, turn in enumerate(turns) if turn.get("weight") is not None}
    if any(weight not in (0, 1) for weight in weights.values()):
        raise Unusable("has a turn whose weight is neither 0 nor 1")
    return tuple(i for i, weight in weights.items() if weight == 0 and messages[i].role == "assistant")


def _part(part: Any) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise Unusable("has a message with parts other than text")


def _call(call: Any) -> ToolCall:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Unusable("has a tool's call without a name")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):  # OpenAI keeps them as text
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, Mapping):
        raise Unusable("has a tool's call whose arguments are not an object")
    return ToolCall(function["name"], dict(arguments), str(call.get("id") or ""))


def tools_of(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The descriptions of a row's `tools`, if it has any."""
    tools = row.get("tools") or ()
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise Unusable("has tools that are not a list of descriptions")
    return tuple(tools)


def with_system(messages: tuple[Message, ...], row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages behind a row's own `system` text, if it has one. Raises Unusable where they begin with another."""
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise Unusable("has no text as system")
    if not system or not system.strip():
        return messages
    if messages[0].role == "system" and messages[0].content != system:
        raise Unusable("has a system text beside its messages and another among them")
    return messages if messages[0].role == "system" else (Message("system", system), *messages)
