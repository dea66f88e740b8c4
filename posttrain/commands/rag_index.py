"""`posttrain rag index`: a folder of documents made searchable, and kept so as it changes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from posttrain.commands.base import DONE, positional

EVERY = 1_000
"""So many documents make a line of progress."""


@dataclass(frozen=True)
class Args:
    """Index the txt, md, html, pdf and jsonl files (.jsonl.gz too) of a folder; of a folder in BEIR's layout the corpus alone.

    The same command again takes in only what has changed.
    """

    documents: Annotated[Path, positional()]
    """The folder of the documents."""
    out: Path
    """The index's folder."""
    kind: Literal["hybrid", "text", "tfidf"] = "hybrid"
    """hybrid: words and meaning, in LanceDB; text: words alone, in LanceDB; tfidf: a plain file, which needs no further package."""
    model: str = ""
    """With hybrid, the embedding model: a folder or a name on the hub; empty for all-MiniLM-L6-v2 from its package."""
    unit: Literal["characters", "sentences", "paragraphs"] = "sentences"
    """What is kept whole where it fits."""
    size: int = 800
    """The longest passage, in characters."""
    overlap: int = 100
    """How much of a passage the next may repeat, in characters."""
    skip_unreadable: bool = False
    """Leave out the files that cannot be read, and say which, in place of ending there."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    """Index, and say what was found."""
    from posttrain.retrieval.chunk import Chunking
    from posttrain.retrieval.documents import beir_corpora, readable_files
    from posttrain.retrieval.index import IndexSettings, build
    from posttrain.types import UserError

    if args.kind != "tfidf" and find_spec("lancedb") is None:
        raise UserError(f"an index of kind {args.kind} needs LanceDB: pip install 'posttrain[rag]', or say --kind tfidf")
    if args.model and args.kind != "hybrid":
        raise UserError(f"an index of kind {args.kind} embeds nothing: leave --model out, or say --kind hybrid")
    engine = "lines" if args.kind == "tfidf" else "lance"
    settings = IndexSettings(Chunking(args.unit, args.size, args.overlap), args.kind == "hybrid", args.model, engine)
    for corpus in sorted(beir_corpora(readable_files(args.documents))):
        print(f"rag index: '{corpus.parent}' is in BEIR's layout: {corpus.name} alone is indexed, not its queries and judgements", file=sys.stderr, flush=True)
    skipped = _Skipped() if args.skip_unreadable else None
    update = build(args.documents, args.out, settings, on_document=_Count(), on_unreadable=skipped)
    manifest = update.manifest
    if args.json:
        counts = {name: value for name, value in asdict(update).items() if name != "manifest"}
        kept = {"n_documents": manifest.n_documents, "n_passages": manifest.n_passages, "sha256": manifest.sha256}
        print(json.dumps({"index": str(args.out), **counts, **kept, "skipped": skipped.reasons if skipped else []}))
        return DONE
    print(
        f"{manifest.n_documents} documents in {manifest.n_passages} passages: {update.n_added} new, {update.n_changed} changed, {update.n_removed} gone,"
        f" {update.n_unchanged} as before ({args.out}, {manifest.sha256[:12]})"
    )
    if skipped and skipped.reasons:
        print(f"{len(skipped.reasons)} files were left out, as they cannot be read")
    if update.n_cut:
        print(f"{update.n_cut} passages are longer than the embedding model reads, their ends are found by words alone: give a smaller --size")
    return DONE


class _Count:
    """Says now and then how many documents have been read."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> None:
        self.n += 1
        if self.n % EVERY == 0:
            print(f"rag index: {self.n} documents", file=sys.stderr, flush=True)


class _Skipped:
    """Says of each file that is left out why, and remembers it."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def __call__(self, reason: str) -> None:
        self.reasons.append(reason)
        print(f"rag index: left out: {reason}", file=sys.stderr, flush=True)
