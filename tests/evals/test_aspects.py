"""What a task wants reported beside accuracy: means, ratios, differences and shares of pairs, by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from posttrain.evals import quantities
from posttrain.evals.measure import evaluation
from posttrain.evals.records import Attempt, Record
from posttrain.types import Aspect, Problem, Score, answered


def records(*problems: tuple[dict, Sequence[dict]]) -> list[Record]:
    """For each problem its data and the parts of its attempts' scores; parts of {} are of an attempt that could not be scored."""
    found = []
    for i, (data, attempts) in enumerate(problems):
        problem = Problem(str(i), (), "", data)
        found.append(Record(problem, tuple(Attempt(answered(problem, ""), Score(1.0 if parts else math.nan, parts)) for parts in attempts)))
    return found


def test_a_part_alone_is_its_mean_over_the_problems_that_have_it() -> None:
    found = quantities.aspect(records(({}, [{"a": 1}, {"a": 0}]), ({}, [{"a": 1}, {}]), ({}, [{"b": 1}])), Aspect("a", "A", "higher"))
    assert (found.measurement.value, found.measurement.n, found.name, found.is_rate) == (0.75, 2, "aspect/a", True)
    assert math.isnan(found.per_problem[2])


def test_per_is_a_ratio_of_sums_with_a_rates_interval() -> None:
    some = records(({}, [{"followed": 2, "given": 3}]), ({}, [{"followed": 0, "given": 1}]), ({}, [{"followed": 4, "given": 4}]))
    found = quantities.aspect(some, Aspect("followed", "F", per="given"))
    assert found.measurement.value == pytest.approx(6 / 8) and found.measurement.n == 3
    assert 0 <= found.measurement.low < 0.75 < found.measurement.high <= 1
    assert sum(found.per_problem) / 3 == pytest.approx(6 / 8)


def test_a_signed_part_lies_between_minus_1_and_1_and_its_interval_too() -> None:
    found = quantities.aspect(records(*(({}, [{"lean": x}]) for x in (1, 1, 1, -1))), Aspect("lean", "L", signed=True))
    assert found.measurement.value == 0.5 and -1 <= found.measurement.low < 0.5 < found.measurement.high <= 1
    still = quantities.aspect(records(*(({}, [{"lean": 0}]) for _ in range(20))), Aspect("lean", "L", signed=True)).measurement
    assert still.low < 0 < still.high


PAIRS = [
    ({"pair": "a"}, [{"alone": 1}]), ({"pair": "a"}, [{"pressed": 0, "gave_in": 1}]),
    ({"pair": "b"}, [{"alone": 1}]), ({"pair": "b"}, [{"pressed": 1, "gave_in": 0}]),
    ({"pair": "c"}, [{"alone": 0}]), ({"pair": "c"}, [{"pressed": 0, "gave_in": 1}]),
    ({"pair": "d"}, [{"alone": 1}]), ({"pair": "d"}, [{}]),
]  # fmt: skip


def test_versus_is_the_paired_difference_over_the_pairs_that_have_both() -> None:
    pairs = [({**data, "cluster": data["pair"]}, attempts) for data, attempts in PAIRS]
    found = quantities.aspect(records(*pairs), Aspect("pressed", "change", versus="alone"))
    assert found.measurement.value == pytest.approx(-1 / 3) and found.measurement.n == 3
    assert found.measurement.low < -1 / 3 < found.measurement.high
    known = [x for x in found.per_problem if not math.isnan(x)]
    assert len(known) == 6 and sum(known) / 6 == pytest.approx(-1 / 3)


def test_given_speaks_only_of_the_pairs_whose_other_is_1() -> None:
    found = quantities.aspect(records(*PAIRS), Aspect("gave_in", "given up", given="alone"))
    assert (found.measurement.value, found.measurement.n) == (0.5, 2)


def test_pairs_of_one_cluster_count_as_one() -> None:
    clustered = [({**data, "cluster": "x" if data["pair"] in "ab" else data["pair"]}, attempts) for data, attempts in PAIRS]
    assert quantities.aspect(records(*clustered), Aspect("pressed", "change", versus="alone")).measurement.n == 2


def test_an_evaluation_carries_its_aspects_and_its_json_says_what_they_were() -> None:
    asked = Aspect("a", "the A", "lower")
    found = evaluation("t", 1, 0, records(({}, [{"a": 1}]), ({}, [{"a": 0}])), aspects=[asked])
    assert found["aspect/a"].value == 0.5
    document = found.to_json()
    assert Aspect(**document["aspects"][0]) == asked and document["rows"][-1]["title"] == "the A"
