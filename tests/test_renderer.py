"""Messages and tokens: golden masks written by hand, for the kinds of template that real models bring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.types import Message, ToolCall, UserError

DEFAULT_SYSTEM = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As SmolLM2 and Qwen2.5 have it: ChatML that puts a system message of its own before a conversation without one."""

HEADERS = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""As Llama 3 has it: a token that opens the text, headers, and an end of turn that is not the end of text."""

TURNS = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""As Gemma 2 has it: the assistant is called model, and there is no system."""

FORGETS_THOUGHTS = (
    "{% for m in messages %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] if loop.last else m['content'].split('</think>')[-1] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As reasoning models have it: what the assistant thought is cut out once the conversation goes on."""


THOUGHTS_APART = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}<think>\n{{ m['reasoning_content'] or '' }}\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{{ '\n</think>\n\n' if enable_thinking is false }}{% endif %}"
)
"""As the newest reasoning models have it: the prompt begins the thought, which the template wants apart from what is said."""

CALLS_OR_WORDS = (
    "{% for t in tools or [] %}{{ t.function.name }}\n{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] %}{{ m['content'] }}{% else %}{% for c in m['tool_calls'] %}{{ c.function.name }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As DeepSeek V3 has it: a turn that says something calls nothing."""


def tokenizer(template: str | None, specials: list[str], eos: str, bos: str | None = None, opens: bool = False, merges=()) -> PreTrainedTokenizerFast:
    """One token for each byte, these special ones, this template; `opens`: the tokenizer itself puts `bos` before a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in specials])
    if opens:
        backend.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, bos_token=bos, chat_template=template)


IM = ["<|im_start|>", "<|im_end|>"]
CHATML = Renderer(tiny_tokenizer())
SMOL = Renderer(tokenizer(DEFAULT_SYSTEM, IM, "<|im_end|>", "<|im_start|>"))
QWEN = Renderer(tokenizer(DEFAULT_SYSTEM, [*IM, "<|endoftext|>"], "<|endoftext|>"))
LLAMA = Renderer(
    tokenizer(
        HEADERS, ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|end_of_text|>", "<|begin_of_text|>", opens=True,
    )
)  # fmt: skip
GEMMA = Renderer(tokenizer(TURNS, ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<eos>", "<bos>", opens=True))
PLAIN = Renderer(tokenizer(None, ["<|endoftext|>"], "<|endoftext|>"))
PLAIN_OPENED = Renderer(tokenizer(None, ["<s>", "</s>"], "</s>", "<s>", opens=True))
ALL = {"chatml": CHATML, "smol": SMOL, "qwen": QWEN, "llama": LLAMA, "gemma": GEMMA, "plain": PLAIN, "plain opened": PLAIN_OPENED}

every_renderer = pytest.mark.parametrize("renderer", ALL.values(), ids=ALL)


def user(content: str) -> Message:
    return Message("user", content)


def assistant(content: str) -> Message:
    return Message("assistant", content)


def system(content: str) -> Message:
    return Message("system", content)


ONE_TURN = (user("hi"), assistant("yo"))
TWO_TURNS = (user("hi"), assistant("yo"), user("more"), assistant("no"))


# ------------------------------------------------------------------------------------------------------------ golden masks


GOLDEN = [
    ("chatml", ONE_TURN, ["<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "+yo<|im_end|>", "\n"]),
    (
        "chatml", TWO_TURNS,
        ["<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "+yo<|im_end|>",
         "\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n", "+no<|im_end|>", "\n"],
    ),
    ("chatml", (system("s"), *ONE_TURN), ["<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "+yo<|im_end|>", "\n"]),
    ("chatml", (user("a"), user("b")), ["<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n"]),
    ("chatml", (user("hi"), assistant("")), ["<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "+<|im_end|>", "\n"]),
    ("smol", ONE_TURN, ["<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "+yo<|im_end|>", "\n"]),
    ("smol", (system("s"), *ONE_TURN), ["<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "+yo<|im_end|>", "\n"]),
    (
        "qwen", TWO_TURNS,
        ["<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "+yo<|im_end|>",
         "\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n", "+no<|im_end|>", "\n"],
    ),
    (
        "llama", TWO_TURNS,
        ["<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         "+yo<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\nmore<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         "+no<|eot_id|>"],
    ),
    (
        "gemma", TWO_TURNS,
        ["<bos><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n", "+yo<end_of_turn>",
         "\n<start_of_turn>user\nmore<end_of_turn>\n<start_of_turn>model\n", "+no<end_of_turn>", "\n"],
    ),
    (
        "plain", (system("s"), *TWO_TURNS),
        ["System: s\n\nUser: hi\n\nAssistant:", "+ yo<|endoftext|>", "\n\nUser: more\n\nAssistant:", "+ no<|endoftext|>", "\n\n"],
    ),
    ("plain opened", ONE_TURN, ["<s>User: hi\n\nAssistant:", "+ yo</s>", "\n\n"]),
]  # fmt: skip
"""Conversations as pieces of text; those that begin with + (which is not part of them) are the assistant's own."""


@pytest.mark.parametrize(("name", "messages", "pieces"), GOLDEN)
def test_the_assistants_own_tokens_are_marked_and_no_others(name, messages, pieces):
    renderer = ALL[name]
    expected = [(token, piece[0] == "+") for piece in pieces for token in renderer.encode(piece.removeprefix("+"))]
    rendered = renderer.render(messages)
    assert list(zip(rendered.token_ids, rendered.trained, strict=True)) == expected


def test_the_token_ids_by_hand():
    # Printable ASCII stands at its code less 33; behind it 94 others, then the unprintable bytes: a newline is 188 + 10.
    u, s, e, r, h, i = (ord(c) - 33 for c in "userhi")
    assert CHATML.render((user("hi"),)).token_ids == (256, u, s, e, r, 198, h, i, 257, 198)
    assert CHATML.prompt((user("hi"),))[-11:] == (256, *(ord(c) - 33 for c in "assistant"), 198)


@every_renderer
def test_the_prompt_is_what_stands_before_the_assistants_own_tokens(renderer):
    rendered = renderer.render(ONE_TURN)
    assert rendered.token_ids[: rendered.trained.index(True)] == renderer.prompt(ONE_TURN[:1])


@every_renderer
def test_a_longer_conversation_begins_with_the_tokens_of_the_shorter_one(renderer):
    whole = renderer.render(TWO_TURNS)
    for n in range(1, len(TWO_TURNS)):
        part = renderer.render(TWO_TURNS[:n])
        assert whole.token_ids[: len(part.token_ids)] == part.token_ids
        assert whole.trained[: len(part.trained)] == part.trained


@every_renderer
def test_the_end_of_a_turn_is_trained_and_what_the_template_writes_behind_it_is_not(renderer):
    rendered = renderer.render(ONE_TURN)
    last_trained = max(i for i, mark in enumerate(rendered.trained) if mark)
    assert rendered.token_ids[last_trained] == renderer.stop_token_ids[0]
    assert renderer.decode(rendered.token_ids[last_trained + 1 :]).strip() == ""


def test_a_thought_whose_beginning_the_prompt_writes_is_learned_from_there_on():
    renderer = Renderer(tokenizer(THOUGHTS_APART, IM, "<|im_end|>"))
    messages = (user("hi"), assistant("<think>\nhm\n</think>\n\nyo"))
    read = renderer.prompt(messages[:1])
    assert renderer.decode(read).endswith("assistant\n<think>\n")
    rendered = renderer.render(messages)
    assert rendered.token_ids[: len(read)] == read and not any(rendered.trained[: len(read)])
    assert renderer.decode(own_tokens(renderer, messages[1].content)) == "hm\n</think>\n\nyo<|im_end|>"
    assert renderer.render((user("hi"), renderer.parse(own_tokens(renderer, messages[1].content)))) == rendered


def test_the_end_of_a_thought_that_the_template_writes_for_an_answer_without_one_is_not_learned():
    renderer = Renderer(tokenizer(THOUGHTS_APART, IM, "<|im_end|>"))
    assert renderer.decode(own_tokens(renderer, "yo")) == "yo<|im_end|>"
    assert renderer.decode(renderer.render(ONE_TURN).token_ids).endswith("assistant\n<think>\n\n</think>\n\nyo<|im_end|>\n")


# --------------------------------------------------------------------------------------------------------- special tokens


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("chatml", ["<|im_end|>"]),
        ("smol", ["<|im_end|>"]),
        ("qwen", ["<|im_end|>", "<|endoftext|>"]),
        ("llama", ["<|eot_id|>", "<|end_of_text|>"]),
        ("gemma", ["<end_of_turn>", "<eos>"]),
        ("plain", ["<|endoftext|>"]),
        ("plain opened", ["</s>"]),
    ],
)
def test_a_turn_stops_at_the_templates_mark_or_at_the_end_of_text(name, stops):
    renderer = ALL[name]
    assert list(renderer.stop_token_ids) == renderer.tokenizer.convert_tokens_to_ids(stops)


