"""Holds every exact check, and the published table of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.exact.check import Check, CheckFunction, rows
from tests.exact.table import SECTIONS, checks

DOCUMENT = Path(__file__).parents[2] / "docs" / "CORRECTNESS.md"

FUNCTIONS = [
    pytest.param(function, id=function.__name__, marks=[pytest.mark.slow] if slow else [])
    for section in SECTIONS
    for slow in (False, True)
    for function in checks(section, slow)
]
every_check = pytest.mark.parametrize("function", FUNCTIONS)


def published() -> dict[tuple[str, str], list[str]]:
    """The cells of the committed table, by check and claim."""
    table = [re.split(r" \| ", text[2:-2]) for text in DOCUMENT.read_text().splitlines() if text.endswith("` |")]
    return {(cells[-1].strip("`"), cells[1]): cells for cells in table}


@every_check
def test_what_is_claimed_is_measured(function: CheckFunction):
    measured = rows(function)
    assert measured
    assert [check for check in measured if not check.holds] == []


@every_check
def test_the_published_table_says_what_is_measured(function: CheckFunction):
    table = published()
    for check in rows(function):
        cells = table.get((function.__name__, check.claim))
        assert cells, f"docs/CORRECTNESS.md lacks {check.claim!r}: run `python -m tests.exact.table > docs/CORRECTNESS.md`"
        relation, expected = cells[2].split()
        assert (cells[0], relation) == (check.item, check.relation)
        assert float(expected) == pytest.approx(check.expected, rel=1e-3)
        # Up to rounding: what the check tolerates, and the digits that are printed.
        assert float(cells[3]) == pytest.approx(check.measured, abs=max(check.tolerance, 1e-8), rel=1e-3)


def test_the_published_table_has_no_row_that_nothing_measures():
    names = {parameter.id for parameter in FUNCTIONS}
    assert {name for name, _ in published()} == names


def test_no_two_checks_have_the_same_name_or_claim():
    names = [parameter.id for parameter in FUNCTIONS]
    assert len(set(names)) == len(names)
    claims = [check.claim for parameter in FUNCTIONS if not parameter.marks for check in rows(parameter.values[0])]
    assert len(set(claims)) == len(claims)


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (Check("", "", 1.0, 1.01, 0.02), True),
        (Check("", "", 1.0, 1.03, 0.02), False),
        (Check("", "", 1.0, float("nan"), 0.02), False),
        (Check("", "", 1.0, 0.9, relation="<"), True),
        (Check("", "", 1.0, 1.0, relation="<"), False),
        (Check("", "", 1.0, 1.1, relation=">"), True),
        (Check("", "", 1.0, float("nan"), relation=">"), False),
    ],
)
def test_a_check_holds_within_its_tolerance_and_never_for_nan(check: Check, holds: bool):
    assert check.holds is holds
