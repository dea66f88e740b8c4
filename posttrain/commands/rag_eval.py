"""`posttrain rag eval`: retrievers on judged queries, or what reads what they find on questions with known documents."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from posttrain.commands.base import DONE, Dtype, completeness, make_folder, progress, show
from posttrain.commands.models import keeper, settings, watched
from posttrain.commands.rag_agents import Reranking
from posttrain.types import UserError

RETRIEVERS = ("tfidf", "bm25", "text", "dense", "fused", "cross", "likelihood")
"""What `--retrievers` may name."""
APPROACHES = ("rag", "long", "hybrid")


@dataclass(frozen=True)
class Args:
    """With --beir: retrievers side by side on judged queries. Without: RAG, long context and the hybrid on invented facts or your own questions.

    Every figure carries its 95% interval over queries or questions. Of answers, it is told apart whether the document was absent, a wrong one
    surfaced, the answer lay in more documents than fit, or the reader erred; and what each approach read and wrote, in tokens.
    """

    beir: Path | None = None
    """A folder in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.

    Published nDCG@10 to stand beside, with what is the default here: bm25 (2407.03618) SciFact .687, NFCorpus .321, FiQA .251; dense
    .645, .316, .369.
    """
    split: str = "test"
    """Which judgements, or which of the task's problems."""
    retrievers: str = "tfidf,bm25,dense,fused"
    """With --beir, of tfidf, bm25 (bm25s), text (LanceDB), dense (embeddings), fused (bm25 and dense), cross and likelihood (fused, reranked)."""
    ks: str = "1,10,100"
    """With --beir, how many documents are looked at."""
    k1: float = 1.5
    """Of bm25; the published figures of bm25s have 1.5 and .75."""
    b: float = 0.75
    """Of bm25."""
    embeddings: str = ""
    """The embedding model: a folder or a name on the hub; empty for all-MiniLM-L6-v2 from its package."""
    embeddings_dtype: Literal["float32", "bfloat16"] = "float32"
    """What the embedding model computes in; bfloat16 is faster, and its vectors a little different."""
    cross_encoder: str = ""
    """The model of `cross`: a folder or a name on the hub."""
    queries: int = 0
    """With --beir, how many queries, from the first; 0 for all."""
    task: str = "invented"
    """Without --beir, what is asked: invented[:key=value,…], or your own questions, asked:questions=FILE.jsonl,index=FOLDER."""
    approaches: str = "rag,long,hybrid"
    """Which of rag, long and hybrid."""
    retriever: str = "tfidf"
    """What finds passages for rag and hybrid: tfidf, bm25, text, dense or fused."""
    k: int = 5
    """How many passages it finds."""
    model: str = "smollm2"
    """Who reads, and who judges likelihood: smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
    problems: int = 32
    """How many questions, from the first; 0 takes all."""
    samples: int = 1
    """Attempts at each."""
    context: int = 0
    """How many tokens to read and write at most; 0 for all that the model holds."""
    max_tokens: int = 40
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """Of sampling."""
    unchecked: bool = False
    """Also take answers that nothing shown bears out, in place of abstaining."""
    seed: int = 0
    """The same seed gives the same attempts."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    out: Path | None = None
    """Folder for the results; every attempt with its tokens and what it was shown, and the same command goes on where it was cut off."""
    unscored_ok: bool = False
    """Show what rests on scores even where more than 5% of the attempts could not be scored."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    """Measure, write, print."""
    make_folder(args.out)
    return _rankings(args) if args.beir is not None else await _answers(args)


# --------------------------------------------------------------------------------------------------------------- retrievers


def _rankings(args: Args) -> int:
    from posttrain.evals.rag_table import rankings_table
    from posttrain.evals.rankings import side_by_side
    from posttrain.retrieval.metrics import load_beir

    names, ks = _listed(args.retrievers, RETRIEVERS, "--retrievers"), _numbers(args.ks)
    if args.queries < 0:
        raise UserError("--queries must be at least 0")
    benchmark = load_beir(args.beir, args.split)
    if args.queries:
        kept = list(benchmark.queries)[: args.queries]
        chosen = {q: benchmark.queries[q] for q in kept}, {q: benchmark.judgements[q] for q in kept}
        benchmark = replace(benchmark, queries=chosen[0], judgements=chosen[1])
    with ExitStack() as stack:
        made = _Made(benchmark.passages, args, stack)
        retrievers = {name: made[name] for name in names}
        with progress("rag eval", len(names) * len(benchmark.queries)) as bar:
            ranked = side_by_side(retrievers, benchmark, ks, on_search=bar.advance)
        n_cut = made.n_cut
    found = {
        "benchmark": str(args.beir), "split": args.split, "n_documents": len(benchmark.passages), "n_queries": len(benchmark.queries),
        "k1": args.k1, "b": args.b, "embeddings": made.embeddings, "n_cut": n_cut, "notes": benchmark.notes,
        "retrievers": [{name: value for name, value in asdict(r).items() if name != "per_query"} for r in ranked],
    }  # fmt: skip
    _keep(args, found, {"per_query": {r.name: r.per_query for r in ranked}})
    if args.json:
        _print(found)
    else:
        show(rankings_table(ranked, args.beir.name, len(benchmark.passages), ks, n_cut, benchmark.notes))
    return DONE


class _Made(Mapping[str, Any]):
    """The retrievers over some passages, each made when it is first asked for; parts that two of them share are made once."""

    def __init__(self, passages, args: Args, stack: ExitStack) -> None:
        self._passages = list(passages)
        self._args = args
        self._stack = stack
        self._known: dict[str, Any] = {}
        self.n_cut = 0
        """How many passages are longer than the embedding model reads."""
        self.embeddings = ""
        """The embedding model's name, once there is one."""

    def __getitem__(self, name: str):
        if name not in self._known:
            self._known[name] = getattr(self, f"_{name}")()
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(RETRIEVERS)

    def __len__(self) -> int:
        return len(RETRIEVERS)

    def _tfidf(self):
        from posttrain.retrieval.tfidf import TfIdf

        return TfIdf(self._passages)

    def _bm25(self):
        from posttrain.retrieval.bm25 import BM25, BM25Settings

        return BM25(self._passages, BM25Settings(self._args.k1, self._args.b))

    def _text(self):
        from posttrain.retrieval.store import Store, StoreText

        store = Store.create(self._stack.enter_context(tempfile.TemporaryDirectory()))
        store.add(self._passages, are_new=True)
        store.tidy()
        return StoreText(store)

    def _dense(self):
        from posttrain.retrieval.dense import Dense, SentenceEncoder

        encoder = SentenceEncoder(self._args.embeddings, dtype=self._args.embeddings_dtype)
        print(f"rag eval: embedding {len(self._passages)} documents", file=sys.stderr, flush=True)
        self.embeddings = encoder.name
        self.n_cut = encoder.count_cut([passage.text for passage in self._passages])
        return Dense(self._passages, encoder)

    def _fused(self):
        from posttrain.retrieval.fuse import Fused

        return Fused((self["bm25"], self["dense"]))

    def _cross(self):
        return self._reranked("cross")

    def _likelihood(self):
        return self._reranked("likelihood")

    def _reranked(self, by: Reranking):
        from posttrain.commands.rag_agents import reranked
        from posttrain.policy.hf import load_policy

        return reranked(self["fused"], by, self._args.cross_encoder, lambda: load_policy(self._args.model, self._args.dtype))


