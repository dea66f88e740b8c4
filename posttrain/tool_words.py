"""Tools in words, for chat templates that know none (SmolLM2's, Gemma's): else they would leave them out and say nothing.

Descriptions stand before the first message's words (behind them, if it is the system's), calls and answers as JSON between
tags in the turns of the assistant and of the user. The tags are those of Hermes and Qwen, which more models have seen than
any others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from posttrain.types import Message, ToolCall

TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>")

HOW = (
    "You can call tools. To call one, write its name and its arguments as JSON between these tags:\n"
    '<tool_call>\n{"name": "…", "arguments": {…}}\n</tool_call>\n'
    "Its answer comes back between <tool_response> tags. Your tools, one a line:"
)


def in_words(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> tuple[Message, ...]:
    """The same conversation in which nothing but words is left; the answers to several calls of one turn share a turn."""
    spelled: list[Message] = []
    for answers, run in groupby(messages, lambda m: m.role == "tool"):
        turns = list(run)
        spelled += [Message("user", "\n".join(_answer(m.content) for m in turns))] if answers else [_with_calls(m) for m in turns]
    if tools and spelled:
        spelled[0] = _told(spelled[0], f"{HOW}\n<tools>\n" + "\n".join(_json(tool) for tool in tools) + "\n</tools>")
    return tuple(spelled)


def _told(message: Message, tools: str) -> Message:
    before, behind = (message.content, tools) if message.role == "system" else (tools, message.content)
    return replace(message, content=f"{before}\n\n{behind}")


def _with_calls(message: Message) -> Message:
    if not message.tool_calls:
        return message
    said = [message.content] if message.content else []
    return Message(message.role, "\n".join([*said, *(_call(call) for call in message.tool_calls)]))


def _call(call: ToolCall) -> str:
    return f"<tool_call>\n{_json({'name': call.name, 'arguments': dict(call.arguments)})}\n</tool_call>"


def _answer(content: str) -> str:
    return f"<tool_response>\n{content}\n</tool_response>"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
