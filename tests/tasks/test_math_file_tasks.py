"""GSM8K and MATH-500 from files: splits, gold answers, and every way in which a file can be wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from posttrain.tasks import check_gold
from posttrain.tasks.gsm8k import GSM8K
from posttrain.tasks.math500 import Math500
from posttrain.types import UserError, answered


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def sums(first: int, n: int) -> list[dict]:
    answer = "She has {i} and gets one: {i}+1 = <<{i}+1={j}>>{j} eggs.\n#### {j:,}"
    return [
        {"question": f"Ann has {i} eggs and gets one. How many?", "answer": answer.format(i=i, j=i + 1)}
        for i in range(first, first + n)
    ]


FRACTIONS = [
    {"problem": f"What is ${i}$ over ${i + 1}$?", "answer": f"\\frac{{{i}}}{{{i + 1}}}", "subject": "Algebra", "level": 1}
    for i in range(1, 41)
]


@pytest.fixture
def gsm8k(tmp_path: Path) -> GSM8K:
    return GSM8K(
        path_train=write(tmp_path / "train.jsonl", sums(990, 30)), path_test=write(tmp_path / "test.jsonl", sums(1010, 20))
    )


def test_gsm8k_gold_answers_score_1_and_changed_ones_0(gsm8k: GSM8K):
    problems = gsm8k.problems("test")
    asyncio.run(check_gold(gsm8k, problems))
    for problem in problems:
        for wrong in (gsm8k.solution(problem) + "0", f"#### {int(problem.answer.replace(',', '')) + 1}", "I do not know", "####"):
            assert asyncio.run(gsm8k.score(answered(problem, wrong))).value == 0


def test_gsm8k_reads_the_answer_after_the_hashes_and_leaves_out_the_calculators_notes(gsm8k: GSM8K):
    problem = gsm8k.problems("test")[0]
    assert problem.id == "gsm8k/test/1"
    assert problem.answer == "1,011"
    assert gsm8k.solution(problem) == "She has 1010 and gets one: 1010+1 = 1011 eggs.\n#### 1,011"
    assert problem.messages[0].content.startswith("Ann has 1010 eggs and gets one. How many?")


def test_what_stands_in_both_files_is_left_out_of_training(gsm8k: GSM8K):
    assert len(gsm8k.problems("train")) == 20
    assert not {p.messages for p in gsm8k.problems("train")} & {p.messages for p in gsm8k.problems("test")}


def test_one_file_is_dealt_to_both_splits_by_its_questions_alone(tmp_path: Path):
    rows = sums(0, 500)
    task, shuffled = GSM8K(path=write(tmp_path / "a.jsonl", rows)), GSM8K(path=write(tmp_path / "b.jsonl", rows[::-1]))
    train, test = ({p.messages for p in task.problems(split)} for split in ("train", "test"))
    assert not train & test
    assert len(train | test) == 500
    assert 0.15 < len(test) / 500 < 0.25
    assert {p.messages for p in shuffled.problems("test")} == test
    assert len(GSM8K(path=task.path, test_frac=1.0).problems("test")) == 500


def test_a_question_asked_twice_is_one_problem(tmp_path: Path):
    assert len(GSM8K(path_test=write(tmp_path / "a.jsonl", sums(0, 5) + sums(0, 5))).problems("test")) == 5


def test_sizes_take_from_the_top(tmp_path: Path):
    task = GSM8K(path_test=write(tmp_path / "a.jsonl", sums(0, 9)), n_test=3)
    assert [problem.answer for problem in task.problems("test")] == ["1", "2", "3"]


def test_a_gzipped_file_with_blank_lines_reads_the_same(tmp_path: Path):
    lines = "\n\n".join(json.dumps(row) for row in sums(0, 5))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode("utf-8-sig")))
    task = GSM8K(path_test=str(tmp_path / "a.jsonl.gz"))
    assert [problem.answer for problem in task.problems("test")] == ["1", "2", "3", "4", "5"]


def test_math500_gold_answers_score_1_and_changed_ones_0_and_equal_ones_1(tmp_path: Path):
    task = Math500(path=write(tmp_path / "a.jsonl", FRACTIONS), n_test=10)
    problems = task.problems("test")
    asyncio.run(check_gold(task, problems))
    for problem in problems:
        assert (
            asyncio.run(task.score(answered(problem, task.solution(problem).replace("{1", "{2").replace("{", "{9")))).value == 0
        )
    assert asyncio.run(task.score(answered(problems[0], r"\boxed{0.5}"))).value == 1


def test_math500_is_all_test_unless_told_otherwise(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", FRACTIONS)
    assert len(Math500(path=path).problems("test")) == 40
    with pytest.raises(UserError, match="math500 has no train problems here: name a file of them with path_train"):
        Math500(path=path).problems("train")
    half = Math500(path=path, test_frac=0.5)
    assert len(half.problems("train")) + len(half.problems("test")) == 40


def test_math500_keeps_a_worked_solution_and_adds_the_box_where_it_lacks_one(tmp_path: Path):
    rows = [
        {"problem": "1+1?", "answer": "2", "solution": r"Clearly $\boxed{2}$."},
        {"problem": "2+2?", "answer": "4", "solution": "By counting."},
        {"problem": "3+3?", "answer": 6},
    ]
    task = Math500(path=write(tmp_path / "a.jsonl", rows))
    solutions = [task.solution(problem) for problem in task.problems("test")]
    assert solutions == [r"Clearly $\boxed{2}$.", "By counting.\n\n\\boxed{4}", r"\boxed{6}"]


GOOD = json.dumps(sums(0, 1)[0])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (f'{GOOD}\n{{"question": "x", \n'.encode(), "line 2 is not JSON"),
        (f"{GOOD}\n\n[1]\n".encode(), "line 3 is not a JSON object but list"),
        (f"{GOOD}\n".encode() + b'{"question": "\xff", "answer": "#### 1"}\n', "line 2 is not JSON"),
        (b'{"problem": "x", "answer": "#### 1"}\n', "line 1 has no text under 'question'; its keys are 'problem', 'answer'"),
        (b'{"question": "x", "answer": "one"}\n', "line 1 has an answer that does not end in '#### N'"),
        (b'{"question": "x", "answer": "####  "}\n', "line 1 has an answer that does not end in '#### N'"),
        (b'{"question": "x", "answer": null}\n', "line 1 has no text under 'answer'"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (b"", "gsm8k has no test problems here"),
    ],
)
def test_a_wrong_line_is_named_with_its_file(tmp_path: Path, content: bytes, complaint: str):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError) as refused:
        GSM8K(path_test=str(tmp_path / "a.jsonl")).problems("test")
    assert complaint in str(refused.value)
    assert "a.jsonl" in str(refused.value) or not content


def test_a_cut_archive_and_a_missing_file_are_named(tmp_path: Path):
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress((GOOD + "\n").encode() * 5000)[:-40])
    (tmp_path / "text.jsonl.gz").write_text(GOOD)
    for name in ("cut.jsonl.gz", "text.jsonl.gz", "missing.jsonl"):
        with pytest.raises(UserError, match=f"cannot read .*{name}"):
            GSM8K(path_test=str(tmp_path / name)).problems("test")


@pytest.mark.parametrize(
    "options",
    [{"path": "a", "path_test": "b"}, {"test_frac": 1.5}, {"n_test": -1}, {"timeout_s": 0.0}],
    ids=["paths", "frac", "n", "timeout"],
)
def test_options_that_contradict_are_refused(options: dict):
    with pytest.raises(UserError, match="gsm8k"):
        GSM8K(**options)


def test_without_a_network_the_hub_is_out_of_reach_and_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datasets")
    code = "from posttrain.tasks.gsm8k import *\ntry: GSM8K().problems('test')\nexcept UserError as error: print(error)"
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.startswith("cannot get openai/gsm8k from the hub or its cache")
    assert printed.endswith("say path=FILE\n")


def test_without_the_package_datasets_the_extra_is_named():
    code = (
        "import sys; sys.modules['datasets'] = None  # what the import system keeps for a package that is not there\n"
        "from posttrain.tasks.math500 import *; from posttrain.types import UserError\n"
        "try: Math500().problems('test')\nexcept UserError as error: print(error)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "HuggingFaceH4/MATH-500 needs the package datasets: pip install 'posttrain[datasets]', or say path=FILE\n"
