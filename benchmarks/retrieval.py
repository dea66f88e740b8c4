"""What the `Retriever` seam costs over calling its engine directly, and whether indexing holds its memory whatever the corpus.

    python -m benchmarks.retrieval
    python -m benchmarks.retrieval --documents 20000 --markdown docs/BENCHMARKS.md

The seam: the same queries, in one process, the direct call and ours in turn on each query, each first half of the time. A direct call does
what a user of the engine would write: rank, and give the texts of the best k with their scores. The goal: at most 10% more, median over queries.

- `tfidf`: scikit-learn's product, `argpartition` and a sort of the k best
- `bm25`: bm25s's own `retrieve`, its words made by its own tokenizer
- `dense`: an encoder's vector, a product, `argpartition` and a sort; the encoder is a table, so that only the search is timed
- `text` and `vectors`: LanceDB's full-text and vector search, its rows as a list

Memory: an index is built of a jsonl file of so many rows, and of one five times as long, each in a process of its own. The goal: five times
the corpus takes less than half as much memory again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median

import numpy as np

from benchmarks import rows as benchmark
from benchmarks.rows import Found
from posttrain.retrieval.bm25 import BM25, PUBLISHED
from posttrain.retrieval.dense import Dense
from posttrain.retrieval.passages import Passage, Retriever
from posttrain.retrieval.store import Store, StoreText, StoreVectors
from posttrain.retrieval.tfidf import TfIdf
from posttrain.types import UserError

GOAL_SEAM, GOAL_MEMORY = 1.10, 1.5
K, DIMENSION, WARMUP = 10, 384, 5
LONGER = 5
"""How many times as long the longer corpus is."""

BUILD = """
import sys
from benchmarks.memory import peak_bytes
from posttrain.retrieval.index import IndexSettings, build
build(sys.argv[1], sys.argv[2], IndexSettings(vectors=False, engine=sys.argv[3]))
print(peak_bytes())
"""


@dataclass(frozen=True)
class Options:
    """What to measure, and how to print it."""

    documents: int = 5_000
    """How many passages are searched, and the rows of the shorter corpus."""
    queries: int = 200
    """Measured queries."""
    memory: bool = True
    """Also measure the memory of building."""
    json: bool = False
    """Print JSON, unrounded."""
    markdown: Path | None = None
    """Also append a dated section to this file (docs/BENCHMARKS.md)."""

    def __post_init__(self) -> None:
        if self.documents < 100 or self.queries < 2:
            raise UserError("--documents must be at least 100, and --queries at least 2")


@dataclass(frozen=True)
class Seam:
    """One engine, called directly and through the seam."""

    engine: str
    direct_ms: float
    ours_ms: float
    """Medians over queries."""
    ratio: float
    """The median of each query's own ratio."""


Call = Callable[[str], list[tuple[str, float]]]
"""A query to the best texts and their scores."""


# ----------------------------------------------------------------------------------------------------------------- a library


def texts(n: int, seed: int = 0) -> Iterator[str]:
    """Texts of 60 to 140 words, drawn as words are: the r-th most common with a chance in proportion to 1 / (r + 2.7)."""
    random = Random(seed)
    syllables = [a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "is", "on")]
    words = ["".join(random.choice(syllables) for _ in range(random.choice((1, 2, 2, 3)))) for _ in range(20_000)]
    weights = np.cumsum([1 / (rank + 2.7) for rank in range(len(words))]).tolist()
    for _ in range(n):
        yield " ".join(random.choices(words, cum_weights=weights, k=random.randrange(60, 140)))


def library(options: Options) -> tuple[list[Passage], list[str]]:
    """Passages, and queries of eight words of one of them."""
    found = [Passage(f"d{i}", text, 0.0, f"d{i}", 0, len(text)) for i, text in enumerate(texts(options.documents))]
    random = Random(1)
    return found, [" ".join(random.sample(random.choice(found).text.split(), 8)) for _ in range(options.queries)]


class Table:
    """An encoder that knows all its vectors beforehand."""

    name = "table"

    def __init__(self, known: Sequence[str]) -> None:
        vectors = np.random.default_rng(0).normal(size=(len(known), DIMENSION)).astype(np.float32)
        self._vectors = dict(zip(known, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))

    def encode_queries(self, asked: Sequence[str]) -> np.ndarray:
        return np.stack([self._vectors[text] for text in asked])

    encode_passages = encode_queries

    def count_cut(self, asked: Sequence[str]) -> int:
        return 0


# -------------------------------------------------------------------------------------------------------------- direct calls


def sides(passages: list[Passage], queries: list[str], folder: Path) -> Iterator[tuple[str, Call, Retriever]]:
    """Each engine: its direct call and ours over the same data."""
    known = [passage.text for passage in passages]
    encoder = Table(list(dict.fromkeys([*known, *queries])))
    yield "tfidf", direct_tfidf(known), TfIdf(passages)
    yield "bm25", direct_bm25(known), BM25(passages, PUBLISHED)
    yield "dense", direct_dense(known, encoder), Dense(passages, encoder)
    store = Store.create(folder / "store", DIMENSION)
    store.add(passages, encoder.encode_passages(known), are_new=True)
    store.tidy()
    yield "text", direct_text(folder), StoreText(store)
    yield "vectors", direct_vectors(folder, encoder), StoreVectors(store, encoder)


def direct_tfidf(known: list[str]) -> Call:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    weights = vectorizer.fit_transform(known)
    return lambda query: _best(known, (weights @ vectorizer.transform([query]).T).toarray().ravel())


