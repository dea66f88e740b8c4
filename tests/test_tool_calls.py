"""Calls of tools come back from the tokens that they were written in, and what is no call is told to the model in a sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.renderer import Renderer
from posttrain.tool_calls import read_bare, read_brackets, read_tags
from posttrain.types import Message, ToolCall, UserError
from tests.golden_masks.formats import FORMATS, renderer
from tests.test_renderer import IM, tokenizer

ASKED = (Message("user", "2+3?"),)
TOOLS = ({"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}},)
MISTRAL = (
    "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }}[/INST]"
    "{% elif m['role'] == 'tool' %}[TOOL_RESULTS] {{ {'content': m['content'], 'call_id': m['tool_call_id']} | tojson }}[/TOOL_RESULTS]"
    "{% elif m['tool_calls'] is defined %}[TOOL_CALLS] ["
    "{% for c in m['tool_calls'] %}{{ {'name': c.function.name, 'arguments': c.function.arguments, 'id': c.id} | tojson }}"
    "{{ ', ' if not loop.last }}{% endfor %}]{{ eos_token }}"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
"""In Mistral's manner; its own puts the tools before the last message of the user."""
UNHEARD_OF = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}({{ c.function.name }} {{ c.function.arguments | tojson }}){% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{{ tools or '' }}"
)
RENDERERS = {name: renderer(name) for name in FORMATS} | {"mistral": Renderer(tokenizer(MISTRAL, ["<s>", "</s>"], "</s>", "<s>"))}
every_renderer = pytest.mark.parametrize("name", RENDERERS)

words = st.text(st.characters(codec="utf-8"), max_size=12)
values = st.recursive(st.none() | st.booleans() | st.integers(-(10**9), 10**9) | words, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
calls = st.builds(ToolCall, st.sampled_from(["add", "web-fetch", "read_file"]), st.dictionaries(words, values, max_size=3), st.just("a23456789"))


def own_tokens(made: Renderer, message: Message) -> list[int]:
    """The tokens in which the assistant says this, its end of turn included."""
    rendered = made.documents((*ASKED, message))[-1]
    return [t for t, mark in zip(rendered.token_ids, rendered.trained, strict=True) if mark]


def said(message: Message) -> list[tuple[str, dict]]:
    return [(call.name, dict(call.arguments)) for call in message.tool_calls]


@every_renderer
@given(call=calls)
def test_a_call_comes_back_from_the_tokens_that_the_template_writes_it_in(name: str, call: ToolCall) -> None:
    made, message = RENDERERS[name], Message("assistant", "", (call,))
    found = made.parse(own_tokens(made, message), TOOLS)
    assert said(found) == said(message) and found.content == ""


@pytest.mark.parametrize("name", ["smollm2", "qwen2_5", "qwen3", "gemma2", "gemma3"])
def test_words_and_several_calls_come_back_in_order(name: str) -> None:
    message = Message("assistant", "Let me see.", (ToolCall("add", {"a": 1}), ToolCall("add", {"a": "</tool_call>"})))
    made = RENDERERS[name]
    assert made.parse(own_tokens(made, message), TOOLS) == message


@every_renderer
def test_where_no_tools_were_offered_nothing_is_a_call(name: str) -> None:
    made = RENDERERS[name]
    tokens = own_tokens(made, Message("assistant", "", (ToolCall("add", {"a": 1}, "a23456789"),)))
    assert made.parse(tokens) == Message("assistant", made.decode(tokens[:-1]))


@every_renderer
def test_an_answer_is_no_call(name: str) -> None:
    made = RENDERERS[name]
    for text in ("It is 5.", '{"answer": 5}', "a < b", "[1, 2]"):
        read = made.read(own_tokens(made, Message("assistant", text)), TOOLS)
        assert read.content.strip() == text and not (read.calls or read.complaints)


def test_a_template_whose_calls_cannot_be_read_back_is_refused_when_tools_are_offered() -> None:
    made = Renderer(tokenizer(UNHEARD_OF, IM, "<|im_end|>"))
    assert made.parse(made.encode("hi")) == Message("assistant", "hi")
    with pytest.raises(UserError, match="form that cannot be read back"):
        made.parse(made.encode("hi"), TOOLS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<tool_call>add(2, 3)</tool_call>", "not JSON"),
        ('<tool_call>{"name": "add", "arguments": {"a": 1}</tool_call>', "not JSON"),
        ('<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>', "NaN"),
        ('<tool_call>{"arguments": {}}</tool_call>', "no name"),
        ('<tool_call>{"name": "add", "arguments": [1]}</tool_call>', "arguments are not an object"),
        ("<tool_call>5</tool_call>", "not an object"),
        ('<tool_call>{"name": "add", "arguments": {"a": "\\ud800"}}</tool_call>', "half a character"),
        ("<tool_call>" + "[" * 100_000, "nested too deep|not JSON"),
        ('<tool_call>{"name": "add"} and so on', "</tool_call> is missing"),
        ("<tool_call>", "not JSON"),
    ],
)
def test_a_call_that_cannot_be_read_stays_in_the_words_and_is_complained_of(text: str, complaint: str) -> None:
    read = read_tags(f"Well.\n{text}")
    assert not read.calls and read.content == f"Well.\n{text}"
    (told,) = read.complaints
    assert told.startswith("Your call could not be read: ")
    assert any(part in told for part in complaint.split("|"))