def test_a_turn_does_not_stop_at_a_special_token_that_stands_before_its_words():
    channels = (
        "{% for m in messages %}"
        "<|start|>{{ m['role'] }}{{ '<|channel|>final' if m['role'] == 'assistant' }}<|message|>{{ m['content'] }}<|end|>"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    )
    renderer = Renderer(tokenizer(channels, ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<eos>"], "<eos>"))
    assert list(renderer.stop_token_ids) == renderer.tokenizer.convert_tokens_to_ids(["<|end|>", "<eos>"])
    assert renderer.decode(own_tokens(renderer, "yo")) == "<|channel|>final<|message|>yo<|end|>"


def test_a_template_that_asks_for_the_date_is_told_the_same_one_in_every_form():
    asks = "{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%Y-%m-%d') }}|{{ strftime_now('%d %B %Y') }}|" + CHATML.template
    renderer = Renderer(tokenizer(asks, IM, "<|im_end|>"))
    assert renderer.decode(renderer.prompt((user("hi"),))).startswith("26 Jul 2024|2024-07-26|26 July 2024|<|im_start|>user")


@pytest.mark.parametrize("name", ["llama", "gemma", "plain opened"])
def test_a_text_is_opened_once(name):
    renderer = ALL[name]
    opener = renderer.tokenizer.bos_token_id
    for tokens in (renderer.prompt(ONE_TURN[:1]), renderer.render(TWO_TURNS).token_ids):
        assert tokens[0] == opener and tokens.count(opener) == 1


def test_a_tokenizer_that_opens_no_text_has_none_opened():
    assert PLAIN.decode(PLAIN.prompt(ONE_TURN[:1])) == "User: hi\n\nAssistant:"


def test_plain_text_gets_no_special_tokens():
    assert LLAMA.encode("ab") == [ord("a") - 33, ord("b") - 33]


def test_the_largest_token_id_bounds_the_vocabulary_even_where_ids_are_missing():
    backend = Tokenizer(models.BPE(vocab={"a": 0, "b": 7}, merges=[]))
    gappy = Renderer(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert len(gappy.tokenizer) == 2 and gappy.vocab_size == 8
    assert CHATML.vocab_size == 258


def test_of_several_templates_the_default_is_taken():
    several = tokenizer(None, IM, "<|im_end|>")
    several.chat_template = {"default": CHATML.template, "tool_use": "{{ 'no' }}"}
    assert Renderer(several).render(ONE_TURN) == CHATML.render(ONE_TURN)


# ---------------------------------------------------------------------------------------------------------------- refusals


def test_a_template_that_rewrites_earlier_turns_is_refused():
    forgetful = Renderer(tokenizer(FORGETS_THOUGHTS, IM, "<|im_end|>"))
    thought = (user("hi"), assistant("<think>hm</think>yo"))
    assert forgetful.render(thought).trained.count(True) == len("<think>hm</think>yo") + 1
    with pytest.raises(UserError, match="rewrites earlier turns"):
        forgetful.render((*thought, user("more")))


def test_a_tokenizer_that_joins_the_prompts_end_with_the_answers_beginning_keeps_them_apart():
    joins = Renderer(tokenizer(None, ["<|endoftext|>"], "<|endoftext|>", merges=[(":", "Ġ")]))
    assert joins.encode("Assistant: yo")[-3:-2] == joins.encode(": ")  # one token, if read at once
    rendered = joins.render(TWO_TURNS)
    for n in (1, 3):
        read = joins.prompt(TWO_TURNS[:n])
        assert rendered.token_ids[: len(read)] == read and joins.decode(read).endswith("Assistant:")
    assert own_tokens(joins, "yo") == [*joins.encode(" "), *joins.encode("yo"), *joins.stop_token_ids]


def test_a_call_that_a_template_would_leave_out_is_refused_rather_than_not_learned():
    renderer, call = Renderer(tokenizer(CALLS_OR_WORDS, IM, "<|im_end|>")), (ToolCall("add", {}),)
    assert renderer.writes_tools
    assert renderer.render((user("hi"), Message("assistant", "", call))).trained.count(True) == len("add") + 1
    with pytest.raises(UserError, match="leaves out part of message 2"):
        renderer.render((user("hi"), Message("assistant", "Let me see.", call)))


def test_a_role_that_the_template_does_not_know_is_refused_in_one_sentence():
    with pytest.raises(UserError, match="System role not supported"):
        GEMMA.prompt((system("s"), user("hi")))


def test_a_conversation_cannot_be_marked_if_the_assistant_speaks_first():
    with pytest.raises(UserError, match="cannot begin with the assistant"):
        CHATML.render((assistant("yo"), user("hi")))


def test_a_prompt_needs_a_message():
    with pytest.raises(UserError, match="at least one message"):
        CHATML.prompt(())


# ---------------------------------------------------------------------------------------------------------- there and back


AWKWARD = ["", " ", "\n", " two  blanks ", "日本語と中文", "👩‍👩‍👧 🏳️‍🌈", "naïve café", "العربية", "tab\tand\r\nline", "\u0000\u200b\ufeff", "1 + 1 = 2"]


def own_tokens(renderer: Renderer, content: str) -> list[int]:
    """The tokens with which the assistant says this, its end of turn included."""
    rendered = renderer.render((user("hi"), assistant(content)))
    return [t for t, mark in zip(rendered.token_ids, rendered.trained, strict=True) if mark]


@pytest.mark.parametrize("content", AWKWARD)
@pytest.mark.parametrize("name", ["chatml", "smol", "qwen"])
def test_what_was_said_comes_back_from_its_tokens(name, content):
    assert ALL[name].parse(own_tokens(ALL[name], content)) == assistant(content)


@given(st.text(max_size=30))
def test_any_text_comes_back_from_its_tokens(content):
    assert CHATML.parse(own_tokens(CHATML, content)) == assistant(content)


@pytest.mark.parametrize("content", AWKWARD)
@every_renderer
def test_sampled_tokens_come_back_from_the_message_that_they_spell(renderer, content):
    sampled = own_tokens(renderer, content)
    assert own_tokens(renderer, renderer.parse(sampled).content) == sampled


@pytest.mark.parametrize("content", AWKWARD)
def test_a_base_models_answer_stands_in_the_next_prompt_as_it_was_sampled(content):
    first = PLAIN.prompt((user("hi"),))
    sampled = [*PLAIN.encode(" " + content if content.strip() else content), *PLAIN.stop_token_ids]
    again = PLAIN.prompt((user("hi"), PLAIN.parse(sampled), user("more")))
    assert list(again[: len(first) + len(sampled)]) == [*first, *sampled]


def test_an_unfinished_turn_is_parsed_as_far_as_it_goes():
    assert CHATML.parse(CHATML.encode("so far")) == assistant("so far")


def test_part_of_a_character_is_shown_as_a_replacement_mark():
    assert CHATML.pieces(CHATML.encode("é")) == ["\ufffd", "\ufffd"]
    assert CHATML.decode(CHATML.encode("é")) == "é"
    assert "".join(CHATML.pieces(CHATML.encode("plain text"))) == "plain text"