def direct_bm25(known: list[str]) -> Call:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    split = lambda asked: bm25s.tokenize(asked, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)  # noqa: E731
    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene", dtype="float64")
    index.index(split(known), show_progress=False)

    def call(query: str) -> list[tuple[str, float]]:
        places, scores = index.retrieve(split([query]), k=K, show_progress=False)
        return [(known[place], float(score)) for place, score in zip(places[0], scores[0], strict=True)]

    return call


def direct_dense(known: list[str], encoder: Table) -> Call:
    vectors = encoder.encode_passages(known)
    return lambda query: _best(known, vectors @ encoder.encode_queries([query])[0])


def direct_text(folder: Path) -> Call:
    from lancedb.query import MatchQuery

    table = _table(folder)

    def call(query: str) -> list[tuple[str, float]]:
        rows = table.search(MatchQuery(query, "text"), query_type="fts").limit(K).to_list()
        return [(row["text"], row["_score"]) for row in rows]

    return call


def direct_vectors(folder: Path, encoder: Table) -> Call:
    table = _table(folder)

    def call(query: str) -> list[tuple[str, float]]:
        rows = table.search(encoder.encode_queries([query])[0], query_type="vector").distance_type("cosine").limit(K).to_list()
        return [(row["text"], 1 - row["_distance"]) for row in rows]

    return call


def _table(folder: Path):
    import lancedb

    return lancedb.connect(str(folder / "store")).open_table("passages")


def _best(known: list[str], scores: np.ndarray) -> list[tuple[str, float]]:
    places = np.argpartition(scores, -K)[-K:]
    return [(known[i], float(scores[i])) for i in places[np.argsort(-scores[places])]]


# ----------------------------------------------------------------------------------------------------------------- measuring


def measure_seam(options: Options) -> list[Seam]:
    """Each engine's times."""
    passages, queries = library(options)
    with tempfile.TemporaryDirectory() as folder:
        return [_seam(name, direct, ours, queries) for name, direct, ours in sides(passages, queries, Path(folder))]


def _seam(name: str, direct: Call, ours: Retriever, queries: Sequence[str]) -> Seam:
    taken: dict[str, list[float]] = {"direct": [], "ours": []}
    calls = {"direct": direct, "ours": lambda query: ours.search(query, K)}
    for number, query in enumerate([*queries[:WARMUP], *queries]):
        answers = {}
        for side in ("direct", "ours") if number % 2 else ("ours", "direct"):
            begun = time.perf_counter()
            answers[side] = calls[side](query)
            taken[side].append(1e3 * (time.perf_counter() - begun))
        check_same(name, answers["direct"], answers["ours"])
    direct_ms, ours_ms = taken["direct"][WARMUP:], taken["ours"][WARMUP:]
    return Seam(name, median(direct_ms), median(ours_ms), median(b / a for a, b in zip(direct_ms, ours_ms, strict=True)))


def check_same(name: str, direct: list[tuple[str, float]], ours: list[Passage]) -> None:
    """Raises ValueError unless both found passages of the same scores; those of score 0, which share no word, are not given by ours."""
    wanted = [score for _, score in direct if score > 0 or name in ("dense", "vectors")]
    if len(wanted) != len(ours) or not np.allclose(wanted, [passage.score for passage in ours], atol=1e-4):
        raise ValueError(f"{name}: the direct call and ours found different passages")


def measure_memory(options: Options) -> dict[str, dict[int, int]]:
    """Peak bytes of a build by the number of documents, for each engine."""
    sizes = (100, options.documents, LONGER * options.documents)
    return {engine: {n: _build_apart(engine, n) for n in sizes} for engine in ("lance", "lines")}


def _build_apart(engine: str, n: int) -> int:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "documents")
        folder.mkdir()
        with (folder / "rows.jsonl").open("w") as file:
            file.writelines(json.dumps({"_id": str(i), "text": text}) + "\n" for i, text in enumerate(texts(n)))
        argv = [sys.executable, "-c", BUILD, str(folder), str(Path(place, "index")), engine]
        ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserError(f"the index of {n} documents was not built: {ended.stderr.strip().splitlines()[-1]}")
    return int(ended.stdout.split()[-1])


# -------------------------------------------------------------------------------------------------------------------- report


def rows(seams: Sequence[Seam], memory: dict[str, dict[int, int]]) -> list[list[str]]:
    """The lines of the report: what, against what, ratio."""
    found = [["measured", "direct, or shorter", "ours, or longer", "ratio", "goal"]]
    found += [[f"search: {s.engine}", f"{s.direct_ms:.3g} ms", f"{s.ours_ms:.3g} ms", f"{s.ratio:.3f}", f"≤ {GOAL_SEAM:.2f}"] for s in seams]
    for engine, peaks in memory.items():
        least, middle, most = sorted(peaks)
        cells = [f"{peaks[n] / 1e6:.0f} MB for {n:,}" for n in (middle, most)]
        ratio = f"{peaks[most] / peaks[middle]:.3f}"
        found.append([f"build: {engine} ({least}: {peaks[least] / 1e6:.0f} MB)", *cells, ratio, f"≤ {GOAL_MEMORY:.2f}"])
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m benchmarks.retrieval`: exits with 2 on bad input, said in one sentence."""
    benchmark.main("benchmarks.retrieval", "retrieval through the seam, and memory of indexing", __doc__, Options, _found, argv)


def _found(options: Options) -> Found:
    seams = measure_seam(options)
    memory = measure_memory(options) if options.memory else {}
    return Found(
        rows(seams, memory), {"seams": [asdict(seam) for seam in seams], "memory_bytes": memory},
        f"{options.documents:,} passages, {options.queries} queries, the best {K}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