def test_good_calls_are_run_though_another_cannot_be_read() -> None:
    read = read_tags('<tool_call>{"name": "a"}</tool_call>\n<tool_call>?</tool_call>\n<tool_call>{"name": "b", "arguments": "{\\"x\\": 1}"}')
    assert read.calls == (ToolCall("a", {}), ToolCall("b", {"x": 1}))
    assert len(read.complaints) == 1 and read.content == "<tool_call>?</tool_call>"


def test_llamas_call_is_the_whole_turn() -> None:
    call = '{"name": "add", "parameters": {"a": 2}}'
    assert read_bare(f"<|python_tag|>{call}").calls == read_bare(f" {call}\n").calls == (ToolCall("add", {"a": 2}),)
    assert "behind its end" in read_bare(f"{call}; {call}").complaints[0]
    assert read_bare("<|python_tag|>print(1)").complaints and read_bare(call[:-1]).complaints
    assert not read_bare(f"Use {call}").calls


def test_mistrals_calls_are_a_list_or_each_behind_its_name() -> None:
    listed = json.dumps([{"name": "add", "arguments": {"a": 2}, "id": "abc123def"}, {"name": "sub", "arguments": {}}])
    assert read_brackets(f"Hm.[TOOL_CALLS] {listed}").calls == (ToolCall("add", {"a": 2}, "abc123def"), ToolCall("sub", {}))
    named = '[TOOL_CALLS]add[ARGS]{"a": 2}[TOOL_CALLS]sub[CALL_ID]abc123def[ARGS]{}'
    assert read_brackets(named).calls == (ToolCall("add", {"a": 2}), ToolCall("sub", {}, "abc123def"))
    assert read_brackets("[TOOL_CALLS] add 2").complaints and read_brackets("[TOOL_CALLS] [1]").complaints


# ------------------------------------------------------------------------------------------------------ what is read next


CALL = Message("assistant", "", (ToolCall("add", {"a": 2}, "a23456789"),))
TOLD = (Message("tool", "5", (), "a23456789"),)


@every_renderer
def test_what_was_read_and_written_stands_at_the_beginning_of_what_is_read_next(name: str) -> None:
    made = RENDERERS[name]
    written = own_tokens(made, CALL)
    seen = (*made.prompt(ASKED, TOOLS), *written)
    after = made.prompt_after(seen, ASKED, made.parse(written, TOOLS), TOLD, TOOLS)
    assert after[: len(seen)] == seen and len(after) > len(seen)
    assert made.decode(after) == made.decode(made.prompt((*ASKED, CALL, *TOLD), TOOLS))


@pytest.mark.parametrize("name", ["smollm2", "qwen2_5", "qwen3", "gemma3"])
def test_a_call_is_never_spelled_anew(name: str) -> None:
    made = RENDERERS[name]
    odd = '<tool_call>{"arguments":{"a":2},   "name":"add"}</tool_call>'
    written = (*made.encode(odd), made.stop_token_ids[0])
    seen = (*made.prompt(ASKED, TOOLS), *written)
    after = made.prompt_after(seen, ASKED, made.parse(written, TOOLS), TOLD, TOOLS)
    usual = made.prompt((*ASKED, CALL, *TOLD), TOOLS)
    assert after[: len(seen)] == seen and after != usual
    assert made.decode(usual).endswith(made.decode(after[len(seen) :]))


def test_a_conversation_that_the_template_rewrites_is_read_anew() -> None:
    made = RENDERERS["qwen3"]
    thought = Message("assistant", "<think>\nhm\n</think>\n\nyo")
    seen = (*made.prompt(ASKED), *own_tokens(made, thought))
    again = made.prompt_after(seen, ASKED, thought, (Message("user", "more"),))
    assert again == made.prompt((*ASKED, thought, Message("user", "more"))) and "hm" not in made.decode(again)
    kept = made.prompt_after(seen, ASKED, thought, TOLD)
    assert kept[: len(seen)] == seen, "a tool's answer is no new question: the thought stays"
