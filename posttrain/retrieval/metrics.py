"""How good a retriever is: recall, nDCG and MRR by trec_eval, on questions whose right documents are known (BEIR's layout)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from posttrain.retrieval.passages import Passage, Retriever, check_k, optional
from posttrain.types import UserError

Judgements = Mapping[str, Mapping[str, int]]
"""For each query's id the relevance of documents, by id: 0 is none, larger is more; what is not named is taken to be irrelevant."""

PerQuery = dict[str, dict[str, float]]
"""For each metric, such as `recall@10`, its value for each query's id."""


@dataclass(frozen=True)
class Benchmark:
    """Documents, questions, and which documents answer which question."""

    passages: tuple[Passage, ...]
    """The documents whole, each its own source under its id: title, an empty line, text. Cut them with `chunk` if they are long."""
    queries: Mapping[str, str]
    """The judged questions, by id."""
    judgements: Judgements


def ranking_metrics(rankings: Mapping[str, Sequence[str]], judgements: Judgements, ks: Sequence[int] = (1, 10, 100)) -> PerQuery:
    """Recall@k, nDCG@k (Järvelin & Kekäläinen 2002, with linear gains) and MRR@k for each judged query, by pytrec-eval.

    A ranking is document ids, best first, and is judged in this order: trec_eval itself would sort equal scores by id. A judged query
    without a ranking, or with an empty one, scores 0, where trec_eval would leave it out and flatter the mean; a query without any
    relevant document is nan. Means and their errors over queries are for `statistics.mean_over_problems`.
    Raises `UserError` for a ranking of a query that was not judged, and for a document twice in one.
    """
    for k in ks:
        check_k(k)
    _check_rankings(rankings, judgements)
    library = optional("pytrec_eval", "retrieval metrics")
    names = {f"{metric}@{k}": (f"{trec}_{k}", k) for k in ks for metric, trec in (("recall", "recall"), ("ndcg", "ndcg_cut"))}
    cuts = ",".join(str(k) for k in ks)
    judged = {query: dict(relevances) for query, relevances in judgements.items()}
    evaluator = library.RelevanceEvaluator(judged, {f"recall.{cuts}", f"ndcg_cut.{cuts}", "recip_rank"})
    whole = evaluator.evaluate(_runs(rankings, judgements, None))
    found: PerQuery = {name: {q: whole[q][trec] for q in judgements} for name, (trec, _) in names.items()}
    for k in ks:
        cut = evaluator.evaluate(_runs(rankings, judgements, k))
        found[f"mrr@{k}"] = {q: cut[q]["recip_rank"] for q in judgements}
    return {name: _without_unanswerable(values, judgements) for name, values in found.items()}


def _runs(rankings: Mapping[str, Sequence[str]], judgements: Judgements, k: int | None) -> dict[str, dict[str, float]]:
    """Rankings as trec_eval reads them: scores that fall with the rank."""
    return {q: {document: -float(rank) for rank, document in enumerate(rankings.get(q, ())[:k])} for q in judgements}


def _without_unanswerable(values: Mapping[str, float], judgements: Judgements) -> dict[str, float]:
    return {q: value if any(relevance > 0 for relevance in judgements[q].values()) else math.nan for q, value in values.items()}


def _check_rankings(rankings: Mapping[str, Sequence[str]], judgements: Judgements) -> None:
    for query, ranking in rankings.items():
        if query not in judgements:
            raise UserError(f"the query '{query}' was ranked but never judged: leave it out, or add its judgements")
        if len(set(ranking)) < len(ranking):
            raise UserError(f"the ranking of query '{query}' names a document twice: keep its first place only")


def evaluate(
    retriever: Retriever, benchmark: Benchmark, ks: Sequence[int] = (1, 10, 100), depth: int = 0, ignore_same_id: bool = True
) -> PerQuery:
    """`ranking_metrics` of a retriever over a benchmark's queries.

    A document's rank is that of its best passage, by `Passage.source`; where documents were cut into passages, ask for a `depth` of
    several passages for each document (the largest k if 0), or fewer than k documents may come back. As in BEIR, a document with the
    query's own id is not counted as found. Raises `UserError` for passages of documents that the benchmark does not have.
    """
    known = {passage.source for passage in benchmark.passages}
    rankings = {}
    for query_id, query in benchmark.queries.items():
        found = [passage.source for passage in retriever.search(query, max(depth, max(ks) + ignore_same_id))]
        strangers = [source for source in found if source not in known]
        if strangers:
            raise UserError(f"the retriever gave '{strangers[0]}', no document of the benchmark: let it search the benchmark's own")
        rankings[query_id] = [source for source in dict.fromkeys(found) if not (ignore_same_id and source == query_id)]
    return ranking_metrics(rankings, benchmark.judgements, ks)


