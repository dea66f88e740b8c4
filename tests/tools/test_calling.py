"""A tool is a typed function, and whatever a call does or is, the model is told it in bounded text; only what is broken is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest

from posttrain.tools.calling import Caller, Calling, as_text, clipped
from posttrain.tools.schema import check
from posttrain.tools.tool import Tool, tool
from posttrain.types import Message, Problem, Reply, ToolCall, ToolError, UserError


async def weather(city: str, days: Annotated[int, "how far ahead"] = 1, unit: Literal["C", "F"] = "C", tags: list[str] | None = None) -> str:
    """The forecast for a city."""
    if city == "Atlantis":
        raise ToolError("Atlantis has sunk")
    return f"{city} {days} {unit} {tags}"


async def stuck() -> str:
    """Never ends."""
    await asyncio.sleep(100)
    return ""


async def stubborn() -> str:
    """Will not be stopped."""
    while True:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            return ""


async def broken() -> str:
    """Is broken."""
    raise ZeroDivisionError("division by zero")


def told(*tools: Tool, calls: Sequence[tuple[str, dict[str, Any]]], **more: Any) -> list[str]:
    async def run() -> Reply:
        async with Calling(tools, **more).open(Problem("p", (), "")) as env:
            return await env.reply(Message("assistant", "", tuple(ToolCall(name, arguments) for name, arguments in calls)))

    return [message.content for message in asyncio.run(run()).messages]


def test_the_schema_is_the_signature_and_the_description_the_docstring() -> None:
    assert tool(weather).schema == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The forecast for a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "description": "how far ahead", "default": 1},
                    "unit": {"enum": ["C", "F"], "default": "C"},
                    "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }


def test_calls_are_answered_in_order_and_a_turn_without_any_is_the_last() -> None:
    assert told(tool(weather), calls=[("weather", {"city": "Bonn"}), ("weather", {"city": "Rome", "days": 2.0, "tags": ["a"]})]) == [
        "Bonn 1 C None", "Rome 2.0 C ['a']",
    ]  # fmt: skip
    reply = asyncio.run(Caller({}, 1, 99).reply(Message("assistant", "It is warm.")))
    assert reply == Reply((), done=True)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "the argument 'city' is missing"),
        ({"city": 3}, "'city' must be a string, not 3"),
        ({"city": "Bonn", "days": "2"}, "'days' must be a whole number, not \"2\""),
        ({"city": "Bonn", "days": True}, "'days' must be a whole number, not true"),
        ({"city": "Bonn", "days": 1.5}, "'days' must be a whole number, not 1.5"),
        ({"city": "Bonn", "unit": "K"}, '\'unit\' must be one of "C", "F", not "K"'),
        ({"city": "Bonn", "tags": [1]}, "'tags[0]' must be a string, not 1 or 'tags' must be null, not [1]"),
        ({"city": "Bonn", "town": "x"}, "there is no argument 'town': there are city, days, unit, tags"),
        ({"city": "Atlantis"}, "Atlantis has sunk"),
    ],
)
def test_the_model_is_told_in_a_sentence_what_is_wrong_with_its_call(arguments: dict[str, Any], complaint: str) -> None:
    assert told(tool(weather), calls=[("weather", arguments)]) == [f"error: {complaint}"]


def test_a_tool_that_does_not_exist_is_named_with_the_closest_that_does() -> None:
    assert told(tool(weather), calls=[("wether", {}), ("zzz", {})]) == [
        "error: there is no tool 'wether': did you mean weather?", "error: there is no tool 'zzz'; there is weather",
    ]  # fmt: skip


def test_a_tool_that_hangs_is_stopped_and_the_next_call_runs() -> None:
    calls = [("stuck", {}), ("stubborn", {}), ("weather", {"city": "Bonn"})]
    assert told(tool(stuck), tool(stubborn), tool(weather), calls=calls, call_s=0.05) == [
        "error: stuck had not answered after 0.05 s and was stopped",
        "error: stubborn had not answered after 0.05 s and was stopped",
        "Bonn 1 C None",
    ]


def test_what_is_broken_is_not_told_but_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        told(tool(broken), calls=[("broken", {})])


def test_answers_of_every_kind_become_text_of_bounded_length() -> None:
    assert [as_text(x) for x in ("é", None, b"ab", {"a": [1, None]}, 2.5)] == ["é", "done", "ab", '{"a": [1, null]}', "2.5"]
    assert as_text("a\ud800b") == "a?b"
    with pytest.raises(ToolError, match="3 bytes that are no text"):
        as_text(b"\xff\xfe\x00")
    assert clipped("a" * 10 + "b" * 10, 8) == "aaaa\n… 12 characters left out …\nbbbb"
    assert clipped("a" * 8, 8) == "a" * 8


def test_a_flood_is_cut_to_its_beginning_and_end() -> None:
    async def flood() -> str:
        """Says much."""
        return "x" * 10**6 + "end"

    (answer,) = told(tool(flood), calls=[("flood", {})], answer_chars=100)
    assert len(answer) < 160 and answer.endswith("end") and "999903 characters left out" in answer


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two tools are called weather"):
        told(tool(weather), tool(weather), calls=[])


def test_a_function_that_cannot_be_a_tool_is_refused_with_the_reason() -> None:
    def plain(a: int) -> str:
        """Adds."""

    async def untyped(a) -> str:
        """Adds."""

    async def silent(a: int) -> str: ...

    async def unheard(a: set[int]) -> str:
        """Adds."""

    async def many(*a: int) -> str:
        """Adds."""

    for function, reason in ((plain, "async"), (untyped, "typed parameter"), (silent, "docstring"), (unheard, "JSON cannot hold"), (many, "named and typed")):
        with pytest.raises(UserError, match=reason):
            tool(function)


def test_a_schema_from_elsewhere_is_checked_as_far_as_it_is_understood() -> None:
    schema = {
        "type": "object", "required": ["a"],
        "properties": {"a": {"type": ["string", "null"]}, "b": {"const": 2}, "c": {"oneOf": [{"type": "number"}, {"$ref": "#/x"}]}},
        "additionalProperties": {"type": "boolean"},
    }  # fmt: skip
    for good in ({"a": None}, {"a": "x", "b": 2, "more": True}, {"a": "x", "c": "whatever the reference says"}):
        check(good, schema)
    for bad in ({}, {"a": 1}, {"a": "x", "b": 3}, {"a": "x", "more": 1}, []):
        with pytest.raises(ToolError):
            check(bad, schema)
