"""Where answers from sources go wrong: retrieval and reading told apart, and what each approach spends.

Every attempt is of one kind, and the kinds add up to all of them:

    right                 the answer is right, or there is none and the attempt says so
    document absent       nothing in the corpus answers this, and the attempt answered all the same
    wrong document        a document that the answer takes was not shown, though there was room for all of them
    more than fits        the answer lies in more documents than were shown at all, or one of them was found and left out for want of room
    reader                all that the answer takes was shown, and the attempt did not make it out
    unscored              the machinery or the judge failed

and, with a hit being an attempt that was shown every document its answer takes, over the questions that have an answer,

    accuracy = recall × accuracy given a hit + (1 − recall) × accuracy given a miss

which holds to rounding (`Anatomy.residual`), or something was counted twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

import numpy as np

from posttrain import statistics
from posttrain.evals import quantities
from posttrain.evals.measure import Evaluation
from posttrain.evals.quantities import Quantity
from posttrain.evals.records import Attempt, Record
from posttrain.retrieval.metrics import ranking_metrics
from posttrain.types import Measurement, UserError

Verdict = Literal["right", "document absent", "wrong document", "more than fits", "reader", "unscored"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Anatomy:
    """What became of all attempts of one agent."""

    quantities: tuple[Quantity, ...]
    counts: dict[Verdict, int]
    """How many attempts are of each kind."""
    kinds: dict[str, dict[Verdict, int]]
    """The same for each kind of question, by what the task calls it."""
    residual: float
    """How far the identity is from holding; nan where no question has an answer or no hit or miss was scored."""
    notes: tuple[str, ...] = ()
    """What a reader of the numbers must know."""
    withheld: str = ""
    """Why what rests on scores is not shown, or nothing: too many attempts could not be scored."""

    def __getitem__(self, name: str) -> Measurement:
        """The measurement of that name. Raises KeyError where there is none."""
        return {quantity.name: quantity.measurement for quantity in self.quantities}[name]


def gold(record: Record) -> tuple[str, ...]:
    """The documents that the answer takes, as the task says; none where nothing answers."""
    return tuple(record.problem.data["gold"])


def shown(attempt: Attempt) -> set[str]:
    """The documents of which the model saw a passage, in any of the attempt's lookups."""
    return {source.document for retrieval in attempt.rollout.retrievals for source in retrieval.shown}


def is_hit(record: Record, attempt: Attempt) -> bool:
    """Whether every document that the answer takes was shown."""
    return set(gold(record)) <= shown(attempt)


def verdict(record: Record, attempt: Attempt) -> Verdict:
    """What became of one attempt."""
    if attempt.score.is_unscored:
        return "unscored"
    if attempt.is_right:
        return "right"
    if not gold(record):
        return "document absent"
    if is_hit(record, attempt):
        return "reader"
    return "more than fits" if _did_not_fit(record, attempt) else "wrong document"


def _did_not_fit(record: Record, attempt: Attempt) -> bool:
    """Whether no choice of passages could have held the answer, or one that does was left out for want of room."""
    room = max((len(retrieval.shown) for retrieval in attempt.rollout.retrievals), default=0)
    left_out = {_document(name) for retrieval in attempt.rollout.retrievals for name in retrieval.left_out}
    return len(gold(record)) > room > 0 or bool((set(gold(record)) - shown(attempt)) & left_out)


def _document(passage_id: str) -> str:
    """The document of a passage, whose id is the document's name or `NAME:START-END`."""
    name, _, place = passage_id.rpartition(":")
    start, dash, end = place.partition("-")
    return name if name and dash and start.isdigit() and end.isdigit() else passage_id


