"""The tables a person reads in a terminal."""

from __future__ import annotations

import asyncio
import io
import re
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from posttrain.evals.compare import Subject, compare
from posttrain.evals.comparison import Comparison
from posttrain.evals.kept import adjusted
from posttrain.evals.measure import Evaluation, measure
from posttrain.evals.scorer import Unigram
from posttrain.evals.table import besides_table, comparisons_table, evaluation_table, evaluations_table, table
from posttrain.types import Agent, Aspect, Rollout, Score
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
    accuracy = line(printed(table(row)), "accuracy (1)").split()
    assert accuracy[2:5] == ["0.0%", "[0.0", "3.7]"]
    assert accuracy[5] == "50.0%" and accuracy[8].startswith("+50") and accuracy[-1] == "100"


def test_what_one_model_alone_does_not_have_is_left_open() -> None:
    solved = line(printed(table(compared(says("no"), says("{answer}")))), "problems newly solved")
    assert solved.split("(2)")[1].split() == ["–", "–", "100.0%", "[96.3", "100.0]", "100"]


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
    text = printed(evaluation_table(measured(says("{answer}", "no"))))
    assert line(text, "accuracy ").split()[1:4] == ["50%", "[30", "70]"]
    assert "echo: 20 problems × 2 attempts" in text


def measured(agent: Agent, task: EchoTask | None = None, samples: int = 2) -> Evaluation:
    task = task or EchoTask(20)
    return asyncio.run(measure(agent, task, task.problems("test"), samples))


def test_no_headline_is_printed_where_much_could_not_be_scored_unless_it_is_asked_for() -> None:
    found = measured(says("{answer}", "mumble"))
    text = printed(evaluation_table(found))
    assert line(text, "accuracy ").split() == ["accuracy", "withheld", "20"] and line(text, "pass@1 ").split()[1] == "withheld"
    assert line(text, "could not be scored ").split()[4] == "50%" and "50% of the attempts could not be scored" in text
    assert line(printed(evaluation_table(found, unscored_ok=True)), "accuracy ").split()[1] == "100.0%"
    both = printed(table(compared(says("no"), says("mumble", *["{answer}"] * 7))))
    assert "withheld" in line(both, "accuracy ") and "%" not in line(both, "problems newly solved")
    assert "%" in line(both, "could not be scored ")


def test_several_tasks_of_one_model_have_a_row_each() -> None:
    class Other(EchoTask):
        name = "other"

    text = printed(evaluations_table([measured(says("{answer}", "no")), measured(says("mumble"), Other(10))]))
    assert line(text, "echo × 2").split()[3:6] == ["50%", "[30", "70]"]
    assert line(text, "other × 2").count("withheld") == 2 and line(text, "other × 2").split()[-1] == "10"
    assert "(1) 100% of the attempts could not be scored" in " ".join(text.split()) and line(text, "other × 2 (1)")


def test_what_else_two_models_say_on_several_tasks_stands_in_one_table() -> None:
    class Polite(EchoTask):
        name, aspects = "polite", (Aspect("polite", "says please", "higher"),)

        async def score(self, rollout: Rollout) -> Score:
            return replace(await super().score(rollout), parts={"polite": float("please" in rollout.text)})

    sides = [Subject(name, name, says(*texts)) for name, texts in (("base", ("no",)), ("trained", ("please", "no")))]
    tasks = [EchoTask(20), Polite(20)]
    found = [asyncio.run(compare(*sides, task, task.problems("test"), 2)) for task in tasks]
    text = printed(besides_table(found))
    assert line(text, "polite").split()[1:5] == ["says", "please", "0.0%", "[0.0"] and "+50" in line(text, "polite") and "echo" not in text
    assert besides_table(found[:1]) is None


def test_several_tasks_of_two_models_have_adjusted_p_values_and_verdicts() -> None:
    better, same = compared(sometimes_right(0.2, "base"), sometimes_right(0.7, "trained"), n=40), compared(says("{answer}", "no"), says("no", "{answer}"), n=40)
    text = printed(comparisons_table(adjusted([better, replace(same, task="same")])), width=120)
    assert line(text, "echo").split()[-3:-1] == [".001", "better"] and line(text, "same").split()[-2] == "tied"
