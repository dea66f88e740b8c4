"""The same text, or the same last number: judges that need no library, cannot hang, and compare digits, never floats."""

from __future__ import annotations

import re
import unicodedata

from posttrain.types import Rollout, Score

_DASHES = str.maketrans({dash: "-" for dash in "\N{MINUS SIGN}\N{EN DASH}\N{SMALL HYPHEN-MINUS}\N{FULLWIDTH HYPHEN-MINUS}"})
# A run of digits as a whole, so that "1.2.3" or "1,2" is looked at in one piece; ASCII digits only; no nested repeats.
_RUN = re.compile(r"(?P<sign>-?)(?P<body>(?:(?<![.\w])\.)?[0-9][0-9.,]*)(?P<exponent>[eE][+-]?[0-9]+)?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_PLAIN = re.compile(r"[0-9]*\.?[0-9]+")
_OPERATOR_BEFORE = re.compile(r"[0-9)]\s*[-+/^*\N{MULTIPLICATION SIGN}\N{DIVISION SIGN}]{1,2}\s*$")
_DOLLAR = re.compile(r"^([-+]?)\\?\$\s*")
_WINDOW = 8
"""How many characters before a number are looked at."""


def normalise(text: str) -> str:
    """Lower case, one space between words, and no quotes, brackets, markup or punctuation at either end."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join(folded.split()).strip(" .,;:!?\"'`*_()[]{}$")


def number(text: str) -> str | None:
    """The number that `text` is, written in one way only ("-1,204.50" gives "-1204.5"), or None if it is anything else.

    A dollar sign before it and a full stop after it are allowed. Numbers stay strings: no overflow, no rounding, no
    cost that grows faster than the text.
    """
    bare = _DOLLAR.sub(r"\1", text.translate(_DASHES).strip().removesuffix(".").removesuffix("$").rstrip())
    sign, digits = ("-", bare[1:]) if bare.startswith("-") else ("", bare.removeprefix("+"))
    if not (_GROUPED.fullmatch(digits) or _PLAIN.fullmatch(digits)):
        return None
    whole, _, fraction = digits.replace(",", "").partition(".")
    size = (whole.lstrip("0") or "0") + (f".{fraction.rstrip('0')}" if fraction.rstrip("0") else "")
    return size if size == "0" else sign + size


def last_number(text: str) -> str | None:
    """The last number that stands in `text`, as `number` writes it, or None.

    Digits that follow a Latin letter ("x2") are part of a word. Commas group thousands or separate ("1,2" ends in 2); a
    number in scientific notation, with two points, or as the operand of an expression nobody worked out ("17+25",
    "9^9^9^9") is no answer: the result is None, and not some earlier number.
    """
    plain = text.translate(_DASHES)
    runs = [run for run in _RUN.finditer(plain) if not _in_a_word(plain, run.start())]
    if not runs:
        return None
    run = runs[-1]
    if run["exponent"] or _is_operand(plain, run):
        return None
    body = run["body"].rstrip(".,")
    return number(run["sign"] + body) or number(body.rpartition(",")[2])


def _is_operand(text: str, run: re.Match[str]) -> bool:
    before = text[max(0, run.start() - _WINDOW) : run.start()]
    subtracted = run["sign"] and before[-1:] in tuple("0123456789)")
    return bool(subtracted or _OPERATOR_BEFORE.search(before))


def _in_a_word(text: str, start: int) -> bool:
    before = text[start - 1 : start]
    return before == "_" or (before.isascii() and before.isalpha())


async def exact_text(rollout: Rollout) -> Score:
    """1 if the last assistant message says the problem's answer and nothing else, after `normalise`; else 0."""
    said, gold = normalise(rollout.text), normalise(rollout.problem.answer)
    return Score(float(said == gold), {}, f"said {said[:80]!r}, expected {gold[:80]!r}")


async def exact_number(rollout: Rollout) -> Score:
    """1 if the last number in the last assistant message is the problem's answer, else 0.

    The last, because a model restates the question on its way ("17+25=42"), and because a list of guesses then earns
    what its last entry does. Raises `ValueError` if the problem's own answer is no number.
    """
    gold = number(rollout.problem.answer)
    if gold is None:
        raise ValueError(f"the answer of problem {rollout.problem.id!r} is no number: {rollout.problem.answer!r}")
    said = last_number(rollout.text)
    return Score(float(said == gold), {"parsed": float(said is not None)}, f"last number {said and said[:80]}, expected {gold[:80]}")
