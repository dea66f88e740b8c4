"""What is read and what is learned, by hand, for the chat formats of SmolLM2, Qwen2.5, Qwen3, Llama 3.2, Gemma 2 and Gemma 3."""

from __future__ import annotations

import pytest
import torch

from posttrain.batching import TokenSequence, pack
from posttrain.data.conversations import Conversation
from posttrain.data.pairs import Pair
from posttrain.renderer import Rendered, Renderer
from posttrain.training.pairs import PairTokens
from posttrain.training.texts import completion, sequences
from posttrain.types import Message, ToolCall, UserError
from tests.golden_masks.formats import FORMATS, renderer, shown, tokens


def system(content: str) -> Message:
    return Message("system", content)


def user(content: str) -> Message:
    return Message("user", content)


def assistant(content: str, *calls: ToolCall) -> Message:
    return Message("assistant", content, calls)


def tool(content: str) -> Message:
    return Message("tool", content)


ONE = (user("hi"), assistant("yo"))
TWO = (*ONE, user("more"), assistant("no"))
TOLD = (system("Be brief."), *TWO)
CALL = (user("2+3?"), assistant("", ToolCall("add", {"a": 2, "b": 3})), tool("5"), assistant("It is 5."))
TWO_CALLS = (user("?"), assistant("Well.", ToolCall("add", {"a": 2}), ToolCall("add", {"a": 3})), tool("5"), tool("6"), assistant("5, 6"))
THOUGHTS = (user("hi"), assistant("<think>\nhm\n</think>\n\nyo"), user("more"), assistant("<think>\nha\n</think>\n\nno"))
ADDING = assistant("<think>\nadd\n</think>\n\n", ToolCall("add", {"a": 2}))
THOUGHT_AND_CALL = (user("2+3?"), ADDING, tool("5"), assistant("<think>\nso\n</think>\n\n5"))
EMPTY_THOUGHT = (user("hi"), assistant("<think>\n\n</think>\n\nyo"))
ADD = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}}
ADD_LINE = '{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}}'

SMOL = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
QWEN = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
LLAMA = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
DATED = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
IN_WORDS = (
    "You can call tools. To call one, write its name and its arguments as JSON between these tags:\n"
    '<tool_call>\n{"name": "…", "arguments": {…}}\n</tool_call>\n'
    "Its answer comes back between <tool_response> tags. Your tools, one a line:\n"
    f"<tools>\n{ADD_LINE}\n</tools>"
)
QWEN_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    f"You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{ADD_LINE}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
)
LLAMA_TOOLS = """\
Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers the given prompt.

Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.Do not use variables.

{
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "properties": {}
        }
    }
}

"""

U, A, E = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"
"""ChatML: how a user's turn and the assistant's begin, and how a turn ends."""
LU, LA, LE = "<|start_header_id|>user<|end_header_id|>\n\n", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"
GU, GM, GE = "<start_of_turn>user\n", "<start_of_turn>model\n", "<end_of_turn>\n"
CHATML_TWO = f"{U}hi{E}{A}⟦yo<|im_end|>⟧\n{U}more{E}{A}⟦no<|im_end|>⟧\n"
CHATML_CALL = '⟦<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call><|im_end|>⟧\n'
CHATML_ANSWER = f"{U}<tool_response>\n5\n</tool_response>{E}"
NO_THOUGHT = "<think>\n\n</think>\n\n"