# ------------------------------------------------------------------------------------------------------------ BEIR's layout


def load_beir(folder: str | Path, split: str = "test") -> Benchmark:
    """A benchmark in BEIR's layout (2104.08663): corpus.jsonl (_id, title, text), queries.jsonl (_id, text), qrels/SPLIT.tsv with a header.

    Queries without judgements in the split are left out. Raises `UserError` for what is not there or not readable, an id twice in the
    corpus or the queries, a pair judged twice, an id that is not in the corpus or the queries, and a query that another split judges too:
    what was tuned on would be measured on.
    """
    folder = Path(folder)
    documents = {name: _document(name, row) for name, row in _objects(folder / "corpus.jsonl")}
    queries = {name: _text(row, "text") for name, row in _objects(folder / "queries.jsonl")}
    judgements = _judgements(folder / "qrels" / f"{split}.tsv")
    _check_known(folder, split, judgements, documents, queries)
    _check_apart(folder, split, judgements)
    return Benchmark(tuple(documents.values()), {q: queries[q] for q in judgements}, judgements)


def _document(name: str, row: Mapping[str, object]) -> Passage:
    title, text = _text(row, "title"), _text(row, "text")
    whole = f"{title}\n\n{text}" if title.strip() else text
    return Passage(name, whole, 0.0, name, 0, len(whole))


def _text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _objects(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """The rows of a file by `_id`, each with a text."""
    seen: set[str] = set()
    for place, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is not JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("_id"), str) or not isinstance(row.get("text"), str):
            raise UserError(f"{place} is no row of BEIR's: it must be a JSON object with texts under '_id' and 'text'")
        if row["_id"] in seen:
            raise UserError(f"{place} has the id '{row['_id']}' of a row before it: give every row an id of its own")
        seen.add(row["_id"])
        yield row["_id"], row


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"cannot read '{path}' ({why}): give a folder in BEIR's layout") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path} line {number}", line.rstrip("\r")


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    rows = list(_lines(path))
    if not rows or not rows[0][1].startswith("query-id"):
        raise UserError(f"'{path}' does not begin with the header 'query-id corpus-id score', parted by tabs: add it")
    for place, line in rows[1:]:
        query, document, relevance = _judgement(place, line)
        if document in judgements.setdefault(query, {}):
            raise UserError(f"{place} judges '{document}' for query '{query}' a second time: keep one of the two")
        judgements[query][document] = relevance
    if not judgements:
        raise UserError(f"'{path}' has no judgements: add at least one")
    return judgements


def _judgement(place: str, line: str) -> tuple[str, str, int]:
    cells = line.split("\t")
    try:
        query, document, relevance = cells[0], cells[1], int(cells[2])
    except (IndexError, ValueError) as error:
        raise UserError(f"{place} is no judgement: it must be query, document and a whole number, parted by tabs") from error
    return query, document, relevance


def _check_known(folder: Path, split: str, judgements: Judgements, documents: Mapping[str, Passage], queries: Mapping[str, str]) -> None:
    path = folder / "qrels" / f"{split}.tsv"
    for query, judged in judgements.items():
        if query not in queries:
            raise UserError(f"'{path}' judges the query '{query}', which queries.jsonl does not have: add or remove it")
        for document in judged:
            if document not in documents:
                raise UserError(f"'{path}' judges the document '{document}', which corpus.jsonl does not have: add or remove it")


def _check_apart(folder: Path, split: str, judgements: Judgements) -> None:
    for other in sorted((folder / "qrels").glob("*.tsv")):
        if other.stem != split:
            shared = sorted(set(judgements) & set(_judgements(other)))
            if shared:
                raise UserError(f"the query '{shared[0]}' is in '{other}' and in {split}.tsv beside it: keep it in one of them")
