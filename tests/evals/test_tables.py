"""The tables a person reads in a terminal."""

from __future__ import annotations

import asyncio
import io
import re

from rich.console import Console
from rich.table import Table

from posttrain.evals.compare import Comparison, Subject, compare
from posttrain.evals.measure import measure
from posttrain.evals.scorer import Unigram
from posttrain.evals.table import evaluation_table, table
from posttrain.types import Agent
from tests.evals.echo_task import EchoTask, says, sometimes_right

UNIFORM = Unigram((1 / 256,) * 256)


def printed(found: Table, width: int = 100, colours: bool = False) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=colours, color_system="standard" if colours else None).print(found)
    return stream.getvalue()


def compared(base: Agent, trained: Agent, n: int = 100) -> Comparison:
    def subject(agent: Agent, label: str) -> Subject:
        return Subject(label, label, agent, UNIFORM, lambda text: list(text.encode()))

    task = EchoTask(n)
    return asyncio.run(
        compare(subject(base, "base"), subject(trained, "trained"), task, task.problems("test"), 8, untouched_task=task)
    )


def line(text: str, start: str) -> str:
    return next(found for found in text.splitlines() if found.strip().startswith(start))


def test_every_row_fits_into_100_columns_with_all_its_figures() -> None:
    comparison = compared(sometimes_right(0.2, "base"), sometimes_right(0.7, "trained"))
    text = printed(table(comparison))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert sum("±" in found or "%" in found for found in text.splitlines()) >= len(comparison.rows)


def test_a_narrower_terminal_breaks_lines_and_loses_no_figure() -> None:
    comparison = compared(sometimes_right(0.2, "base"), sometimes_right(0.7, "trained"))
    wide, narrow = (printed(table(comparison), width) for width in (100, 72))
    assert max(map(len, narrow.splitlines())) <= 72 and "…" not in narrow
    figures = re.compile(r"[+-]?\d+\.\d+")
    assert sorted(figures.findall(narrow)) == sorted(figures.findall(wide))


def test_a_share_is_in_per_cent_its_change_in_points_and_each_has_interval_and_n() -> None:
    row = compared(says("no"), says("{answer}", "no"))
    accuracy = line(printed(table(row)), "accuracy ").split()
    assert accuracy[1:4] == ["0.0%", "[0.0", "3.8]"]
    assert accuracy[4] == "50.0%" and accuracy[7].startswith("+50") and accuracy[-1] == "100"


def test_what_one_model_alone_does_not_have_is_left_open() -> None:
    solved = line(printed(table(compared(says("no"), says("{answer}")))), "problems newly solved")
    assert solved.split("(1)")[1].split() == ["–", "–", "100.0%", "[96.2", "100.0]", "100"]


def test_notes_stand_below_once_each() -> None:
    text = printed(table(compared(says("mumble", "1"), says("{answer}"), n=20)), width=200)
    assert text.count("base: 50% of the attempts could not be scored") == 1
    assert "(1)" in line(text, "accuracy ")


def test_a_welcome_change_is_green_an_unwelcome_one_red_and_none_is_plain() -> None:
    green, red = "\x1b[1;32m", "\x1b[1;31m"
    better = printed(table(compared(says("no"), says("{answer}"))), colours=True)
    worse = printed(table(compared(says("{answer}"), says("no"))), colours=True)
    same = printed(table(compared(says("no"), says("no"))), colours=True)
    assert green in line(better, "accuracy ") and red in line(worse, "accuracy ")
    assert red not in line(worse, "problems newly lost"), "a share cannot fall below 0, so that it lies above it proves nothing"
    assert green not in same and red not in same


def test_without_an_interval_the_value_stands_alone_and_a_note_says_why() -> None:
    text = printed(table(compared(says("no"), says("{answer}"), n=1)))
    assert "+100.0 " in line(text, "accuracy ") and "nan" not in text
    assert "too few for an interval" in text


def test_one_model_has_a_table_of_its_own() -> None:
    task = EchoTask(20)
    text = printed(evaluation_table(asyncio.run(measure(says("{answer}", "mumble"), task, task.problems("test"), 2))))
    assert line(text, "accuracy ").split()[1] == "100.0%"
    assert "50% of the attempts could not be scored" in text
    assert "echo: 20 problems × 2 attempts" in text
