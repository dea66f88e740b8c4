"""Preferences in the forms that people keep them in: what is the prompt, what the answers, and what stands beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.data.pairs import Pair, load_labelled, load_pairs, pair_row
from posttrain.data.steps import load_steps
from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.training.pairs import LabelledTokens, PairTokens
from posttrain.types import Message, ToolCall, UserError

HI, YES, NO = Message("user", "hi"), Message("assistant", "yes"), Message("assistant", "no")
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}}
PAIR = {"prompt": "hi", "chosen": "yes", "rejected": "no"}
RENDERER = Renderer(tiny_tokenizer())


def turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def file_of(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


FORMS = {
    "texts": PAIR,
    "messages": {"prompt": [turn(HI)], "chosen": [turn(YES)], "rejected": [turn(NO)]},
    "whole conversations": {"chosen": [turn(HI), turn(YES)], "rejected": [turn(HI), turn(NO)]},
    "whole conversations beside their prompt": {"prompt": "hi", "chosen": [turn(HI), turn(YES)], "rejected": [turn(HI), turn(NO)]},
    "text with marks": {"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no"},
    "an instruction": {"instruction": "hi", "chosen": "yes", "rejected": "no"},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_pair(form: str, tmp_path: Path) -> None:
    (pair,) = load_pairs(file_of(tmp_path, FORMS[form])).items
    assert (pair.prompt, pair.chosen, pair.rejected) == ((HI,), (YES,), (NO,))


@pytest.mark.parametrize("form", FORMS)
def test_a_system_text_beside_a_pair_is_read_and_not_passed_over(form: str, tmp_path: Path) -> None:
    (pair,) = load_pairs(file_of(tmp_path, {**FORMS[form], "system": "Be brief."})).items
    assert pair.prompt == (Message("system", "Be brief."), HI)


def test_a_system_text_beside_a_labelled_answer_and_labelled_steps_is_read(tmp_path: Path) -> None:
    (answer,) = load_labelled(file_of(tmp_path, {"prompt": "hi", "completion": "yes", "label": True, "system": "Be brief."})).items
    (steps,) = load_steps(file_of(tmp_path, {"prompt": "hi", "completions": ["yes"], "labels": [True], "system": "Be brief."})).items
    assert answer.prompt == steps.prompt == (Message("system", "Be brief."), HI)


def test_a_system_text_that_contradicts_the_messages_is_refused(tmp_path: Path) -> None:
    row = {**PAIR, "prompt": [{"role": "system", "content": "Be long."}, turn(HI)], "system": "Be brief."}
    with pytest.raises(UserError, match="line 1: has a system text beside its messages and another among them"):
        load_pairs(file_of(tmp_path, row))


def test_the_tools_of_a_pair_stand_in_the_prompt_of_both_answers(tmp_path: Path) -> None:
    (pair,) = load_pairs(file_of(tmp_path, {**PAIR, "tools": [TOOL]})).items
    made = PairTokens.of(RENDERER, pair)
    assert made.chosen.prompt == made.rejected.prompt == RENDERER.prompt((HI,), [TOOL]) != RENDERER.prompt((HI,))
    good, bad = load_labelled(file_of(tmp_path, {**PAIR, "tools": [TOOL]})).items
    assert [LabelledTokens.of(RENDERER, each).answer for each in (good, bad)] == [made.chosen, made.rejected]


def said(role: str, words: str, rank: int | None = None, replies: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Any]:
    return {"role": role, "text": words, "rank": rank, "replies": list(replies), **more}


TREE = {"message_tree_id": "t", "prompt": said("prompter", "hi", None, (
    said("assistant", "worst", 2),
    said("assistant", "best", 0, (said("prompter", "more?", None, (said("assistant", "yes", 0), said("assistant", "no", 1))),)),
    said("assistant", "middling", 1, (said("prompter", "why?", None, (said("assistant", "because", 0),)),)),
    said("assistant", "gone", 3, deleted=True), said("assistant", "unranked"),
))}  # fmt: skip


def test_of_a_ranked_tree_the_first_answer_is_preferred_to_the_last_behind_every_prompt(tmp_path: Path) -> None:
    first, second = load_pairs(file_of(tmp_path, TREE)).items
    assert (first.prompt, first.chosen[0].content, first.rejected[0].content) == ((HI,), "best", "worst")
    assert [m.content for m in second.prompt] == ["hi", "best", "more?"] and (second.chosen, second.rejected) == ((YES,), (NO,))
    assert len({first.id, second.id}) == 2
    labelled = load_labelled(file_of(tmp_path, TREE)).items
    assert [(each.answer[0].content, each.is_good) for each in labelled] == [("best", True), ("worst", False), ("yes", True), ("no", False)]


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        (said("prompter", "hi", None, (said("assistant", "yes", 0), said("assistant", "yes", 1))), "ranked and differ"),
        (said("prompter", "hi"), "ranked and differ"),
        (said("robot", "hi"), "neither prompter nor assistant"),
        (said("prompter", ""), "empty text in its tree"),
        (said("assistant", "hi", 0, (said("prompter", "a", None, (said("assistant", "x", 0), said("assistant", "y", 1))),)), "speaks before anybody else"),
    ],
)
def test_a_tree_that_ranks_nothing_or_is_none_is_named_by_its_line(prompt: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"line 1: .*{why}"):
        load_pairs(file_of(tmp_path, {"message_tree_id": "t", "prompt": prompt}))


def test_a_pair_is_written_as_it_is_read_its_tools_and_calls_too(tmp_path: Path) -> None:
    call = Message("assistant", "Let me see.", (ToolCall("add", {"a": 1}, "c1"),))
    tools = ({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},)
    answered = (call, Message("tool", "2", tool_call_id="c1"), Message("assistant", "2"))
    pair = Pair("one", (Message("system", "s"), Message("user", "1+1?")), answered, (Message("assistant", "3"),), 0.5, tools)
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(pair_row(pair)) + "\n")
    assert load_pairs(file).items == [pair]
