"""Conversations from files: every form by hand, and every reason for which a line is refused, with its number."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.data.conversations import Conversation, load_conversations, load_prompts
from posttrain.types import Message, ToolCall, UserError

HI, YO = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def called(arguments: Any = '{"a": 1}', **more: Any) -> dict[str, Any]:
    """An assistant's turn that calls a tool, in OpenAI's form."""
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]} | more


ANSWERED = {"role": "tool", "tool_call_id": "c1", "content": "2"}


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "c.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read(folder: Path, row: dict[str, Any]) -> Conversation:
    (conversation,) = load_conversations(file_of(folder, row)).items
    return conversation


def user(content: str) -> Message:
    return Message("user", content)


def assistant(content: str, *calls: ToolCall) -> Message:
    return Message("assistant", content, calls)


def system(content: str) -> Message:
    return Message("system", content)


# ---------------------------------------------------------------------------------------------------------------- the forms


FORMS: dict[str, tuple[dict[str, Any], tuple[Message, ...]]] = {
    "messages": ({"messages": [HI, YO]}, (user("hi"), assistant("yo"))),
    "several turns": ({"messages": [HI, YO, HI, YO]}, (user("hi"), assistant("yo")) * 2),
    "system first": ({"messages": [{"role": "system", "content": "s"}, HI, YO]}, (system("s"), user("hi"), assistant("yo"))),
    "developer is system": ({"messages": [{"role": "developer", "content": "s"}, HI, YO]}, (system("s"), user("hi"), assistant("yo"))),
    "system beside": ({"messages": [HI, YO], "system": "s"}, (system("s"), user("hi"), assistant("yo"))),
    "the same system twice": ({"messages": [{"role": "system", "content": "s"}, HI, YO], "system": "s"}, (system("s"), user("hi"), assistant("yo"))),
    "no system": ({"messages": [HI, YO], "system": None}, (user("hi"), assistant("yo"))),
    "a blank system": ({"prompt": "hi", "completion": "yo", "system": " "}, (user("hi"), assistant("yo"))),
    "prompt and completion": ({"prompt": "hi", "completion": "yo"}, (user("hi"), assistant("yo"))),
    "prompt, completion, system": ({"prompt": "hi", "completion": "yo", "system": "s"}, (system("s"), user("hi"), assistant("yo"))),
    "prompt of messages": ({"prompt": [HI, YO, HI], "completion": [YO]}, (user("hi"), assistant("yo")) * 2),
    "prompt of messages, completion of text": ({"prompt": [HI], "completion": "yo"}, (user("hi"), assistant("yo"))),
    "Alpaca": ({"instruction": "add", "input": "1, 2", "output": "3"}, (user("add\n\n1, 2"), assistant("3"))),
    "Alpaca without input": ({"instruction": "say yo", "input": "", "output": "yo"}, (user("say yo"), assistant("yo"))),
    "Alpaca with system": ({"instruction": "say yo", "output": "yo", "system": "s"}, (system("s"), user("say yo"), assistant("yo"))),
    "question and answer": ({"question": "hi", "answer": "yo"}, (user("hi"), assistant("yo"))),
    "parts of text": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}, YO]},
        (user("hi"), assistant("yo")),
    ),
    "blanks are kept": ({"prompt": " hi\n", "completion": "\n yo "}, (user(" hi\n"), assistant("\n yo "))),
    "a thought apart": (
        {"messages": [HI, YO | {"reasoning_content": "hm\n"}]},
        (user("hi"), assistant("<think>\nhm\n</think>\n\nyo")),
    ),
    "an empty thought apart": ({"messages": [HI, YO | {"reasoning_content": ""}]}, (user("hi"), assistant("yo"))),
    "a thought of the user's is no thought": ({"messages": [HI | {"thinking": "hm"}, YO]}, (user("hi"), assistant("yo"))),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_row_in_this_form_is_these_messages(form: str, tmp_path: Path) -> None:
    row, messages = FORMS[form]
    assert read(tmp_path, row).messages == messages


CALL = ToolCall("add", {"a": 1}, "c1")


@pytest.mark.parametrize(
    ("turn", "call"),
    [
        (called(), CALL),
        (called({"a": 1}), CALL),
        (called(""), ToolCall("add", {}, "c1")),
        (called(None), ToolCall("add", {}, "c1")),
        ({"role": "assistant", "content": "", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]}, ToolCall("add", {"a": 1})),
    ],
    ids=["JSON as text", "an object", "empty text", "none", "without a function of its own"],
)
def test_a_tools_call_is_read_whatever_its_arguments_are_written_in(turn: dict[str, Any], call: ToolCall, tmp_path: Path) -> None:
    conversation = read(tmp_path, {"messages": [HI, turn, ANSWERED, YO], "tools": [ADD]})
    assert conversation.messages == (user("hi"), assistant("", call), Message("tool", "2", (), "c1"), assistant("yo"))
    assert conversation.tools == (ADD,)


def test_several_calls_are_answered_one_by_one_and_words_may_stand_beside_them(tmp_path: Path) -> None:
    twice = called(content="Well.", tool_calls=called()["tool_calls"] * 2)
    messages = read(tmp_path, {"messages": [HI, twice, ANSWERED, ANSWERED, YO]}).messages
    assert messages[1] == assistant("Well.", CALL, CALL) and [m.role for m in messages] == ["user", "assistant", "tool", "tool", "assistant"]


def test_a_conversation_may_end_with_a_call_and_an_answer_may_be_empty(tmp_path: Path) -> None:
    assert read(tmp_path, {"messages": [HI, called()]}).messages[-1].tool_calls == (CALL,)
    assert read(tmp_path, {"messages": [HI, called(), ANSWERED | {"content": ""}, YO]}).messages[2].content == ""


def test_turns_of_weight_0_are_only_read(tmp_path: Path) -> None:
    silent, loud = YO | {"weight": 0}, YO | {"weight": 1}
    assert read(tmp_path, {"messages": [HI, silent, HI, loud]}).only_read == (1,)
    assert read(tmp_path, {"messages": [HI, silent, HI, loud], "system": "s"}).only_read == (2,)
    assert read(tmp_path, {"messages": [HI | {"weight": 0}, YO]}).only_read == ()


def test_a_conversation_is_called_by_its_id_or_by_its_place(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"id": 7, "prompt": "hi", "completion": "yo"}, "", {"prompt": "hi", "completion": "yo"})
    assert [c.id for c in load_conversations(path).items] == ["7", f"{path} line 3"]


def test_a_gzipped_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"prompt": "hi", "completion": "yo"}).encode()))
    assert load_conversations(path).items[0].messages == (user("hi"), assistant("yo"))


# ---------------------------------------------------------------------------------------------------------------- refusals


REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": ('{"prompt": "hi"', "is not JSON"),
    "no object": ("[1]", "is not a JSON object but list"),
    "no conversation": ({"text": "hi"}, "has no conversation: it needs messages, or prompt and completion, and has text"),
    "half a pair": ({"prompt": "hi"}, "has no conversation"),
    "nothing": ({}, "and has nothing"),
    "no messages": ({"messages": []}, "neither text nor messages"),
    "messages that are a number": ({"messages": 5}, "neither text nor messages"),
    "only a text": ({"messages": "hi"}, "has no turn of the assistant"),
    "no assistant": ({"messages": [HI]}, "has no turn of the assistant"),
    "ends in a user's turn": ({"messages": [HI, YO, HI]}, "ends in a turn of the user, not of the assistant"),
    "ends in a tool's answer": ({"messages": [HI, called(), ANSWERED]}, "ends in a turn of the tool"),
    "the assistant speaks first": ({"messages": [YO, HI, YO]}, "has an assistant who speaks before anybody else"),
    "behind the system only": ({"messages": [{"role": "system", "content": "s"}, YO]}, "has an assistant who speaks before anybody else"),
    "a system message later": ({"messages": [HI, YO, {"role": "system", "content": "s"}, HI, YO]}, "has a system message that is not the first"),
    "two systems": ({"messages": [{"role": "system", "content": "s"}, HI, YO], "system": "t"}, "has a system text beside its messages and another"),
    "a system that is no text": ({"prompt": "hi", "completion": "yo", "system": ["s"]}, "has no text as system"),
    "two users": ({"messages": [HI, HI, YO]}, "has two turns of the user in a row"),
    "two assistants": ({"messages": [HI, YO, YO]}, "has two turns of the assistant in a row"),
    "a prompt that ends with the assistant": ({"prompt": [HI, YO], "completion": "yo"}, "has two turns of the assistant in a row"),
    "an unknown role": ({"messages": [{"role": "human", "content": "hi"}, YO]}, "unknown role ('human')"),
    "no role": ({"messages": [{"content": "hi"}, YO]}, "unknown role (None)"),
    "a message that is a text": ({"messages": ["hi", YO]}, "not an object with role and content"),
    "an empty message": ({"messages": [HI | {"content": ""}, YO]}, "has an empty user's message"),
    "a blank answer": ({"messages": [HI, YO | {"content": " \n"}]}, "has an empty assistant's message"),
    "no content": ({"messages": [HI, {"role": "assistant"}]}, "has no text as assistant's message"),
    "a number for an answer": ({"prompt": "hi", "completion": 5}, "neither text nor messages"),
    "an empty prompt": ({"prompt": "", "completion": "yo"}, "has an empty user"),
    "an empty output": ({"instruction": "hi", "output": ""}, "has an empty output"),
    "an input that is no text": ({"instruction": "hi", "input": 5, "output": "yo"}, "has no text as input"),
    "a picture": ({"messages": [HI | {"content": [{"type": "image_url", "image_url": {}}]}, YO]}, "parts other than text"),
    "an answer nobody called for": ({"messages": [HI, ANSWERED, YO]}, "has a tool's answer that nobody called for"),
    "one answer too many": ({"messages": [HI, called(), ANSWERED, ANSWERED, YO]}, "has a tool's answer that nobody called for"),
    "a call without an answer": ({"messages": [HI, called(), HI, YO]}, "has a tool's call that is never answered"),
    "one answer too few": ({"messages": [HI, called(tool_calls=called()["tool_calls"] * 2), ANSWERED, YO]}, "has a tool's call that is never answered"),
    "a call by the user": ({"messages": [HI | {"tool_calls": called()["tool_calls"]}, YO]}, "has a call of a tool by the user"),
    "a call without a name": ({"messages": [HI, called(tool_calls=[{"function": {"arguments": "{}"}}])]}, "has a tool's call without a name"),
    "calls that are no list": ({"messages": [HI, called(tool_calls=5)]}, "has tool_calls that are not a list"),
    "arguments that are no JSON": ({"messages": [HI, called("{a: 1}")]}, "whose arguments are not an object"),
    "arguments that are a list": ({"messages": [HI, called("[1]")]}, "whose arguments are not an object"),
    "the old form of a call": ({"messages": [HI, YO | {"function_call": {"name": "add"}}]}, "write it as tool_calls"),
    "tools that are no list": ({"messages": [HI, YO], "tools": "add"}, "has tools that are not a list of descriptions"),
    "a weight of a half": ({"messages": [HI, YO | {"weight": 0.5}]}, "whose weight is neither 0 nor 1"),
    "no weight at all": ({"messages": [HI, YO | {"weight": 0}]}, "has no turn of the assistant that is to be learned: all have weight 0"),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_a_line_of_this_kind_is_refused_in_one_sentence_with_its_number(reason: str, tmp_path: Path) -> None:
    row, words = REFUSED[reason]
    path = file_of(tmp_path, {"prompt": "hi", "completion": "yo"}, row)
    with pytest.raises(UserError) as error:
        load_conversations(path)
    assert f"{path} line 2" in str(error.value) and words in str(error.value) and "\n" not in str(error.value)


def test_unusable_lines_are_left_out_and_counted_by_reason_if_one_says_so(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"messages": [HI]}, {"prompt": "hi", "completion": "yo"}, {"messages": [HI]}, {"messages": [HI, YO, HI]})
    loaded = load_conversations(path, "drop")
    assert [c.id for c in loaded.items] == [f"{path} line 2"]
    assert loaded.dropped == {"has no turn of the assistant": 2, "ends in a turn of the user, not of the assistant": 1}
    assert str(loaded) == "1 used, left out: 2 has no turn of the assistant, 1 ends in a turn of the user, not of the assistant"


def test_a_file_in_which_nothing_can_be_used_is_refused(tmp_path: Path) -> None:
    for rows in ((), ({"messages": [HI]},)):
        with pytest.raises(UserError, match="holds nothing that can be used"):
            load_conversations(file_of(tmp_path, *rows), "drop")
    with pytest.raises(UserError, match=r"cannot read .*none.jsonl"):
        load_conversations(tmp_path / "none.jsonl")


KEYS = ("messages", "prompt", "completion", "instruction", "input", "output", "question", "answer", "system", "tools", "id")
TURN_KEYS = ("role", "content", "tool_calls", "tool_call_id", "function_call", "weight", "thinking", "name", "function", "arguments", "type", "text")
WORDS = st.sampled_from(["user", "assistant", "tool", "system", "text", "", "{}", "[1]", "[" * 5000, "hi"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TURN_KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(KEYS), anything, max_size=4))
def test_no_row_of_json_whatever_it_holds_ends_in_anything_but_a_conversation_or_a_reason(row: dict[str, Any]) -> None:
    try:
        (made,) = load_rows_of(row)
    except UserError as reason:
        assert "line 1" in str(reason)
    else:
        assert made.messages[-1].role == "assistant" and all(isinstance(m.content, str) for m in made.messages)


def load_rows_of(row: dict[str, Any]) -> list[Conversation]:
    with NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        return load_conversations(file.name).items


# ----------------------------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": "hi"}, (user("hi"),)),
        ({"prompt": "hi", "completion": "yo", "system": "s"}, (system("s"), user("hi"))),
        ({"prompt": [HI, YO, HI]}, (user("hi"), assistant("yo"), user("hi"))),
        ({"messages": [HI, YO, HI, YO]}, (user("hi"), assistant("yo"), user("hi"))),
        ({"messages": [HI, called(), ANSWERED]}, (user("hi"), assistant("", CALL), Message("tool", "2", (), "c1"))),
        ({"instruction": "add", "input": "1"}, (user("add\n\n1"),)),
        ({"question": "hi"}, (user("hi"),)),
    ],
)
def test_a_prompt_is_what_stands_before_the_last_answer(row: dict[str, Any], messages: tuple[Message, ...], tmp_path: Path) -> None:
    (prompt,) = load_prompts(file_of(tmp_path, row)).items
    assert prompt.messages == messages


@pytest.mark.parametrize("row", [{"text": "hi"}, {"prompt": ""}, {"messages": [YO]}, {"messages": [{"role": "system", "content": "s"}]}])
def test_a_row_without_a_prompt_is_refused(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: has no prompt"):
        load_prompts(file_of(tmp_path, row))
