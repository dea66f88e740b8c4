"""The same mathematics: is the last answer that a text gives equal to the gold answer?

The comparing is done by `math-verify` (0.9, github.com/huggingface/Math-Verify) in a worker process, with its own
signal-based time limits off, since those work in no thread and do not interrupt one long multiplication; our wall
clock rules. What cannot be judged in time, in memory or at all is nan. Deviations from calling `math-verify` on the
whole text, all of them in what counts as the answer:

- The last closed `\\boxed{…}` counts, else the rest of the line after the last `####`. Two different boxes, or `####` many
  times over, are one answer, the last; a list of guesses inside one box is a list, and equals no single number.
- A box that is empty or never closed, and a `####` with nothing after it, say nothing and are passed over.
- Boxes come before `####` wherever they stand, since `####` also begins a heading.
- Only a text without any marked answer is searched by `math-verify` itself (what follows "answer", then the rightmost).
- Equal texts, and whole numbers, are decided at once, digit by digit, and need no worker. Against a gold number, words
  after a number are its unit ("18 dollars"; `math-verify` knows only some units), unless they count ("5 million").

Hostile texts: towers of powers are never worked out by us; they differ from the gold answer or run out of time.
"""

from __future__ import annotations

import re

from posttrain.rewards.exact import number
from posttrain.rewards.workers import WorkerFailure, call_async
from posttrain.types import Rollout, Score, unscored

TIMEOUT_S = 5.0
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"####(.*)")
_COUNTING_WORDS = frozenset("hundred thousand million billion trillion dozen half third quarter and or to point percent".split())


def final_answer(text: str) -> str | None:
    """What the last closed, non-empty `\\boxed{…}` holds, else what follows the last non-empty `####`, else None."""
    hashed = [match[1].strip("# \t\r") for match in _HASHES.finditer(text)]
    answers = [answer for answer in _boxes(text) if answer] or [answer for answer in hashed if answer]
    return answers[-1] if answers else None


def _boxes(text: str) -> list[str]:
    """What the closed boxes hold, in the order in which they close; one pass, however many were opened."""
    opening = {match.end() - 1 for match in _BOX.finditer(text)}
    unclosed: list[int] = []
    boxes: list[str] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            unclosed.append(brace.start())
        elif brace[0] == "}" and unclosed and (start := unclosed.pop()) in opening:
            boxes.append(text[start + 1 : brace.start()].strip())
    return boxes


async def math_equal(text: str, gold: str, timeout_s: float = TIMEOUT_S) -> Score:
    """1 if the answer that `text` gives equals `gold` as mathematics, 0 if not, nan with the reason if it could not be judged.

    `timeout_s` is wall clock, in seconds, of the comparison alone: neither starting a worker nor waiting for one counts.
    """
    answer = final_answer(text)
    if answer is None:
        return await _verified("text_equals", text, gold, timeout_s)
    if (same := _plainly_equal(answer, gold)) is not None:
        return _score(same, answer, gold)
    return await _verified("answer_equals", answer, gold, timeout_s)


def _plainly_equal(answer: str, gold: str) -> bool | None:
    """Whether they are equal, where that needs no algebra; else None."""
    if "".join(answer.split()) == "".join(gold.split()):
        return True
    ours, theirs = number(_without_unit(answer)), number(gold)
    if ours is None or theirs is None:
        return None
    return True if ours == theirs else None if "." in ours + theirs else False


def _without_unit(answer: str) -> str:
    head, _, tail = answer.strip().partition(" ")
    words = tail.lower().rstrip(".").split()
    return head if words and all(word.isalpha() and word not in _COUNTING_WORDS for word in words) else answer


async def _verified(judge: str, answer: str, gold: str, timeout_s: float) -> Score:
    try:
        same = await call_async(f"posttrain.rewards.math_verify_judge:{judge}", answer, gold, timeout_s=timeout_s)
    except WorkerFailure as failure:
        return unscored(f"math-verify gave no verdict: {failure}")
    return _score(same, answer, gold)


def _score(same: bool | None, answer: str, gold: str) -> Score:
    """None is an answer that was not found."""
    return Score(float(bool(same)), {"parsed": float(same is not None)}, f"{answer[-80:]!r} {'equals' if same else 'is not'} {gold[:80]!r}")


async def math_answer(rollout: Rollout) -> Score:
    """`math_equal` of what the assistant said last and the problem's answer."""
    return await math_equal(rollout.text, rollout.problem.answer)
