"""Does a program do what its tests say? Program and tests run in a sandbox each, and the tests' side alone comes to the verdict.

Tests that share a process with the program believe whatever it does to that process: it can end it with exit code 0, print
what a passed test prints, return objects that equal everything, patch `assert`'s helpers, or read the expected values
from the caller's frame. Here nothing of that is in reach. The program's sandbox holds the program; it is asked for one call
after the other, and answers with data (`inside/wire.py`). The tests' sandbox holds the tests, does the comparing, and writes
the verdict to a stream that only it has. The program's own output is read by nobody.

What is judged how:

- All checks hold: 1. Some do not, or the program does not compile, raises, crashes or ends early: 0, with the first reason.
- The program runs out of time (`timeout_s` of processor time, or `WALL_FACTOR` times as much by the clock), of memory, or
  floods its output: 0, with that reason. A program that does not end within its limits has failed its test; the clock's
  limit is so far away that only a program that waits, or a machine that is several times overloaded, meets it.
- The sandbox could not be started, the tests do not compile, or they hand over what is no data: nan. Neither is the program's doing.
- The tests do not come to their end once they have begun (an answer can keep them busy for ever): 0. Their own faults
  show when the task's solutions are judged, which each command does first.

Deviations from running tests in the program's process, as HumanEval's and MBPP's own programs do (2107.03374, 2108.07732):
arguments and results cross as copies (a changed list, dict or set is changed on the tests' side too, one within another is a
copy); an object that is no data equals nothing; functions cannot be handed to the program.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain import sandbox
from posttrain.sandbox import Limits, Program, Ran
from posttrain.types import Score, UserError, unscored

TIMEOUT_S = 5.0
WALL_FACTOR = 4
"""How many times as long by the clock as on the processor."""
_SLACK_S = 5.0
"""What the tests' side and the start of both have left beyond the program's time, on a slow machine."""
_INSIDE = Path(__file__).with_name("inside")
_MIB = 1 << 20


@dataclass(frozen=True)
class Tests:
    """What a program must fulfil: Python that runs on the tests' side."""

    __test__ = False  # for pytest: no test case

    checks: tuple[str, ...]
    """Statements, `assert add(1, 2) == 3`, say; each passes if it raises nothing. They share one namespace."""
    setup: tuple[str, ...] = ()
    """What runs before the checks: helpers and constants of the tests' own, which a program cannot replace."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names for what the program defines, `{"candidate": "add"}`; they win over what `setup` defines. Other names that
    the tests use and do not define are found in the program under the same name."""

    def __post_init__(self) -> None:
        if not self.checks:
            raise UserError("a program cannot be judged by no tests: give at least one")


async def unit_tests(program: str, tests: Tests, timeout_s: float = TIMEOUT_S) -> Score:
    """1 if the program passes all its tests, 0 if not, nan if that could not be found out; `parts` has the share of checks passed.

    `timeout_s` is processor time of the program, over all checks together. Raises `UserError` where there is no sandbox.
    """
    if timeout_s <= 0:
        raise UserError(f"the timeout of unit tests must be above 0, not {timeout_s}")
    wall_s = WALL_FACTOR * timeout_s + _SLACK_S
    cpu_s = math.ceil(timeout_s)
    limits = Limits(wall_s=wall_s, cpu_s=cpu_s, processes=32, disk_bytes=16 * _MIB, output_bytes=4096)
    spec = {"setup": tests.setup, "checks": tests.checks, "aliases": dict(tests.aliases)}
    of_tests, of_program = await sandbox.run_connected(
        _side("tests_side", {"tests.json": json.dumps(spec)}, Limits(wall_s=wall_s + _SLACK_S, cpu_s=2 * cpu_s + math.ceil(_SLACK_S))),
        _side("program_side", {"program.py": program.encode("utf-8", "replace")}, limits),
    )
    return score(of_tests, of_program)


def _side(name: str, files: Mapping[str, bytes | str], limits: Limits) -> Program:
    code = {f"{file}.py": (_INSIDE / f"{file}.py").read_text() for file in (name, "wire")}
    return sandbox.python(code[f"{name}.py"], files={**files, "wire.py": code["wire.py"]}, limits=limits)


def score(of_tests: Ran, of_program: Ran) -> Score:
    """The judgement, from how both sandboxes ended. Of the program's nothing is read but how it ended."""
    for ran in (of_tests, of_program):
        if ran.outcome == "could_not_start" or of_tests.outcome == "stopped":
            return unscored(f"the sandbox gave out: {ran.explanation}")
    ready, verdict = _spoken(of_tests)
    if not ready:
        return unscored(f"the tests could not begin: {of_tests.explanation}, {of_tests.stderr.strip()[-300:]}")
    if "unjudgeable" in verdict:
        return unscored(str(verdict["unjudgeable"]))
    if "passed" in verdict and not verdict["failure"]:
        return Score(1.0, {"passed_frac": 1.0}, f"all {verdict['of']} checks passed")
    passed_frac = verdict["passed"] / verdict["of"] if "passed" in verdict else 0.0
    return Score(0.0, {"passed_frac": passed_frac}, _reason(verdict, of_tests, of_program))


def _spoken(of_tests: Ran) -> tuple[bool, Mapping[str, Any]]:
    """Whether the tests could begin, and their verdict, empty if there is none. The stream is the tests' side's alone."""
    lines = [json.loads(line) for line in of_tests.stdout.splitlines()]
    return bool(lines), lines[1] if len(lines) > 1 else {}


def _reason(verdict: Mapping[str, Any], of_tests: Ran, of_program: Ran) -> str:
    if of_program.outcome in ("timeout", "out_of_memory", "output_flood"):
        return f"the program did not end within its limits: {of_program.explanation}"
    if verdict.get("failure"):
        return f"{verdict['passed']} of {verdict['of']} checks passed; {verdict['failure']}"
    if "gone" in verdict:
        return f"the program was gone before the tests had ended: {of_program.explanation} {of_program.stderr.strip()[-300:]}".strip()
    return f"the tests did not come to an end with this program: {of_tests.explanation}"