# ------------------------------------------------------------------------------------------------------------------ answers


async def _answers(args: Args) -> int:
    from posttrain.commands.rag_agents import agent_for, reader_for
    from posttrain.evals.rag import anatomy
    from posttrain.evals.rag_table import answers_table

    approaches = _listed(args.approaches, APPROACHES, "--approaches")
    task, problems, passages = await _asked(args)
    (retriever,) = _listed(args.retriever, RETRIEVERS[:5], "--retriever")[:1]
    reader = reader_for(args.model, args, _hash(passages), checks=not args.unchecked)
    measured, evaluations = {}, {}
    drawn = cache(lambda: settings(args.model, reader.sampling, reader.engine.policy))  # reads the model's weights
    with ExitStack() as stack:
        found_by = _Made(passages, args, stack)[retriever]
        for approach in approaches:
            agent = agent_for(approach, reader, found_by, passages, args.k)
            log = keeper(args.out, lambda approach=approach: _depends_on(approach, args, reader, drawn()))
            evaluations[approach] = await watched(approach, agent, task, problems, args.samples, args.seed, log)
            measured[approach] = anatomy(evaluations[approach], args.k, args.unscored_ok)
    found = {
        "task": args.task, "split": args.split, "n_documents": len({p.source for p in passages}), "n_problems": len(problems), "samples": args.samples,
        "retriever": retriever, "k": args.k, "model": args.model, "corpus_sha256": reader.corpus_sha256,
        "approaches": {name: _anatomy_json(each) for name, each in measured.items()},
    }  # fmt: skip
    _keep(args, found, {})
    if args.json:
        _print(found)
    else:
        for renderable in answers_table(measured, f"{args.task} ({args.split}): {len(problems)} questions × {args.samples}, {found['n_documents']} documents"):
            show(renderable)
    return completeness(max(evaluation["unscored_frac"].value for evaluation in evaluations.values()))


