"""IFEval from a file: composed golds, strict and loose, and what cannot be checked."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.evals.measure import measure
from posttrain.rewards.instructions import can_tell_languages
from posttrain.tasks import check_gold
from posttrain.tasks.ifeval import IFEval
from posttrain.types import UserError, answered

WORDS = ("length_constraints:number_words", {"num_words": 30, "relation": "at least"})
FEW = ("length_constraints:number_words", {"num_words": 60, "relation": "less than"})
TITLE, QUOTED, NO_COMMA, JSON = (
    (name, {}) for name in ("detectable_format:title", "startend:quotation", "punctuation:no_comma", "detectable_format:json_format")
)
BULLETS = ("detectable_format:number_bullet_lists", {"num_bullets": 3})
NO_E = ("keywords:letter_frequency", {"letter": "e", "let_frequency": 1, "let_relation": "less than"})
REPEAT = ("combination:repeat_prompt", {"prompt_to_repeat": "Write, if you can, a text."})
GERMAN = ("language:response_language", {"language": "de"})
TOGETHER = [
    (WORDS,), (WORDS, FEW), (TITLE, WORDS, NO_COMMA), (QUOTED, BULLETS), (JSON, WORDS), (NO_E, WORDS), (REPEAT, TITLE),
    (("change_case:english_capital", {}), ("keywords:existence", {"keywords": ["tree", "sky"]})),
    (("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 3}), ("detectable_content:postscript", {"postscript_marker": "P.S."})),
    (("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 4, "nth_paragraph": 2, "first_word": "elm"}), WORDS),
    (("combination:two_responses", {}), ("detectable_format:number_highlighted_sections", {"num_highlights": 2})),
    (("length_constraints:number_sentences", {"num_sentences": 5, "relation": "at least"}), ("length_constraints:number_sentences", {"num_sentences": 7, "relation": "less than"})),
    (("length_constraints:number_paragraphs", {"num_paragraphs": 3}), ("startend:end_checker", {"end_phrase": "That is all."})),
    (("keywords:frequency", {"keyword": "so", "frequency": 3, "relation": "less than"}), ("keywords:forbidden_words", {"forbidden_words": ["it", "we"]})),
    (("change_case:capital_word_frequency", {"capital_frequency": 3, "capital_relation": "at least"}), ("detectable_content:number_placeholders", {"num_placeholders": 4})),
    (("detectable_format:constrained_response", {}), ("change_case:english_lowercase", {})),
]  # fmt: skip


def task_of(path: Path, *prompts: tuple) -> IFEval:
    rows = [
        {"key": i, "prompt": f"Write something {i}.", "instruction_id_list": [id for id, _ in asked], "kwargs": [arguments for _, arguments in asked]}
        for i, asked in enumerate(prompts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return IFEval(path=str(path))


def test_composed_texts_follow_their_instructions_and_an_empty_promise_does_not(tmp_path: Path) -> None:
    task = task_of(tmp_path / "a.jsonl", *TOGETHER[:-1])
    problems = task.problems("test")
    asyncio.run(check_gold(task, problems))
    assert not any(problem.data.get("no_gold") for problem in problems)
    assert [asyncio.run(task.score(answered(problem, "We so so, so"))).value for problem in problems] == [0.0] * len(problems)


def test_instructions_that_contradict_each_other_have_no_gold_and_are_still_asked(tmp_path: Path) -> None:
    task = task_of(tmp_path / "a.jsonl", (REPEAT, NO_COMMA), (TITLE,), TOGETHER[-1])
    problems = task.problems("test")
    assert [bool(problem.data.get("no_gold")) for problem in problems] == [True, False, True]
    asyncio.run(check_gold(task, problems))
    assert asyncio.run(task.score(answered(problems[0], task.solution(problems[0])))).value == 0


def test_prompts_and_instructions_are_counted_apart_strictly_and_loosely(tmp_path: Path) -> None:
    task = task_of(tmp_path / "a.jsonl", (TITLE, NO_COMMA), (TITLE, NO_COMMA, QUOTED), (NO_COMMA,))
    says = {"0": "<<so>> it is", "1": "Here, you go:\n<<so>> it is", "2": "no, thanks"}
    agent = ScriptedAgent(lambda problem, *_: says[problem.messages[0].content[-2]])
    found = asyncio.run(measure(agent, task, task.problems("test"), 1))
    assert found["accuracy"].value == pytest.approx(1 / 3)
    assert found["aspect/prompt_loose"].value == pytest.approx(1 / 3)
    assert found["aspect/followed_per_checked"].value == pytest.approx((2 + 1 + 0) / 6)
    assert found["aspect/followed_loose_per_checked_loose"].value == pytest.approx((2 + 2 + 0) / 6)
    assert found["aspect/followed_per_checked"].n == 3 and found["aspect/followed_per_checked"].low >= 0


@pytest.mark.skipif(can_tell_languages(), reason="langdetect is here")
def test_what_cannot_be_checked_is_unscored_and_not_wrong(tmp_path: Path) -> None:
    task = task_of(tmp_path / "a.jsonl", (GERMAN, NO_COMMA))
    (problem,) = task.problems("test")
    asyncio.run(check_gold(task, [problem]))
    german = asyncio.run(task.score(answered(problem, "Alle Menschen sind frei und gleich geboren.")))
    assert math.isnan(german.value) and "pip install 'posttrain[ifeval]'" in german.explanation
    assert asyncio.run(task.score(answered(problem, "Alle Menschen, sagt man, sind frei."))).value == 0, "it has a comma in any language"
    assert asyncio.run(task.score(answered(problem, "It is what we do for you and all of them."))).value == 0


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [((("poem:rhyme", {}),), "no instruction 'poem:rhyme'"), ((("length_constraints:number_words", {"num_words": 3}),), "an instruction that cannot be read")],
)
def test_an_instruction_that_cannot_be_read_is_named_with_its_line(asked: tuple, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        task_of(tmp_path / "a.jsonl", (TITLE,), asked).problems("test")
    assert complaint in str(refused.value) and "line 2" in str(refused.value)
