"""`posttrain rag ask`: an answer from an index, with the places that bear it out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from posttrain.commands.base import DONE, Dtype, positional
from posttrain.commands.rag_agents import Approach, Reranking
from posttrain.types import Rollout, UserError

SHOWN_LEFT_OUT = 5
"""So many ids are printed of what found no room."""


@dataclass(frozen=True)
class Args:
    """Answer a question from an index: retrieve, fit the context, answer, check each sentence against the sources, or abstain."""

    question: Annotated[str, positional()]
    """What to ask."""
    index: Path
    """An index's folder (posttrain rag index)."""
    model: str = "smollm2"
    """Who reads: smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
    approach: Approach = "rag"
    """rag: the passages found; long: everything in, as far as it fits; hybrid: rag, and long where that abstains."""
    retriever: Literal["auto", "text", "vectors", "hybrid", "tfidf", "bm25"] = "auto"
    """What finds passages; auto is the best that the index has."""
    rerank: Reranking = "none"
    """cross: a cross-encoder orders the 50 best anew; likelihood: the model that reads orders the 10 best, by how likely it holds the question."""
    cross_encoder: str = ""
    """The model of --rerank cross: a folder or a name on the hub."""
    where: str = ""
    """Which passages may be found, in SQL: "source = 'a.txt'"."""
    k: int = 5
    """How many passages to find."""
    context: int = 0
    """How many tokens to read and write at most; 0 for all that the model holds."""
    max_tokens: int = 64
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """Of sampling; 0 takes the most likely token each time."""
    unchecked: bool = False
    """Also take an answer that nothing shown bears out, in place of abstaining."""
    seed: int = 0
    """The same seed gives the same answer."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    """Look up, read, check, print."""
    from posttrain.commands.rag_agents import agent_for, reader_for, reranked
    from posttrain.policy.models import resolve
    from posttrain.retrieval.index import open_index
    from posttrain.types import Message, Problem

    if not args.question.strip():
        raise UserError("the question is empty: ask something")
    if args.k < 1 or args.max_tokens < 1 or args.temperature < 0 or args.context < 0:
        raise UserError("--k and --max-tokens must be at least 1, --temperature and --context at least 0")
    _check_reranking(args)
    index = open_index(args.index)
    retriever = None if args.approach == "long" else index.retriever(args.retriever, args.where)
    passages = [] if args.approach == "rag" else index.passages(args.where)
    reader = reader_for(args.model, args, index.manifest.sha256, checks=not args.unchecked)
    if retriever:
        retriever = reranked(retriever, args.rerank, args.cross_encoder, lambda: reader.engine.policy)
    problem = Problem("question", (Message("user", args.question),), "")
    (rollout,) = await agent_for(args.approach, reader, retriever, passages, args.k).attempt(problem, 1, args.seed)
    found = _found(rollout, args, str(resolve(args.model)))
    print(json.dumps(found) if args.json else _said(found, reader.context_tokens))
    return DONE


def _check_reranking(args: Args) -> None:
    """Refuses what nothing would look at, before a model is loaded."""
    if args.rerank != "none" and args.approach == "long":
        raise UserError("--approach long reads everything in its order: leave --rerank out, or say --approach rag or hybrid")
    if args.cross_encoder and args.rerank != "cross":
        raise UserError("--cross-encoder orders nothing by itself: add --rerank cross, or leave it out")
    if args.rerank == "cross" and not args.cross_encoder:
        raise UserError("--rerank cross needs a cross-encoder: give its folder or its name on the hub as --cross-encoder")


def _found(rollout: Rollout, args: Args, model_path: str) -> dict:
    """All that is known of an answer, as JSON."""
    from posttrain.agents.rag import checked
    from posttrain.rewards.abstention import abstains

    last = rollout.retrievals[-1]
    raw = next((message.content for message in reversed(rollout.messages) if rollout.completions and not _is_ours(message, rollout)), "")
    check, abstained = checked(raw, last), abstains(rollout.text)
    return {
        "question": args.question, "answer": rollout.text, "abstained": abstained, "model_said": raw, "outcome": rollout.outcome,
        "citations": [] if abstained else [asdict(citation) for citation in check.citations],
        "unsupported": check.unsupported, "wrong_marks": check.wrong_marks, "missing_names": check.missing_names,
        "shown": [{**asdict(source), "sha256": sha256(source.text.encode()).hexdigest()} for source in last.shown], "left_out": last.left_out,
        "index": {"path": str(args.index), "sha256": last.corpus_sha256}, "model_path": model_path, "lookups": len(rollout.retrievals),
        "read_tokens": sum(len(c.prompt_token_ids) for c in rollout.completions), "written_tokens": rollout.n_tokens,
    }  # fmt: skip


def _is_ours(message, rollout: Rollout) -> bool:
    """Whether a message is the abstention that the check put behind the model's own words."""
    from posttrain.rewards.abstention import ABSTAINED

    return message is rollout.messages[-1] and message.content == ABSTAINED and len(rollout.messages) > 1


def _said(found: dict, context_tokens: int) -> str:
    """The answer for a person to read."""
    lines = [found["answer"]]
    if found["abstained"] and found["model_said"] and found["model_said"] != found["answer"]:
        lines.append(f"(the model said: {found['model_said']!r}; {_why(found)})")
    for citation in found["citations"]:
        by = "" if citation["named"] else ", found for it"
        lines.append(f"  {citation['source']} {citation['start']}–{citation['end']}{by}: “{' '.join(citation['quote'].split())}”")
    if not found["abstained"] and found["unsupported"]:
        lines.append(f"  nothing shown bears out: {' '.join(found['unsupported'])}")
    tokens = f"{found['read_tokens']:,} tokens read, {found['written_tokens']} written, of a context of {context_tokens:,}"
    lines.append(f"{len(found['shown'])} passages shown; {tokens}; index {found['index']['sha256'][:12]}")
    if found["left_out"]:
        some = ", ".join(found["left_out"][:SHOWN_LEFT_OUT])
        lines.append(f"{len(found['left_out'])} passages found no room: {some}{', …' if len(found['left_out']) > SHOWN_LEFT_OUT else ''}")
    if found["outcome"] == "truncated":
        lines.append("the answer ran into --max-tokens")
    return "\n".join(lines)


def _why(found: dict) -> str:
    if found["missing_names"]:
        return f"no source shown has {', '.join(found['missing_names'])}"
    return "no source shown bears that out"