async def _asked(args: Args):
    """The task, its problems, whose gold answers score 1, and the passages of its corpus."""
    from posttrain.tasks import check_gold, load

    if args.samples < 1 or args.problems < 0 or args.max_tokens < 1 or args.temperature < 0 or args.k < 1 or args.context < 0:
        raise UserError("--samples, --max-tokens and --k must be at least 1, --problems, --context and --temperature at least 0")
    task = load(args.task)
    if not hasattr(task, "passages"):
        raise UserError(f"the task '{args.task}' has no documents to look in: say --task invented, or --beir FOLDER for retrieval alone")
    problems = list(task.problems(args.split))
    problems = problems[: args.problems] if args.problems else problems
    await check_gold(task, problems)
    return task, problems, task.passages(args.split)


def _depends_on(approach: str, args: Args, reader, drawn: dict[str, Any]) -> dict[str, Any]:
    """All that an approach's attempts depend on, beside the problem, samples and seed; `drawn` says it of the model."""
    asked = {"approach": approach, "k": args.k, "retriever": args.retriever, "context": reader.context_tokens, "checks": reader.checks}
    return {**drawn, **asked, "corpus_sha256": reader.corpus_sha256}


def _hash(passages) -> str:
    """The hash of a corpus that lies in no index."""
    from hashlib import sha256

    return sha256("".join(f"{p.id}\x1f{p.text}\n" for p in passages).encode()).hexdigest()


def _anatomy_json(anatomy) -> dict[str, Any]:
    rows = [{"name": q.name, "title": q.title, "better": q.better, **asdict(q.measurement)} for q in anatomy.quantities]
    return {"rows": rows, "notes": anatomy.notes, "withheld": anatomy.withheld, "counts": anatomy.counts, "kinds": anatomy.kinds, "identity_residual": anatomy.residual}


# --------------------------------------------------------------------------------------------------------------------- both


def _listed(text: str, known: tuple[str, ...], flag: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    strangers = [name for name in names if name not in known]
    if strangers or not names:
        raise UserError(f"{flag} takes some of {', '.join(known)}, after commas, not '{strangers[0] if strangers else text}'")
    return list(dict.fromkeys(names))


def _numbers(text: str) -> list[int]:
    try:
        numbers = sorted({int(number) for number in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise UserError(f"--ks takes whole numbers of at least 1 after commas, such as 1,10,100, not '{text}'")
    return numbers


def _keep(args: Args, found: dict[str, Any], more: dict[str, Any]) -> None:
    from posttrain.evals.records import plain
    from posttrain.runs.folder import write_atomically

    if args.out is not None:
        write_atomically(args.out / "rag.json", json.dumps(plain({**found, **more}), indent=1))


def _print(found: dict[str, Any]) -> None:
    from posttrain.evals.records import plain

    print(json.dumps(plain(found)))