GOLDEN = {
    # SmolLM2: a system message of its own where there is none; tools only in words.
    "smollm2: one turn": (ONE, [f"{SMOL}{U}hi{E}{A}⟦yo<|im_end|>⟧\n"]),
    "smollm2: two turns": (TWO, [SMOL + CHATML_TWO]),
    "smollm2: system": (TOLD, [f"<|im_start|>system\nBe brief.{E}{CHATML_TWO}"]),
    "smollm2: ends with the user": ((*ONE, user("more")), [f"{SMOL}{U}hi{E}{A}⟦yo<|im_end|>⟧\n"]),
    "smollm2: call": (CALL, [f"{SMOL}{U}{IN_WORDS}\n\n2+3?{E}{A}{CHATML_CALL}{CHATML_ANSWER}{A}⟦It is 5.<|im_end|>⟧\n"]),
    "smollm2: call under a system message": (
        (system("Be brief."), *CALL),
        [f"<|im_start|>system\nBe brief.\n\n{IN_WORDS}{E}{U}2+3?{E}{A}{CHATML_CALL}{CHATML_ANSWER}{A}⟦It is 5.<|im_end|>⟧\n"],
    ),
    "smollm2: a thought is text like any other": (THOUGHTS[:2], [f"{SMOL}{U}hi{E}{A}⟦<think>\nhm\n</think>\n\nyo<|im_end|>⟧\n"]),
    # Qwen2.5: tools of its own, the answers of which are a user's turn.
    "qwen2_5: one turn": (ONE, [f"{QWEN}{U}hi{E}{A}⟦yo<|im_end|>⟧\n"]),
    "qwen2_5: two turns": (TWO, [QWEN + CHATML_TWO]),
    "qwen2_5: system": (TOLD, [f"<|im_start|>system\nBe brief.{E}{CHATML_TWO}"]),
    "qwen2_5: call": (
        CALL,
        [
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n"
            f"{QWEN_TOOLS}{U}2+3?{E}{A}{CHATML_CALL}{CHATML_ANSWER}{A}⟦It is 5.<|im_end|>⟧\n"
        ],
    ),
    "qwen2_5: two calls at once": (
        TWO_CALLS,
        [
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n"
            f'{QWEN_TOOLS}{U}?{E}{A}⟦Well.\n<tool_call>\n{{"name": "add", "arguments": {{"a": 2}}}}\n</tool_call>\n'
            '<tool_call>\n{"name": "add", "arguments": {"a": 3}}\n</tool_call><|im_end|>⟧\n'
            f"{U}<tool_response>\n5\n</tool_response>\n<tool_response>\n6\n</tool_response>{E}{A}⟦5, 6<|im_end|>⟧\n"
        ],
    ),
    # Qwen3: an empty thought before the last answer, put there by the template; thoughts are forgotten once the user speaks again.
    "qwen3: one turn": (ONE, [f"{U}hi{E}{A}{NO_THOUGHT}⟦yo<|im_end|>⟧\n"]),
    "qwen3: two turns": (TWO, [f"{U}hi{E}{A}{NO_THOUGHT}⟦yo<|im_end|>⟧\n", f"{U}hi{E}{A}yo{E}{U}more{E}{A}{NO_THOUGHT}⟦no<|im_end|>⟧\n"]),
    "qwen3: system": (
        TOLD,
        [
            f"<|im_start|>system\nBe brief.{E}{U}hi{E}{A}{NO_THOUGHT}⟦yo<|im_end|>⟧\n",
            f"<|im_start|>system\nBe brief.{E}{U}hi{E}{A}yo{E}{U}more{E}{A}{NO_THOUGHT}⟦no<|im_end|>⟧\n",
        ],
    ),
    "qwen3: thoughts": (
        THOUGHTS,
        [
            f"{U}hi{E}{A}⟦<think>\nhm\n</think>\n\nyo<|im_end|>⟧\n",
            f"{U}hi{E}{A}yo{E}{U}more{E}{A}⟦<think>\nha\n</think>\n\nno<|im_end|>⟧\n",
        ],
    ),
    "qwen3: an empty thought of the assistant's": (EMPTY_THOUGHT, [f"{U}hi{E}{A}⟦<think>\n\n</think>\n\nyo<|im_end|>⟧\n"]),
    "qwen3: call": (
        CALL,
        [
            f"<|im_start|>system\n{QWEN_TOOLS}{U}2+3?{E}{A}{NO_THOUGHT}{CHATML_CALL}",
            f"<|im_start|>system\n{QWEN_TOOLS}{U}2+3?{E}{A}{CHATML_CALL.replace('⟦', '').replace('⟧', '')}"
            f"{CHATML_ANSWER}{A}{NO_THOUGHT}⟦It is 5.<|im_end|>⟧\n",
        ],
    ),
    "qwen3: thoughts are kept while tools answer": (
        THOUGHT_AND_CALL,
        [
            f"<|im_start|>system\n{QWEN_TOOLS}{U}2+3?{E}{A}"
            '⟦<think>\nadd\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call><|im_end|>⟧\n'
            f"{CHATML_ANSWER}{A}⟦<think>\nso\n</think>\n\n5<|im_end|>⟧\n"
        ],
    ),
    # Llama 3.2: one token opens the text; the date stands still; tools come with the first question, and answer as ipython.
    "llama3_2: one turn": (ONE, [f"{LLAMA}{DATED}{LE}{LU}hi{LE}{LA}⟦yo{LE}⟧"]),
    "llama3_2: two turns": (TWO, [f"{LLAMA}{DATED}{LE}{LU}hi{LE}{LA}⟦yo{LE}⟧{LU}more{LE}{LA}⟦no{LE}⟧"]),
    "llama3_2: system": (TOLD, [f"{LLAMA}{DATED}Be brief.{LE}{LU}hi{LE}{LA}⟦yo{LE}⟧{LU}more{LE}{LA}⟦no{LE}⟧"]),
    "llama3_2: call": (
        CALL,
        [
            f"{LLAMA}Environment: ipython\n{DATED}{LE}{LU}{LLAMA_TOOLS}2+3?{LE}"
            f'{LA}⟦{{"name": "add", "parameters": {{"a": 2, "b": 3}}}}{LE}⟧'
            f'<|start_header_id|>ipython<|end_header_id|>\n\n"5"{LE}{LA}⟦It is 5.{LE}⟧'
        ],
    ),
    # Gemma 2: the assistant is called model; no system; tools only in words.
    "gemma2: one turn": (ONE, [f"<bos>{GU}hi{GE}{GM}⟦yo<end_of_turn>⟧\n"]),
    "gemma2: two turns": (TWO, [f"<bos>{GU}hi{GE}{GM}⟦yo<end_of_turn>⟧\n{GU}more{GE}{GM}⟦no<end_of_turn>⟧\n"]),
    "gemma2: call": (
        CALL,
        [
            f"<bos>{GU}{IN_WORDS}\n\n2+3?{GE}{GM}"
            '⟦<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call><end_of_turn>⟧\n'
            f"{GU}<tool_response>\n5\n</tool_response>{GE}{GM}⟦It is 5.<end_of_turn>⟧\n"
        ],
    ),
    # Gemma 3: the system message stands in the user's first turn.
    "gemma3: one turn": (ONE, [f"<bos>{GU}hi{GE}{GM}⟦yo<end_of_turn>⟧\n"]),
    "gemma3: system": (TOLD, [f"<bos>{GU}Be brief.\n\nhi{GE}{GM}⟦yo<end_of_turn>⟧\n{GU}more{GE}{GM}⟦no<end_of_turn>⟧\n"]),
    "gemma3: two calls at once, under a system message": (
        (system("Be brief."), *TWO_CALLS),
        [
            f"<bos>{GU}Be brief.\n\n{IN_WORDS}\n\n?{GE}{GM}"
            '⟦Well.\n<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>\n'
            '<tool_call>\n{"name": "add", "arguments": {"a": 3}}\n</tool_call><end_of_turn>⟧\n'
            f"{GU}<tool_response>\n5\n</tool_response>\n<tool_response>\n6\n</tool_response>{GE}{GM}⟦5, 6<end_of_turn>⟧\n"
        ],
    ),
}
"""Conversations, and the texts that they become, with what is trained in ⟦ ⟧."""

