"""What a worker process runs to compare mathematics. Imports `math-verify` and with it sympy: a second, and 60 MB."""

from __future__ import annotations

import logging
from itertools import product
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

logging.disable(logging.CRITICAL)  # it warns of the missing time limit, which is ours to keep
_MARKED = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())


def answer_equals(answer: str, gold: str) -> bool:
    """Whether the content of one box equals the gold answer."""
    return _equal(_parsed(f"\\boxed{{{answer}}}"), gold)


def text_equals(text: str, gold: str) -> bool | None:
    """Whether the answer that `math-verify` finds in a text without marks equals the gold answer; None where it finds none."""
    candidates = _parsed(text)
    return _equal(candidates, gold) if candidates else None


def _parsed(text: str) -> list[Any]:
    return parse(text, _MARKED, parsing_timeout=None)


def _equal(candidates: list[Any], gold: str) -> bool:
    return any(_same(g, c) for g, c in product(_parsed(f"\\boxed{{{gold}}}"), candidates))


def _same(gold: Any, candidate: Any) -> bool:
    """One comparison. What sympy refuses to compare (1/0, say) is not equal; running out of memory or stack is no verdict."""
    try:
        return verify(gold, candidate, timeout_seconds=None, raise_on_error=True)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return False


answer_equals("1", "1")  # the first call builds the parser; better here than within the time of a judgement
