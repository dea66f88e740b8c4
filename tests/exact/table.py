"""The table of exact checks: `python -m tests.exact.table > docs/CORRECTNESS.md`.

To add a check: write a function that yields `Check`s, named by what it shows, in a module of this folder; put it into the
module's `CHECKS` (or into `SLOW_CHECKS`, if it takes more than seconds or needs a real model); list a new module in
`SECTIONS`; run the command above. `test_checks.py` then holds the function's claims and the published numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from tests.exact import (
    critics,
    distillation,
    divergences,
    fixed_points,
    forward,
    gradients,
    optima,
    preferences,
    reductions,
    reward_models,
    sampling,
    steps,
)
from tests.exact.check import Check, CheckFunction, rows

SECTIONS: tuple[ModuleType, ...] = (
    gradients, divergences, fixed_points, optima, critics, preferences, reward_models, distillation, reductions, sampling, steps, forward,
)  # fmt: skip

HEADER = """# What is checked exactly

Written by `python -m tests.exact.table > docs/CORRECTNESS.md`; no number here was typed by hand, and the tests measure
each again. Expectations are sums over every completion of a policy that has few enough of them, in float64: a *bandit*
(6 completions of one token), a *tree* (9 of two tokens, with logits of its own behind each prefix), a *stopping tree* (the
same with 15 completions of 1 to 3 tokens) and a *transformer* (a Llama of one layer, 121 completions of 1 to 4 tokens).
Gradients are compared with finite differences of the exact objective; a relative gradient error is the norm of the
difference over the norm of the truth. G is the group size.
The last two sections are of real forwards: *tiny* is a random Llama of two layers over bytes, *lanes* the same with heads of
16 numbers, *smollm2* the embedded model. What sampler and trainer differ by depends on the processor and on the shapes
that its products have kernels for.

- *item*: the number in the project's checklist of what goes silently wrong in post-training;
- *expected*: for `=`, what theory says, and *measured* lies within the *tolerance* of it; for `<` and `>` a bound;
- *check*: NAME in the test `tests/exact/test_checks.py::test_what_is_claimed_is_measured[NAME]`.
"""


def checks(section: ModuleType, slow: bool) -> tuple[CheckFunction, ...]:
    """The check functions of a section: those that run in every test, or those that run on demand."""
    return getattr(section, "SLOW_CHECKS", ()) if slow else section.CHECKS


def line(function: CheckFunction, check: Check) -> str:
    """A row of the table."""
    cells = (
        check.item,
        check.claim,
        f"{check.relation} {number(check.expected)}",
        number(check.measured),
        number(check.tolerance) if check.relation == "=" else "",
        f"`{function.__name__}`",
    )
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Five significant digits of a number, and one of what is but rounding and differs from machine to machine."""
    return f"{value + 0.0:.1g}" if abs(value) < 1e-6 else f"{value + 0.0:.5g}"


def lines() -> Iterator[str]:
    yield HEADER
    for section in SECTIONS:
        yield f"\n## {(section.__doc__ or '').splitlines()[0].rstrip('.')}\n"
        yield "| item | claim | expected | measured | tolerance | check |"
        yield "| ---- | ----- | -------- | -------- | --------- | ----- |"
        for function in checks(section, slow=False) + checks(section, slow=True):
            yield from (line(function, check) for check in rows(function))


if __name__ == "__main__":
    print("\n".join(lines()))