def anatomy(evaluation: Evaluation, k: int = 10, unscored_ok: bool = False) -> Anatomy:
    """Retrieval, reading and spending of one agent on one task, whose problems name their documents under `gold` in `data`.

    Retrieval metrics are of the first lookup (the hybrid's own), over questions that have an answer, for documents by the rank of their best
    passage; they are left out where the package that measures them is not installed. Every rate has its error over problems. Where more than
    5% of the attempts could not be scored what rests on scores is withheld, unless `unscored_ok`. Raises
    `UserError` for a task that does not name the documents.
    """
    records = evaluation.records
    if any("gold" not in record.problem.data for record in records):
        raise UserError(f"{evaluation.task} does not say which documents its answers take: put their names under 'gold' in each problem's data")
    answerable, absent = [r for r in records if gold(r)], [r for r in records if not gold(r)]
    found = [
        quantities.accuracy(records),
        _share("recall", "all documents shown", "higher", answerable, is_hit),
        _accuracy_given("accuracy_hit", "accuracy given a hit", answerable, is_hit),
        _accuracy_given("accuracy_miss", "accuracy given a miss", answerable, lambda r, a: not is_hit(r, a)),
        quantities.accuracy(answerable, "accuracy_answerable", "accuracy where there is an answer"),
        quantities.accuracy(absent, "accuracy_absent", "abstains where there is none"),
        _share("abstained_wrongly", "abstains where there is an answer", "lower", answerable, _part("abstained")),
        _share("copied", "names a value of another document", "lower", records, _part("copied")),
        *_retrieval(answerable, k),
        _mean("read_tokens", "read per question", records, lambda a: sum(len(c.prompt_token_ids) for c in a.rollout.completions)),
        _mean("written_tokens", "written per question", records, lambda a: a.rollout.n_tokens),
    ]
    verdicts = [(record.problem.data.get("kind", ""), verdict(record, attempt)) for record in records for attempt in record.attempts]
    counts = _counted(v for _, v in verdicts)
    kinds = {kind: _counted(v for k, v in verdicts if k == kind) for kind in dict.fromkeys(kind for kind, _ in verdicts)}
    return Anatomy(tuple(found), counts, kinds, residual(answerable), evaluation.notes, "" if unscored_ok else evaluation.withheld)


def residual(records: Sequence[Record]) -> float:
    """|accuracy − recall × accuracy given a hit − (1 − recall) × accuracy given a miss| over all scored attempts."""
    scored = [(is_hit(record, a), a.score.value) for record in records for a in record.attempts if not a.score.is_unscored]
    if not scored:
        return math.nan
    hits, values = np.array([hit for hit, _ in scored]), np.array([value for _, value in scored])
    recall = hits.mean()
    parts = [weight * values[which].mean() for weight, which in ((recall, hits), (1 - recall, ~hits)) if which.any()]
    return float(abs(values.mean() - sum(parts)))


def _counted(verdicts: Iterable[Verdict]) -> dict[Verdict, int]:
    counts = Counter(verdicts)
    return {name: counts[name] for name in VERDICTS}


def _part(name: str) -> Callable[[Record, Attempt], bool]:
    return lambda record, attempt: attempt.score.parts.get(name, 0.0) > 0


def _scored(record: Record) -> list[Attempt]:
    return [attempt for attempt in record.attempts if not attempt.score.is_unscored]


def _share(name: str, title: str, better, records: Sequence[Record], of: Callable[[Record, Attempt], bool]) -> Quantity:
    """The share of scored attempts of which something is true."""
    rows = [[float(of(record, attempt)) for attempt in _scored(record)] for record in records]
    n_unscored = sum(len(record.attempts) for record in records) - sum(map(len, rows))
    return quantities.rate(name, title, better, statistics.problem_means(rows), n_unscored, quantities.clusters_of(records))


def _accuracy_given(name: str, title: str, records: Sequence[Record], given: Callable[[Record, Attempt], bool]) -> Quantity:
    """The mean score of the scored attempts of which something is true; problems without any say nothing."""
    rows = [[a.score.value for a in _scored(record) if given(record, a)] for record in records]
    return quantities.rate(name, title, "higher", statistics.problem_means(rows), clusters=quantities.clusters_of(records))


def _mean(name: str, title: str, records: Sequence[Record], of: Callable[[Attempt], float]) -> Quantity:
    values = [float(np.mean([of(a) for a in r.completed])) if r.completed else math.nan for r in records]
    return quantities.mean(name, title, "lower", values, "tokens", quantities.clusters_of(records))


def _retrieval(records: Sequence[Record], k: int) -> list[Quantity]:
    """Recall and nDCG of the first lookup; nothing where the package that measures them is not there."""
    judged = {r.problem.id: dict.fromkeys(gold(r), 1) for r in records}
    rankings = {r.problem.id: _ranking(r) for r in records if r.completed and r.completed[0].rollout.retrievals}
    if not rankings or find_spec("pytrec_eval") is None:
        return []
    found = ranking_metrics(rankings, judged, (k,))
    titles = {f"recall@{k}": f"recall@{k} of documents", f"ndcg@{k}": f"nDCG@{k} of documents"}
    return [
        quantities.rate(name, title, "higher", [found[name][r.problem.id] for r in records], clusters=quantities.clusters_of(records))
        for name, title in titles.items()
    ]


def _ranking(record: Record) -> list[str]:
    first = record.completed[0].rollout.retrievals[0]
    return list(dict.fromkeys([*(source.document for source in first.shown), *map(_document, first.left_out)]))