every_row = pytest.mark.parametrize("row", GOLDEN)
every_format = pytest.mark.parametrize("name", FORMATS)


def golden(row: str) -> tuple[str, Conversation, list[str]]:
    """The format, the conversation (with the tool, where one is called) and the texts."""
    messages, texts = GOLDEN[row]
    return row.split(":")[0], Conversation(row, messages, (ADD,) if any(m.tool_calls for m in messages) else ()), texts


def as_rendered(sequence: TokenSequence) -> Rendered:
    return Rendered(sequence.prompt + sequence.tokens, (False,) * len(sequence.prompt) + sequence.predicted)


def words_of(format_name: str) -> list[str]:
    """The format's texts in the table, for a tokenizer to learn merges from."""
    return [text for row in GOLDEN if row.startswith(f"{format_name}:") for text in golden(row)[2]]


# ---------------------------------------------------------------------------------------------------------------- the masks


@every_row
def test_the_tokens_and_their_marks_are_those_of_the_table(row: str) -> None:
    name, conversation, texts = golden(row)
    over_bytes = renderer(name)
    found = over_bytes.documents(conversation.messages, conversation.tools)
    assert [list(zip(part.token_ids, part.trained, strict=True)) for part in found] == [tokens(over_bytes, text) for text in texts]


@every_row
def test_the_marks_stand_in_the_same_places_whatever_the_tokenizer_merges(row: str) -> None:
    name, conversation, texts = golden(row)
    merging = renderer(name, words_of(name))
    assert merging.encode(" brief") != renderer(name).encode(" brief")
    assert [shown(merging, part) for part in merging.documents(conversation.messages, conversation.tools)] == texts


