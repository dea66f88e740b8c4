"""Programs against tests: the verdict, its reasons, and what is nobody's fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from posttrain.rewards.unit_tests import Tests, score, unit_tests
from posttrain.sandbox import Ran
from posttrain.types import Score, UserError
from tests.sandboxed import needs_sandbox

ADD = Tests(("assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'"))


def judged(program: str, tests: Tests, timeout_s: float = 5.0) -> Score:
    return asyncio.run(unit_tests(program, tests, timeout_s))


def judged_all(programs: Sequence[str], tests: Tests, timeout_s: float = 5.0) -> list[Score]:
    async def run() -> list[Score]:
        return await asyncio.gather(*(unit_tests(program, tests, timeout_s) for program in programs))

    return asyncio.run(run())


# -------------------------------------------------------------------------------------------------------------- in sandboxes


@needs_sandbox
def test_a_right_program_scores_1_and_wrong_ones_0_with_the_first_reason():
    cases = {
        "def add(a, b): return a + b": (1, 1, "all 2 checks passed"),
        "def add(a, b): return 3": (0, 0.5, "1 of 2 checks passed; AssertionError at: assert add('a', 'b') == 'ab'"),
        "def add(a, b): return b + a": (0, 0.5, "1 of 2 checks passed"),
        "def add(a, b): print('PASSED')": (0, 0, "0 of 2 checks passed; AssertionError at: assert add(1, 2) == 3"),
        "def add(a, b): raise ValueError('no')": (0, 0, "ValueError: no at: assert add(1, 2) == 3"),
        "def add(a, b: return": (0, 0, "the program could not be loaded: SyntaxError"),
        "import no_such_module": (0, 0, "ModuleNotFoundError"),
        "subtract = None": (0, 0, "NameError: name 'add' is not defined"),
        "if __name__ == '__main__': exit()\ndef add(a, b): return a + b": (1, 1, "all 2 checks passed"),
        "import os; os._exit(0)": (0, 0, "the program was gone before the tests had ended: it ended with exit code 0"),
        "\ud800 = 1": (0, 0, "SyntaxError"),
    }
    for (value, passed, reason), found in zip(cases.values(), judged_all(list(cases), ADD), strict=True):
        assert (found.value, found.parts["passed_frac"]) == (value, passed), found
        assert reason in found.explanation


@needs_sandbox
@pytest.mark.parametrize(
    ("program", "timeout_s", "reason"),
    [
        ("def add(a, b):\n    while True: pass", 1.0, "it used more than 1 s of the processor"),
        ("def add(a, b): return [bytearray(1 << 24) for _ in range(1000)]", 10.0, "memory"),  # which itself takes up to a second to fill
        ("def add(a, b):\n    while True: print('x' * 10**6)", 1.0, "it wrote more than"),
    ],
)
def test_a_program_that_does_not_end_within_its_limits_has_failed(program: str, timeout_s: float, reason: str):
    found = judged(program, ADD, timeout_s=timeout_s)
    assert found.value == 0
    assert "did not end within its limits" in found.explanation and reason in found.explanation


@needs_sandbox
@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        (Tests(("assert add(1,",)), "the tests could not begin"),
        (Tests(("assert add(lambda: 1, 2) == 3",)), "a function cannot be handed to the program"),
        (Tests(("assert add('x' * 5_000_000, 'y')",)), "cannot be handed over"),
    ],
)
def test_tests_that_are_at_fault_leave_the_program_unscored(tests: Tests, reason: str):
    found = judged("def add(a, b): return a + b", tests)
    assert found.is_unscored
    assert reason in found.explanation


PROGRAM = """
import collections, re
LIMIT = 10
class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b
    def swapped(self):
        return Pair(self.b, self.a)
def total(pairs): return [p.a for p in pairs]
def count(text): return collections.Counter(text)
def evens():
    n = 0
    while True:
        yield n
        n += 2
def sort_in_place(items): items.sort()
def fill(table): table["x"] = [1]
def sum(a, b): return f"{a} and {b}"
def fail(kind): raise kind
class Own(LookupError): pass
def own(): raise Own("mine")
def of_type(items, kind): return [item for item in items if type(item) is kind]
class Anything:
    def __eq__(self, other): return True
