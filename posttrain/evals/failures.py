"""Why an attempt failed, read off its trajectory by rules in a fixed order; nobody looks at it.

1. *infrastructure*: the machinery failed, or the attempt could not be judged.
2. *success*: the score is 1.
3. Else what went wrong first in time decides, if something did:
   - *hallucinated result*: the model wrote the answer of a tool itself;
   - *wrong tool*, *wrong argument*: an accepted call changed the world otherwise than what was due, by another tool than that takes
     (or when nothing was due), or by the right one with something else in it;
   - *repeated loop*: the same turns came `TIMES` times in a row, alone or in a cycle of up to `LONGEST`, and were not all right.
     It began with the first turn that repeated.
4. Else nothing was spoiled, and the end decides:
   - *ran out*: a budget ended the attempt;
   - a refusal was left unanswered: *wrong tool* where there is no such tool, *wrong argument* otherwise, also for a call that could
     not be read;
   - *hallucinated result*: it ended on a number that it was never told, or, with everything done, on an untrue one;
   - *gave up*: it ended, and not everything was done or said.

What is refused and then mended is no failure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from posttrain.rewards.exact import last_number, number
from posttrain.tasks.jobs import Trace
from posttrain.types import Message, Rollout, Score

Kind = Literal["success", "wrong tool", "wrong argument", "repeated loop", "hallucinated result", "gave up", "ran out", "infrastructure"]
KINDS: tuple[Kind, ...] = (
    "success", "wrong tool", "wrong argument", "repeated loop", "hallucinated result", "gave up", "ran out", "infrastructure",
)  # fmt: skip

TIMES, LONGEST = 3, 4
ANSWERS = ("<tool_response", "[TOOL_RESULTS]")
"""What only a tool's answer is written in."""
UNREADABLE = "error: Your call could not be read"
_NUMBER = re.compile(r"-?\d[\d,.]*")


@dataclass(frozen=True)
class Verdict:
    """How an attempt ended."""

    kind: Kind
    why: str
    """The evidence, in words."""
    right: int
    """How many of its steps were right before the first that was not."""
    failed: bool
    """Whether the next step is known to have failed: it was wrong, or the model stopped, or went round in circles, before it was
    right. Not so where everything was done, or where a budget or the machinery ended the attempt."""


def verdict(rollout: Rollout, score: Score, trace: Trace) -> Verdict:
    """What became of an attempt at a job."""
    kind, why = _kind(rollout, score, trace)
    more_to_do = len(trace.steps) + _history(rollout) < trace.horizon
    stopped = kind not in ("success", "ran out", "infrastructure") and more_to_do and trace.n_right == len(trace.steps)
    erred = trace.first_error is not None and trace.first_error.number < trace.horizon
    return Verdict(kind, why, trace.n_right, erred or stopped)


def _kind(rollout: Rollout, score: Score, trace: Trace) -> tuple[Kind, str]:
    if rollout.outcome == "error" or score.is_unscored:
        return "infrastructure", rollout.error or score.explanation
    if score.value >= 1:
        return "success", ""
    events = sorted([*_loops(rollout, trace), *_made_up(rollout), *_wrong(trace)])
    return events[0][2:] if events else _end(rollout, score, trace)


# ------------------------------------------------------------------------------------------------- what goes wrong on the way

Event = tuple[int, int, Kind, str]
"""The turn, its rank within the turn, what it was, and the evidence."""


def _wrong(trace: Trace) -> Iterator[Event]:
    step = trace.first_error
    if step is not None:
        kind: Kind = "wrong argument" if step.tool_fits else "wrong tool"
        due = f"for operation {step.number + 1}" if step.number < trace.horizon else "when everything had been done"
        yield step.turn, 2, kind, f"turn {step.turn + 1}: {step.call.name}({_json(step.call.arguments)}) {due}"


def _made_up(rollout: Rollout) -> Iterator[Event]:
    for turn, message in enumerate(_turns(rollout)):
        if any(mark in message.content for mark in ANSWERS):
            yield turn, 1, "hallucinated result", f"turn {turn + 1} holds the answer of a tool, written by the model"
            return


def _loops(rollout: Rollout, trace: Trace) -> Iterator[Event]:
    said = [_content(message) for message in _turns(rollout)]
    right = {step.turn for step in trace.steps if step.right}
    for start in range(len(said)):
        for period in range(1, LONGEST + 1):
            end = start + period * TIMES
            if end > len(said) or said[start:end] != said[start : start + period] * TIMES or right >= set(range(start, end)):
                continue
            yield start + period, 0, "repeated loop", f"turns {start + 1} to {start + period} come again and again from turn {start + period + 1}"
            return


def _content(message: Message) -> str:
    """What makes two turns the same: their calls, or without any their words."""
    return _json([[call.name, dict(call.arguments)] for call in message.tool_calls]) if message.tool_calls else message.content


# --------------------------------------------------------------------------------------------------------- how it ends


def _end(rollout: Rollout, score: Score, trace: Trace) -> tuple[Kind, str]:
    if rollout.outcome == "truncated":
        return "ran out", rollout.error
    all_done = len(trace.steps) + _history(rollout) >= trace.horizon
    if (refusal := _unanswered(rollout, trace)) is not None:
        return refusal
    said, text = last_number(rollout.text), rollout.text.strip()
    if said is not None and (all_done or said not in _told(rollout)):
        return "hallucinated result", f"it ended on {said}, " + (f"and the world has {trace.report}" if all_done else "which it was never told")
    return "gave up", f"it ended with {len(trace.steps)} of {trace.horizon} operations done" + (f": {text[:80]!r}" if text else "")


def _unanswered(rollout: Rollout, trace: Trace) -> tuple[Kind, str] | None:
    """The refusal behind which no call was made any more, while something was left to do."""
    turns = _turns(rollout)
    last = max((turn for turn, message in enumerate(turns) if message.tool_calls or _is_unreadable(rollout, turn)), default=-1)
    if last < 0 or len(trace.steps) + _history(rollout) >= trace.horizon:
        return None
    if _is_unreadable(rollout, last) and not turns[last].tool_calls:
        return "wrong argument", f"turn {last + 1}: a call that could not be read"
    refused = next((r for r in reversed(trace.refused) if r.turn == last), None)
    if refused is None:
        return None
    kind: Kind = "wrong argument" if refused.is_known else "wrong tool"
    return kind, f"turn {last + 1}: {refused.call.name}({_json(refused.call.arguments)}) was refused"


def _is_unreadable(rollout: Rollout, turn: int) -> bool:
    """Whether the turn was told that a call in it could not be read."""
    places = [i for i, message in enumerate(rollout.messages) if message.role == "assistant"]
    end = places[turn + 1] if turn + 1 < len(places) else len(rollout.messages)
    return any(message.content.startswith(UNREADABLE) for message in rollout.messages[places[turn] + 1 : end])


def _told(rollout: Rollout) -> set[str | None]:
    """Every number that it was told, in the question or by a tool."""
    texts = [m.content for m in (*rollout.problem.messages, *rollout.messages) if m.role != "assistant"]
    return {number(found.rstrip(".,")) for text in texts for found in _NUMBER.findall(text)}


def _turns(rollout: Rollout) -> Sequence[Message]:
    return [message for message in rollout.messages if message.role == "assistant"]


def _history(rollout: Rollout) -> int:
    """How many operations had been carried out before it began."""
    return max(0, rollout.problem.data.get("stop_after", 0) - 1)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=dict)