@every_row
def test_sft_learns_what_the_table_marks_and_every_answer_once(row: str) -> None:
    name, conversation, texts = golden(row)
    over_bytes = renderer(name)
    made = sequences(over_bytes, conversation)
    assert [shown(over_bytes, as_rendered(s)) for s in made] == texts
    assert sum(s.n_predicted for s in made) == sum(trained for text in texts for _, trained in tokens(over_bytes, text))
    assert sum(over_bytes.stop_token_ids[0] == t for s in made for t in _learned(s)) == sum(m.role == "assistant" for m in conversation.messages)


def _learned(sequence: TokenSequence) -> list[int]:
    return [t for t, mark in zip(sequence.tokens, sequence.predicted, strict=True) if mark]


@every_row
def test_a_text_that_the_template_does_not_rewrite_is_one_and_the_others_are_refused_as_one(row: str) -> None:
    name, conversation, texts = golden(row)
    over_bytes = renderer(name)
    if len(texts) == 1 and conversation.messages[-1].role == "assistant":
        assert [over_bytes.render(conversation.messages, conversation.tools)] == over_bytes.documents(conversation.messages, conversation.tools)
    elif len(texts) > 1:
        with pytest.raises(UserError, match="rewrites earlier turns"):
            over_bytes.render(conversation.messages, conversation.tools)


@every_row
def test_every_text_is_opened_at_most_once(row: str) -> None:
    name, conversation, _ = golden(row)
    over_bytes = renderer(name)
    bos = over_bytes.tokenizer.bos_token_id
    for part in over_bytes.documents(conversation.messages, conversation.tools):
        if FORMATS[name].opens:
            assert part.token_ids[0] == bos and part.token_ids.count(bos) == 1


@every_row
def test_an_answer_stands_behind_what_the_sampler_reads_and_at_most_an_empty_thought(row: str) -> None:
    name, conversation, _ = golden(row)
    merging = renderer(name, words_of(name))
    for i in (i for i, message in enumerate(conversation.messages) if message.role == "assistant"):
        read = merging.prompt(conversation.messages[:i], conversation.tools)
        made = completion(merging, conversation.messages[:i], conversation.messages[i : i + 1], conversation.tools)
        assert made.prompt == read
        assert merging.decode(made.tokens[: made.predicted.index(True)]) in ("", NO_THOUGHT)


