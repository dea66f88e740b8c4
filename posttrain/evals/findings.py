"""What a comparison shows beside its headline, in sentences: where the curves of pass@k cross, and what temperature explains."""

from __future__ import annotations

import math

from posttrain.evals.comparison import Matched
from posttrain.statistics import Crossover

OUTCOMES = {
    "better": "training did more than {kind} does", "worse": "training did less than {kind} does",
    "tied": "this shows no more than the base at {kind}", "unknown": "too few problems to say more",
}  # fmt: skip


def crossover_sentence(found: Crossover) -> str:
    """From how many attempts on the base is ahead of the trained model."""
    ends = " to ".join(_attempts(k, found.largest_k) for k in (found.low, found.high))
    evidence = f"n = {found.n} problems" if math.isinf(found.low) else f"95% interval {ends}, n = {found.n} problems"
    if found.k == 1:
        return f"pass@k: the base is ahead from the first attempt on ({evidence})."
    where = f"nowhere ahead up to k = {found.largest_k}" if math.isinf(found.k) else f"ahead from k = {found.k:.0f} on"
    return f"pass@k: the base is {where} ({evidence}; somewhere ahead in {found.share:.0%} of resamples)."


def _attempts(k: float, most: int) -> str:
    return f"none up to {most}" if math.isinf(k) else f"{k:.0f}"


def matched_sentence(found: Matched) -> str:
    """Whether the trained model is more than the base at a temperature at which the two are equally sure."""
    row = found.rows[0]
    assert row.base is not None and row.trained is not None and row.difference is not None, "accuracy is of both"
    was, now, change = row.base, row.trained, row.difference
    kind = "a lower temperature" if found.temperature < found.base_temperature else "another temperature"
    outcome = OUTCOMES[found.verdict.outcome].format(kind=kind)
    caution = f", {found.note}" if found.note else ""
    evidence = f"{100 * change.value:+.0f} points, 95% interval {100 * change.low:.0f} to {100 * change.high:.0f}, n = {change.n} other problems"
    return (
        f"At temperature {found.temperature:.2g} the base is as sure as the trained model at {found.base_temperature:g} ({_sureness(found)}"
        f"{caution}): {outcome} (accuracy {was.value:.0%} against {now.value:.0%}; {evidence})."
    )


def _sureness(found: Matched) -> str:
    if found.by == "entropy":
        return f"{found.reached.value:.2g} against {found.target.value:.2g} nats a token"
    return f"{found.reached.value:.0%} against {found.target.value:.0%} of answers agree"
