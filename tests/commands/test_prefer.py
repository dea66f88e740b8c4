"""`posttrain prefer`: pairs out of a model's own samples, by a reward or by a judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain import cli
from posttrain.data.pairs import load_pairs

COMMON = ("--model", "tiny", "--dtype", "float32", "--task", "arithmetic:levels=1,n_train=12", "--max-tokens", "8", "--samples", "4")


@pytest.fixture
def prefer(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(*argv: object, out: str = "pairs.jsonl") -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.run(["prefer", *COMMON, *(str(word) for word in argv), "--out", str(tmp_path / out)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def words(text: str) -> float:
    """What `length:3` makes of a text, by hand."""
    return max(0.0, 1 - abs(len(text.split()) - 3) / 3)


def test_in_every_pair_the_chosen_answer_has_the_higher_score_by_just_the_margin(prefer, tmp_path: Path) -> None:
    code, out, _ = prefer("--reward", "length:3", "--keep-truncated", "--json")
    found, pairs = json.loads(out), load_pairs(tmp_path / "pairs.jsonl").items
    assert code == cli.DONE and found["pairs"] == len(pairs) > 2 and found["problems"] == 12
    assert found["pairs"] + found["groups_without_a_difference"] == 12 and found["unscored"] == 0
    for pair in pairs:
        chosen, rejected = (words(answer[-1].content) for answer in (pair.chosen, pair.rejected))
        assert chosen - rejected == pytest.approx(pair.margin) and pair.margin > 0
        assert pair.prompt[0].content.endswith("Answer with the number only.")


def test_the_same_seed_gives_the_same_pairs_and_what_is_there_is_not_overwritten(prefer, tmp_path: Path) -> None:
    argv = ("--reward", "length:3", "--keep-truncated", "--pairs", "all", "--labels", "bradley_terry")
    assert prefer(*argv)[0] == prefer(*argv, out="again.jsonl")[0] == cli.DONE
    assert (tmp_path / "pairs.jsonl").read_text() == (tmp_path / "again.jsonl").read_text()
    code, _, err = prefer(*argv)
    assert code == cli.USAGE and "exists already" in err
    assert prefer(*argv, "--seed", 1, out="other.jsonl")[0] == cli.DONE
    assert (tmp_path / "pairs.jsonl").read_text() != (tmp_path / "other.jsonl").read_text()


def test_a_language_model_can_judge_which_of_two_is_better(prefer, tmp_path: Path) -> None:
    code, _, _ = prefer("--judge", "tiny", "--keep-truncated")
    pairs = load_pairs(tmp_path / "pairs.jsonl").items
    assert code == cli.DONE and len(pairs) == 12 and all(0 < pair.margin <= 1 for pair in pairs)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("--reward", "length:3"), "--max-tokens"),  # random answers do not end within 8 tokens
        (("--reward", "length:3", "--judge", "tiny"), "--judge"),
        (("--samples", 1), "--samples"),
        (("--noise", 0), "--noise"),
        (("--reward", "model:tiny"), "no reward model"),
    ],
)
def test_what_gives_no_pairs_is_refused_and_leaves_no_file(argv: tuple[object, ...], named: str, prefer, tmp_path: Path) -> None:
    code, out, err = prefer(*argv)
    assert (code, out) == (cli.USAGE, "") and named in err.splitlines()[-1]
    assert not (tmp_path / "pairs.jsonl").exists()


def test_a_folder_that_is_not_there_is_named_before_the_work(prefer) -> None:
    code, _, err = prefer("--reward", "length:3", out="nowhere/pairs.jsonl")
    assert code == cli.USAGE and "there is no folder" in err and "prefer 1/" not in err