@every_format
def test_a_system_message_where_the_format_has_none_is_refused_in_one_sentence(name: str) -> None:
    if name == "gemma2":
        with pytest.raises(UserError, match="System role not supported"):
            renderer(name).documents(TOLD)
    else:
        assert renderer(name).documents(TOLD)


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("smollm2", ["<|im_end|>"]),
        ("qwen2_5", ["<|im_end|>"]),
        ("qwen3", ["<|im_end|>"]),
        ("llama3_2", ["<|eot_id|>", "<|eom_id|>"]),
        ("gemma2", ["<end_of_turn>", "<eos>"]),
        ("gemma3", ["<end_of_turn>", "<eos>"]),
    ],
)
def test_the_turn_ends_where_the_format_ends_it(name: str, stops: list[str]) -> None:
    assert list(renderer(name).stop_token_ids) == renderer(name).tokenizer.convert_tokens_to_ids(stops)


def test_which_formats_write_tools_themselves() -> None:
    assert {name for name in FORMATS if renderer(name).writes_tools} == {"qwen2_5", "qwen3", "llama3_2"}


def test_words_that_a_template_would_leave_out_are_refused_rather_than_not_learned() -> None:
    said = (user("?"), assistant("Let me see.", ToolCall("add", {"a": 2})), tool("5"), assistant("5"))
    with pytest.raises(UserError, match="leaves out part of message 2"):
        renderer("llama3_2").documents(said, (ADD,))
    assert renderer("qwen2_5").documents(said, (ADD,))


def test_the_date_is_the_same_every_day() -> None:
    assert "Today Date: 26 Jul 2024" in renderer("llama3_2").decode(renderer("llama3_2").prompt(ONE[:1]))


# ------------------------------------------------------------------------------------------------------ where texts meet


ANSWERS = ["  two", "    return x", "\nnext", "\n\n  then", " ", "\tx", "日本", "👩‍👩‍👧 family", "\u3000wide", "no\n\n", "-1", "'s"]
"""Some tokenizer joins the beginning of each with the end of a prompt."""


def joining(name: str) -> Renderer:
    """The format with merges of newlines and blanks, as in tokenizers that have seen code."""
    ends, blanks = ("user\n", "assistant\n", "model\n", "\n\n"), ("  ", "    ", "\n", "\n\n", "\t")
    return renderer(name, [f"{end}{blank}x" for end in ends for blank in blanks] * 9)


@pytest.mark.parametrize("answer", ANSWERS)
@every_format
def test_a_prompt_keeps_the_tokens_that_the_sampler_reads_whatever_the_answer_begins_with(name: str, answer: str) -> None:
    joins, conversation = joining(name), (user("hi"), assistant(answer), user("more"), assistant(answer))
    parts = joins.documents(conversation)
    assert len(parts) == (2 if name == "qwen3" else 1)
    for i in (1, 3):
        read, made = joins.prompt(conversation[:i]), completion(joins, conversation[:i], conversation[i : i + 1])
        assert made.prompt == read and any(part.token_ids[: len(read)] == read for part in parts)
        assert joins.decode(_learned(made)).startswith((answer, answer.lstrip("\n"), answer.strip()))  # some templates cut blanks off


@pytest.mark.parametrize("name", ["smollm2", "qwen2_5", "qwen3"])
def test_and_a_tokenizer_that_reads_both_at_once_would_have_joined_them(name: str) -> None:
    joins = joining(name)
    read, both = joins.encode(A), joins.encode(f"{A}    return x")
    assert both[: len(read)] != read


def test_what_was_sampled_stands_in_the_next_prompt_as_it_was_sampled() -> None:
    joins = joining("smollm2")
    first = joins.prompt(ONE[:1])
    sampled = (*joins.encode("    return x"), joins.stop_token_ids[0])
    again = joins.prompt((ONE[0], joins.parse(sampled), user("more")))
    assert again[: len(first) + len(sampled)] == (*first, *sampled)


# -------------------------------------------------------------------------------------------------- batches, pads and ends


