"""`posttrain scale`: one pool of attempts, every curve, and a page; and it goes on where it was cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain import cli
from posttrain.commands import scale_searches
from posttrain.policy.loading import load_renderer
from tests.ended import Ended

RENDERER = load_renderer("tiny")

COMMON = ("--model", "tiny", "--dtype", "float32", "--task", "arithmetic:levels=1,n_test=12", "--samples", "8", "--max-tokens", "8")


@pytest.fixture
def scale(capsys: pytest.CaptureFixture[str]):
    def run(*argv: object) -> Ended:
        capsys.readouterr()
        code = cli.run(["scale", *COMMON, *map(str, argv)])
        return Ended(code, *capsys.readouterr())

    return run


def test_it_leaves_a_page_a_line_for_each_arm_and_every_attempt(scale, tmp_path: Path) -> None:
    argv = ("--lengths", 2, 6, "--answer-tokens", 4, "--reward", "length:3", "--out", tmp_path, "--json")
    ended = scale(*argv)
    assert ended.code == cli.DONE
    arms = ended.json["arms"]
    assert [arm["thinking_tokens"] for arm in arms] == [2, 6] and all(arm["n_problems"] == 12 for arm in arms)
    assert {c["name"] for c in arms[0]["curves"]} >= {"coverage (oracle)", "majority", "best by likelihood", "best by reward"}
    rows = [json.loads(line) for line in (tmp_path / "scale.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == [arm["name"] for arm in arms] and "<svg" in (tmp_path / "scale.html").read_text()
    kept = (tmp_path / "records.jsonl").read_bytes()
    assert len(kept.splitlines()) == 24
    again = scale(*argv)
    assert again.json == ended.json and (tmp_path / "records.jsonl").read_bytes() == kept, "nothing is attempted twice"


def test_a_pool_that_was_cut_off_goes_on_and_ends_the_same(scale, tmp_path: Path) -> None:
    whole = scale("--out", tmp_path, "--json")
    lines = (tmp_path / "records.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_text("".join(lines[:5]) + lines[5][:40])
    assert scale("--out", tmp_path, "--json").json == whole.json
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 12


def test_thinking_budgets_bound_the_tokens_of_every_attempt(scale, tmp_path: Path) -> None:
    scale("--lengths", 5, "--extend", "--answer-tokens", 4, "--think", "direct", "--out", tmp_path)
    for line in (tmp_path / "records.jsonl").read_text().splitlines():
        for attempt in json.loads(line)["attempts"]:
            (first, *rest) = attempt["completions"]
            read = rest[-1]["prompt_token_ids"] if rest else first["prompt_token_ids"] + first["token_ids"]
            assert read[: len(first["prompt_token_ids"])] == first["prompt_token_ids"]
            assert "Reply with the final answer only" in RENDERER.decode(first["prompt_token_ids"])


def test_every_strategy_stands_on_one_chart_with_its_own_tokens_and_goes_on_from_what_is_kept(scale, tmp_path: Path) -> None:
    argv = ("--strategies", "votes", "allocate", "beam", "lookahead", "revise", "--budgets", 1, 2, "--reward", "length:3", "--out", tmp_path, "--json")
    ended = scale(*argv)
    assert ended.code == cli.DONE
    curves = {c["name"]: c for c in ended.json["arms"][0]["curves"]}
    assert list(curves) == [
        "coverage (oracle)", "majority", "vote weighted by reward", "majority, by difficulty", "beam by reward", "lookahead by reward", "revisions",
    ]  # fmt: skip
    for name in ("beam by reward", "lookahead by reward", "revisions"):
        one, two = curves[name]["points"]
        assert (one["k"], two["k"], two["value"]["n"]) == (1, 2, 12) and one["tokens"]["value"] <= two["tokens"]["value"]
    assert curves["beam by reward"]["points"][0]["tokens"]["value"] < curves["beam by reward"]["points"][1]["tokens"]["value"]
    kept = (tmp_path / "records.jsonl").read_bytes()
    assert len(kept.splitlines()) == 12 * 7, "the pool, and three searches at two budgets"
    assert scale(*argv).json == ended.json and (tmp_path / "records.jsonl").read_bytes() == kept, "what a search spent is kept too"
    assert "revisions" in (tmp_path / "scale.html").read_text()


@pytest.mark.parametrize(("beams", "branches"), [(1, 1), (2, 2), (3, 3), (4, 2), (8, 4), (12, 4), (16, 4)])
def test_beams_branch_into_the_root_of_their_number_or_the_next_divisor(beams: int, branches: int) -> None:
    assert scale_searches.branches(beams) == branches


def test_as_text_there_is_a_table_and_a_sentence_on_the_wall(scale) -> None:
    ended = scale()
    assert ended.code == cli.DONE and "(oracle)" in ended.out and "problems never solved in 8 attempts" in ended.out


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (("--lengths", 4, 4), "different"), (("--lengths", 0), "at least 1"), (("--extend",), "--lengths"), (("--vs", "tiny"), "same model"),
        (("--samples", 1001), "1000"), (("--vs", "openai:http://127.0.0.1:9/v1"), "server"), (("--task", "facts,arithmetic"), "one task"), (("--reward", "nonsense"), "nonsense"),
        (("--strategies", "beam"), "--reward"), (("--strategies", "votes", "lookahead"), "unfinished answers"), (("--strategies", "votes", "votes"), "once"),
        (("--strategies", "revise", "--budgets", 0), "at least 1"), (("--strategies", "beam", "--reward", "length:3", "--lengths", 4), "leave out --lengths"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_in_a_sentence(argv, word: str, scale) -> None:
    ended = scale(*argv)
    assert ended.code == cli.USAGE and word in ended.err and len(ended.err.strip().splitlines()) == 1
