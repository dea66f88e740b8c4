"""How good a retriever is: recall, nDCG and MRR by trec_eval, on questions whose right documents are known (BEIR's layout)."""

from __future__ import annotations

import gzip
import json
import math
import zlib
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
    notes: tuple[str, ...] = ()
    """What a reader of its figures must know of the set."""


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
    library = optional("pytrec_eval", "measuring retrieval")
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
    query's own id is not counted as found; unlike there it is where it is judged relevant, for then the ids only happen to agree. Raises `UserError` for passages of documents that the benchmark does not have.
    """
    optional("pytrec_eval", "measuring retrieval")  # before the searches, not after them
    known = {passage.source for passage in benchmark.passages}
    rankings = {}
    for query_id, query in benchmark.queries.items():
        found = [passage.source for passage in retriever.search(query, max(depth, max(ks) + ignore_same_id))]
        strangers = [source for source in found if source not in known]
        if strangers:
            raise UserError(f"the retriever gave '{strangers[0]}', no document of the benchmark: let it search the benchmark's own")
        is_itself = ignore_same_id and benchmark.judgements[query_id].get(query_id, 0) <= 0
        rankings[query_id] = [source for source in dict.fromkeys(found) if not (is_itself and source == query_id)]
    return ranking_metrics(rankings, benchmark.judgements, ks)


# ------------------------------------------------------------------------------------------------------------ BEIR's layout


def load_beir(folder: str | Path, split: str = "test") -> Benchmark:
    """A benchmark in BEIR's layout (2104.08663): corpus.jsonl (_id, title, text), queries.jsonl (_id, text), qrels/SPLIT.tsv.

    Each may be packed (`.gz`). Ids are texts or numbers, under `_id` or `id`; a title or text may be null; judgements are `query document
    relevance`, or trec_eval's four columns, with a header or without. Queries without judgements in the split are left out. What a set
    should not have and yet can be measured with (`Benchmark.notes`): documents or queries judged that it does not hold, queries that
    another split judges too. Raises `UserError` for what is not there or not readable, an id twice in the corpus or the queries, a pair
    judged twice and differently, and where no judged query is left.
    """
    folder = Path(folder)
    path = _judgements_path(folder, split)
    documents = {name: _document(name, row) for name, row in _objects(folder / "corpus.jsonl")}
    queries = {name: _text(row, "text") for name, row in _objects(folder / "queries.jsonl")}
    judgements = _judgements(path)
    known = {q: judged for q, judged in judgements.items() if q in queries}
    if not known:
        raise UserError(f"'{path}' judges no query that queries.jsonl has: give judgements of the same set")
    notes = (*_unknown(judgements, documents, queries), *_shared(folder, split, judgements))
    return Benchmark(tuple(documents.values()), {q: queries[q] for q in known}, known, notes)


def _judgements_path(folder: Path, split: str) -> Path:
    """Where a split's judgements lie. Raises `UserError`, naming the splits there are, if it is none of them."""
    path = folder / "qrels" / f"{split}.tsv"
    splits = sorted(_split_of(other) for other in (folder / "qrels").glob("*.tsv*"))
    if splits and split not in splits:
        raise UserError(f"there is no '{path}': say --split {' or '.join(splits)}")
    return path


def _split_of(path: Path) -> str:
    return path.name.partition(".tsv")[0]


def _document(name: str, row: Mapping[str, object]) -> Passage:
    title, text = _text(row, "title"), _text(row, "text")
    whole = f"{title}\n\n{text}" if title.strip() else text
    return Passage(name, whole, 0.0, name, 0, len(whole))


def _text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _objects(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """The rows of a file by their ids, each with a text, if only an empty one."""
    seen: set[str] = set()
    for place, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is not JSON: {error}") from error
        name = row.get("_id", row.get("id")) if isinstance(row, dict) else None
        if isinstance(name, bool) or not isinstance(name, str | int) or not isinstance(row.get("text", 0), str | None):
            raise UserError(f"{place} is no row of BEIR's: it must be a JSON object with an '_id' and a text under 'text'")
        if str(name) in seen:
            raise UserError(f"{place} has the id '{name}' of a row before it: give every row an id of its own")
        seen.add(str(name))
        yield str(name), row


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """A file's lines that are not blank, each with its place; of its packed twin where only that is there."""
    packed = path.with_name(f"{path.name}.gz")
    try:
        with gzip.open(packed) if packed.is_file() and not path.exists() else path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if line.strip():
                    yield f"{path} line {number}", line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        raise UserError(f"cannot read '{path}' ({why}): give a folder in BEIR's layout") from error


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    for number, (place, line) in enumerate(_lines(path)):
        cells = line.split("\t") if "\t" in line else line.split()
        if number == 0 and not _is_number(cells[-1]):
            continue  # a header
        query, document, relevance = _judgement(place, cells)
        if judgements.setdefault(query, {}).setdefault(document, relevance) != relevance:
            raise UserError(f"{place} judges '{document}' for query '{query}' a second time, and differently: keep one of the two")
    if not judgements:
        raise UserError(f"'{path}' has no judgements: add at least one")
    return judgements


def _judgement(place: str, cells: Sequence[str]) -> tuple[str, str, int]:
    """Query, document and relevance, of BEIR's three columns or of trec_eval's four, whose second says nothing."""
    if len(cells) not in (3, 4) or not _is_number(cells[-1]) or float(cells[-1]) % 1:
        raise UserError(f"{place} is no judgement: it must be query, document and a whole number, parted by tabs")
    return cells[0], cells[-2], int(float(cells[-1]))


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _unknown(judgements: Judgements, documents: Mapping[str, Passage], queries: Mapping[str, str]) -> Iterator[str]:
    """What is judged and is not there."""
    strangers = [query for query in judgements if query not in queries]
    if strangers:
        yield f"{len(strangers)} judged queries are not in queries.jsonl, and are left out ('{strangers[0]}')"
    missing = [d for q, judged in judgements.items() if q in queries for d, relevance in judged.items() if relevance > 0 and d not in documents]
    if missing:
        yield f"{len(missing)} relevant documents are not in the corpus, so that nobody can find them; they count as missed ('{missing[0]}')"


def _shared(folder: Path, split: str, judgements: Judgements) -> Iterator[str]:
    """Other splits with some of the same queries."""
    for other in sorted((folder / "qrels").glob("*.tsv*")):
        if _split_of(other) != split:
            shared = set(judgements) & set(_judgements(other.with_name(f"{_split_of(other)}.tsv")))
            if shared:
                yield f"{len(shared)} queries are judged in {other.name} too: what was tuned on those is measured on what it was tuned on"