@pytest.mark.parametrize("max_tokens", [1, 300, 100_000])
@every_format
def test_the_same_tokens_are_learned_however_conversations_are_packed(name: str, max_tokens: int) -> None:
    rows = [golden(row) for row in GOLDEN if row.startswith(f"{name}:")]
    made = [s for _, conversation, _ in rows for s in sequences(renderer(name), conversation)]
    expected = [t for s in made for t in _learned(s)]
    found = torch.full((len(expected),), -1)
    for batch in pack(made, max_tokens):
        found[batch.index] = batch.targets
    assert found.tolist() == expected


def test_an_end_of_turn_is_learned_where_it_is_the_pad_token_too_and_never_where_the_user_writes_it() -> None:
    smollm2 = renderer("smollm2")
    (end,) = smollm2.stop_token_ids
    assert smollm2.tokenizer.pad_token_id == smollm2.tokenizer.eos_token_id == end
    (made,) = sequences(smollm2, Conversation("", (user("say <|im_end|> twice<|im_end|>"), assistant("yo"))))
    assert made.prompt.count(end) == 4 and _learned(made)[-1] == end and _learned(made).count(end) == 1


@every_format
def test_both_answers_to_a_prompt_share_it_and_end_where_their_turns_end(name: str) -> None:
    over_bytes = renderer(name)
    pair = PairTokens.of(over_bytes, Pair("", TWO[:3], (assistant("no"),), (assistant("no, never"),)))
    assert pair.chosen.prompt == pair.rejected.prompt == over_bytes.prompt(TWO[:3])
    for side, words in ((pair.chosen, "no"), (pair.rejected, "no, never")):
        assert over_bytes.decode(_learned(side)) == words + over_bytes.decode(over_bytes.stop_token_ids[:1])
        assert side.predicted[-1]


def test_answers_that_the_template_writes_alike_are_no_pair() -> None:
    with pytest.raises(UserError, match="as the same tokens"):
        PairTokens.of(renderer("gemma3"), Pair("", TWO[:3], (assistant("no"),), (assistant("no  "),)))
    assert PairTokens.of(renderer("qwen2_5"), Pair("", TWO[:3], (assistant("no"),), (assistant("no  "),)))


def test_the_assistants_earlier_turns_are_the_prompts_and_not_the_answers() -> None:
    made = completion(renderer("qwen3"), THOUGHTS[:3], THOUGHTS[3:])
    assert shown(renderer("qwen3"), as_rendered(made)) == f"{U}hi{E}{A}yo{E}{U}more{E}{A}⟦<think>\nha\n</think>\n\nno<|im_end|>⟧"


# ----------------------------------------------------------------------------------------------------- other ways to learn


def test_all_tokens_are_learned_once_though_texts_begin_alike() -> None:
    qwen3 = renderer("qwen3")
    made = sequences(qwen3, Conversation("", TWO), "all")
    start = f"<|im_start|>⟦user\nhi{E}{A}"
    assert shown(qwen3, as_rendered(made[0])) == f"{start}{NO_THOUGHT}yo{E}⟧"
    assert shown(qwen3, as_rendered(made[1])) == f"{U}hi{E}{A}⟦yo{E}{U}more{E}{A}{NO_THOUGHT}no{E}⟧"


def test_a_turn_of_weight_0_is_read_and_not_learned() -> None:
    qwen, qwen3 = renderer("qwen2_5"), renderer("qwen3")
    (made,) = sequences(qwen, Conversation("", TWO, only_read=(1,)))
    assert shown(qwen, as_rendered(made)) == f"{QWEN}{U}hi{E}{A}yo{E}{U}more{E}{A}⟦no<|im_end|>⟧\n"
    (made,) = sequences(qwen3, Conversation("", TWO, only_read=(1,)))
    assert shown(qwen3, as_rendered(made)) == f"{U}hi{E}{A}yo{E}{U}more{E}{A}{NO_THOUGHT}⟦no<|im_end|>⟧\n"


def test_a_conversation_in_which_nothing_is_learned_is_refused() -> None:
    for conversation in (Conversation("", (user("hi"),)), Conversation("", ONE, only_read=(1,))):
        with pytest.raises(UserError, match="nothing to train on"):
            sequences(renderer("qwen2_5"), conversation)