def anything(): return Anything()
"""


@needs_sandbox
def test_what_a_program_has_can_be_used_by_its_tests():
    tests = Tests(
        (
            "assert total([Pair(1, 2), Pair(3, 4)]) == [1, 3]",
            "assert Pair(1, 2).swapped().a == 2",
            "p = Pair(1, 2); p.a = 5; assert total([p]) == [5]",
            "assert LIMIT == 10",
            "assert count('aab') == {'a': 2, 'b': 1}",
            "assert list(itertools.islice(evens(), 3)) == [0, 2, 4]",
            "items = [3, 1, 2]; sort_in_place(items); assert items == [1, 2, 3]",
            "table = {}; fill(table); assert table == {'x': [1]}",
            "assert sum(1, 2) == '1 and 2'",
            "assert of_type([1, 2.0, True], int) == [1]",
            "assert raised(own) is LookupError",
            "assert math.isclose(helper(LIMIT), 20)",
            "assert not (anything() == 1) and anything() != 1",
        ),
        setup=(
            "def helper(x):\n    return 2.0 * x",
            "def raised(f):\n    try:\n        f()\n    except Exception as error:\n        return type(error)",
        ),
        aliases={"sum": "sum"},
    )  # fmt: skip
    found = judged(PROGRAM, tests)
    assert found.value == 1, found.explanation


@needs_sandbox
def test_a_program_cannot_replace_what_its_tests_are_made_of():
    setup = "import math\ndef close(a, b): return a == b\ndef check(g): assert g() == 2"
    tests = Tests(("assert close(f(), 2)", "assert math.isclose(f(), 2)", "check(f)"), (setup,))
    cheat = "def f(): return 1\nclose = check = lambda *args: True\nclass math:\n    isclose = lambda *args: True"
    assert judged(cheat, tests).parts["passed_frac"] == 0


# ------------------------------------------------------------------------------------------------- the judgement of two ends

READY = '{"ready": true}\n'
PASSED, FAILED = '{"passed": 2, "of": 2, "failure": ""}\n', '{"passed": 1, "of": 2, "failure": "AssertionError"}\n'
ENDED = Ran("ok", 0)


@pytest.mark.parametrize(
    ("of_tests", "of_program", "value"),
    [
        (Ran("ok", 0, READY + PASSED), ENDED, 1.0),
        (Ran("ok", 0, READY + PASSED), Ran("stopped"), 1.0),
        (Ran("ok", 0, READY + FAILED), ENDED, 0.0),
        (Ran("ok", 0, READY + '{"gone": true}'), Ran("nonzero_exit", 139), 0.0),
        (Ran("ok", 0, READY + '{"gone": true}'), Ran("timeout"), 0.0),
        (Ran("timeout", None, READY), Ran("stopped"), 0.0),
        (Ran("out_of_memory", 137, READY), Ran("stopped"), 0.0),
        (Ran("ok", 0, READY + '{"unjudgeable": "a function"}'), ENDED, None),
        (Ran("nonzero_exit", 1, ""), ENDED, None),
        (Ran("could_not_start"), Ran("stopped"), None),
        (Ran("ok", 0, READY + '{"gone": true}'), Ran("could_not_start"), None),
        (Ran("stopped", None, READY), Ran("stopped"), None),
    ],
)
def test_the_verdict_is_the_tests_sides_alone_and_a_sandbox_that_gave_out_is_nobodys_fault(of_tests: Ran, of_program: Ran, value: float | None):
    found = score(of_tests, of_program)
    assert found.is_unscored if value is None else found.value == value
    assert found.explanation


@pytest.mark.parametrize("ran", [Ran("ok", 0, READY + PASSED), Ran("ok", 0, READY + PASSED, PASSED), Ran("ok", 0, PASSED * 3, READY)])
def test_what_the_program_printed_is_not_read(ran: Ran):
    assert score(Ran("ok", 0, READY + FAILED), ran).value == 0


def test_tests_without_a_check_and_a_time_of_nothing_are_refused():
    with pytest.raises(UserError, match="give at least one"):
        Tests(())
    with pytest.raises(UserError, match="timeout of unit tests must be above 0"):
        judged("", ADD, timeout_s=0)
