"""Retrievers side by side on judged queries, with intervals over queries and paired differences."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from posttrain import statistics
from posttrain.retrieval.metrics import Benchmark, PerQuery, evaluate
from posttrain.retrieval.passages import Passage, Retriever
from posttrain.types import Measurement


@dataclass(frozen=True)
class Ranked:
    """What one retriever found."""

    name: str
    metrics: dict[str, Measurement]
    """Each metric's mean over queries; a query without a relevant document says nothing, and is counted as unscored."""
    differences: dict[str, Measurement]
    """Each metric less that of the first retriever, paired by query; empty for the first."""
    ms_per_query: float
    """The time of its searches."""
    per_query: PerQuery


class Timed:
    """A retriever that adds up the time of its searches."""

    def __init__(self, retriever: Retriever, on_search: Callable[[], None] = lambda: None) -> None:
        self._retriever = retriever
        self._on_search = on_search
        self.seconds = 0.0

    def search(self, query: str, k: int) -> list[Passage]:
        """As the retriever's own."""
        begun = time.perf_counter()
        found = self._retriever.search(query, k)
        self.seconds += time.perf_counter() - begun
        self._on_search()
        return found


def side_by_side(
    retrievers: Mapping[str, Retriever], benchmark: Benchmark, ks: Sequence[int], depth: int = 0, on_search: Callable[[], None] = lambda: None
) -> list[Ranked]:
    """Each retriever on the benchmark's queries, as `retrieval.metrics.evaluate` measures them; `on_search` is told of each search."""
    found: list[Ranked] = []
    for name, retriever in retrievers.items():
        timed = Timed(retriever, on_search)
        per_query = evaluate(timed, benchmark, ks, depth)
        columns = {metric: [values[q] for q in benchmark.judgements] for metric, values in per_query.items()}
        metrics = {metric: _mean(values) for metric, values in columns.items()}
        first = found[0].per_query if found else {}
        differences = {metric: _difference([first[metric][q] for q in benchmark.judgements], columns[metric]) for metric in first}
        found.append(Ranked(name, metrics, differences, 1000 * timed.seconds / len(benchmark.queries), per_query))
    return found


def _mean(values: Sequence[float]) -> Measurement:
    return statistics.rate_over_problems(values, n_unscored=statistics.count_unscored([values]))


def _difference(before: Sequence[float], after: Sequence[float]) -> Measurement:
    return statistics.paired_rate_difference(before, after)
