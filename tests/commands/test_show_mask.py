"""`posttrain show-mask`: what it prints is what SFT learns, on a terminal and off it."""

from __future__ import annotations

from pathlib import Path

import pytest

from posttrain import cli
from posttrain.data.conversations import load_conversations
from posttrain.policy.loading import load_renderer
from posttrain.policy.models import resolve, tiny_tokenizer
from posttrain.training.texts import sequences
from tests.ended import Ended
from tests.golden_masks.formats import TEMPLATES

ROWS = (
    '{"id": "a", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}',
    '{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"},'
    ' {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4\\n"}]}',
    '{"prompt": "naïve 日本?", "completion": "👩‍👩‍👧 yes"}',
    '{"prompt": "ring \\u0007\\u001b[2J", "completion": "no"}',
)


@pytest.fixture
def show_mask(capsys: pytest.CaptureFixture[str]):
    def run(*argv: object, model: object = "tiny") -> Ended:
        capsys.readouterr()
        code = cli.run(["show-mask", "--model", str(model), *(str(word) for word in argv)])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "conversations.jsonl"
    file.write_text("\n".join(ROWS) + "\n")
    return file


@pytest.fixture
def forgetful(tmp_path: Path) -> Path:
    """A model whose chat template is Qwen3's, which drops earlier thoughts; only what show-mask needs of it."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (TEMPLATES / "qwen3.jinja").read_text()
    folder = tmp_path / "model"
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_text("")
    return folder


def test_what_is_learned_stands_in_brackets_its_end_of_turn_included_and_the_newline_behind_it_not(show_mask, data: Path) -> None:
    ended = show_mask("--data", data, "--n", 2)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "── 1 · a · 25 tokens, 3 trained",
        "<|im_start|>user⏎", "hi<|im_end|>⏎", "<|im_start|>assistant⏎", "⟦yo<|im_end|>⟧⏎",
        "",
        f"── 2 · {data.name} line 2 · 72 tokens, 5 trained",
        "<|im_start|>system⏎", "Be brief.<|im_end|>⏎",
        "<|im_start|>user⏎", "1+1?<|im_end|>⏎", "<|im_start|>assistant⏎", "⟦2<|im_end|>⟧⏎",
        "<|im_start|>user⏎", "2+2?<|im_end|>⏎", "<|im_start|>assistant⏎", "⟦4⏎", "<|im_end|>⟧⏎",
        "",
        "⟦learned⟧, the rest is only read; ⏎ is a newline. 2 shown: 97 tokens, 8 trained",
    ]  # fmt: skip


def test_all_tokens_but_the_first_are_learned_if_one_says_so(show_mask, data: Path) -> None:
    ended = show_mask("--data", data, "--n", 1, "--trained", "all")
    assert "<|im_start|>⟦user⏎\nhi<|im_end|>⏎\n<|im_start|>assistant⏎\nyo<|im_end|>⏎\n⟧\n" in ended.out
    assert "25 tokens, 24 trained" in ended.out


def test_json_gives_the_very_tokens_and_marks_that_sft_learns(show_mask, data: Path) -> None:
    found = show_mask("--data", data, "--n", 3, "--json").json
    renderer, conversations = load_renderer("tiny"), load_conversations(data).items[:3]
    assert (found["model_path"], found["trained"], found["left_out"]) == (str(resolve("tiny")), "assistant", {})
    assert [row["id"] for row in found["conversations"]] == [c.id for c in conversations]
    for row, conversation in zip(found["conversations"], conversations, strict=True):
        (text,), (made,) = row["texts"], sequences(renderer, conversation)
        assert tuple(text["token_ids"]) == made.prompt + made.tokens
        assert tuple(text["trained"]) == (False,) * len(made.prompt) + made.predicted
        assert text["pieces"] == renderer.pieces(text["token_ids"])
        assert (row["n_tokens"], row["n_trained"]) == (len(text["trained"]), sum(text["trained"]))


def test_characters_of_several_tokens_are_whole_and_those_that_steer_a_terminal_are_spelled_out(show_mask, data: Path) -> None:
    out = show_mask("--data", data, "--n", 4).out
    assert "naïve 日本?<|im_end|>" in out and "⟦👩\\u200d👩\\u200d👧 yes<|im_end|>⟧" in out
    assert r"ring \x07\x1b[2J" in out and "\x1b" not in out


def test_a_terminal_gets_colours_too(show_mask, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;32m⟦yo<|im_end|>⟧\x1b[0m" in show_mask("--data", data, "--n", 1).out


def test_without_a_file_it_shows_a_conversation_with_a_system_message_two_turns_and_a_tools_call(show_mask) -> None:
    ended = show_mask()
    assert ended.code == 0 and ended.out.count("⟦") == 3 + 1
    assert '⟦<tool_call>⏎\n{"name": "multiply", "arguments": {"a": 17, "b": 25}}⏎\n</tool_call><|im_end|>⟧⏎' in ended.out
    assert "⟦17 × 25 is 425.<|im_end|>⟧⏎" in ended.out and "⟦You are welcome.<|im_end|>⟧⏎" in ended.out


def test_it_says_when_a_template_makes_several_texts_of_a_conversation(show_mask, forgetful: Path, data: Path) -> None:
    out = show_mask("--data", data, "--n", 2, model=forgetful).out
    assert "in 2 texts, for this chat template rewrites earlier turns when the conversation goes on" in out
    assert "── text 1 of 2 · " in out and "── text 2 of 2 · " in out
    assert out.count("⟦2<|im_end|>⟧") == 1 and out.count("assistant⏎\n2<|im_end|>⏎") == 1


def test_nothing_to_learn_is_refused_in_one_sentence_that_names_the_line(show_mask, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    for row, words in (
        ('{"messages": [{"role": "user", "content": "hi"}]}', "line 1: has no turn of the assistant"),
        ('{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo", "weight": 0}]}', "all have weight 0"),
    ):
        file.write_text(row + "\n")
        ended = show_mask("--data", file)
        assert (ended.code, ended.out) == (cli.USAGE, "")
        assert words in ended.err and ended.err.count("\n") == 1 and "Traceback" not in ended.err


def test_what_the_template_refuses_is_named_or_left_out(show_mask, forgetful: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    lost = '{"id": "lost", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so: <think>c</think>d"}]}'
    file.write_text(f"{lost}\n{ROWS[0]}\n")
    refused = show_mask("--data", file, model=forgetful)
    assert (refused.code, refused.out) == (cli.USAGE, "") and "lost: this chat template leaves out part of message 2" in refused.err
    left_out = show_mask("--data", file, "--when-bad", "drop", model=forgetful)
    assert left_out.code == 0 and "left out: 1, for this chat template leaves out part" in left_out.out and "⟦yo" in left_out.out


def test_other_bad_input_is_refused_in_one_sentence(show_mask, data: Path, tmp_path: Path) -> None:
    for ended, words in (
        (show_mask("--data", data, "--n", 0), "--n must be at least 1"),
        (show_mask("--data", tmp_path / "none.jsonl"), "none.jsonl"),
        (show_mask(model=tmp_path), "no model"),
    ):
        assert (ended.code, ended.out) == (cli.USAGE, "") and words in ended.err and ended.err.count("\n") == 1


def test_a_folder_without_a_tokenizer_is_named(show_mask, forgetful: Path) -> None:
    for file in forgetful.glob("*token*"):
        file.unlink()
    ended = show_mask(model=forgetful)
    assert ended.code == cli.USAGE and str(forgetful) in ended.err and "Traceback" not in ended.err
