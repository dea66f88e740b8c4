"""Agents that read sources before they answer: the passages that a retriever finds, everything there is, or the first and then the second.

    Rag          retrieve, fit, answer                                    cheap; blind to what was not found
    LongContext  everything in, as far as it fits                         dear; the model must find the place itself
    Hybrid       Rag, and LongContext where that abstains                 Self-Route (2407.16833)

All three abstain where nothing was found, and where the answer is not in what was shown (`retrieval.citations`). What was shown, what found no
room and the hash of what was searched stand in each rollout's `retrievals`; the exact tokens in its completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from posttrain.renderer import Renderer
from posttrain.retrieval.citations import Checked, check
from posttrain.retrieval.passages import Passage, Retriever
from posttrain.rewards.abstention import ABSTAINED, abstains
from posttrain.seeds import fold
from posttrain.types import Completion, Engine, Message, Problem, Retrieval, Rollout, Sampling, Source, UserError

INSTRUCTIONS = (
    "Answer the question in one short sentence, only from the sources above, with the number of the source behind it, like [1]. "
    f"If the sources do not have the answer, say: {ABSTAINED}"
)
LITTLE = 8
"""With fewer tokens of room than this, no further passage is tried."""


@dataclass(frozen=True)
class Reader:
    """Shows a model as many passages as its context holds, above the question, and takes its answer."""

    engine: Engine
    renderer: Renderer
    context_tokens: int
    """How many tokens the model holds, the answer's included."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=64)
    instructions: str = INSTRUCTIONS
    """What stands under the sources, above the question."""
    checks: bool = True
    """Whether an answer that is not borne out by what was shown is followed by an abstention, which then is the attempt's last word."""
    corpus_sha256: str = ""
    """The hash of what is searched, for the record."""

    async def read(self, problem: Problem, found: Sequence[Passage], n: int, seed: int) -> list[Rollout]:
        """`n` answers from the passages found, best first; without any, abstentions for which the model is not asked.

        Raises `UserError` where the context does not hold the question alone, and where passages were found and none of them fits.
        """
        shown = self.fitting(problem, found)
        if found and not shown:
            raise UserError(f"none of {len(found)} passages fits into a context of {self.context_tokens} tokens: cut smaller ones, or take a longer context")
        kept = {passage.id for passage in shown}
        sources = tuple(Source(p.id, p.source, p.start, p.end, p.text, p.score) for p in shown)
        retrieval = Retrieval(question(problem), self.corpus_sha256, sources, tuple(p.id for p in found if p.id not in kept))
        if not shown:
            return [Rollout(problem, (Message("assistant", ABSTAINED),), sample=i, retrievals=(retrieval,)) for i in range(n)]
        sampling = replace(self.sampling, seed=fold(seed, self.sampling.seed, problem.id))
        completions = await self.engine.sample(self.prompt(problem, shown), n, sampling, self.renderer.stop_token_ids)
        return [self._rollout(problem, completion, retrieval) for completion in completions]

    def fitting(self, problem: Problem, found: Sequence[Passage]) -> list[Passage]:
        """The passages that fit beside the question and the longest answer, in the order found; those too long for what is left are skipped.

        Counted in the exact tokens of the whole prompt.
        """
        room = self.context_tokens - self.sampling.max_tokens
        left = room - len(self.prompt(problem, ()))
        if left < 0:
            raise UserError(f"the question alone does not fit into a context of {self.context_tokens} tokens: ask shorter, or lower max_tokens")
        shown: list[Passage] = []
        for passage in found:
            size = len(self.renderer.encode(_block(len(shown) + 1, passage)))
            if size <= left:
                shown.append(passage)
                left -= size
            if left < LITTLE:
                break
        while shown and len(self.prompt(problem, shown)) > room:  # tokens may join or part where texts meet
            shown.pop()
        return shown

    def prompt(self, problem: Problem, shown: Sequence[Passage]) -> tuple[int, ...]:
        """What the model reads: the problem's messages, the last with the sources above it."""
        return self.renderer.prompt(asked_of(problem, shown, self.instructions))

    def _rollout(self, problem: Problem, completion: Completion, retrieval: Retrieval) -> Rollout:
        outcome = "terminated" if completion.stop_reason == "stop" else "truncated"
        message = self.renderer.parse(completion.token_ids)
        refused = self.checks and not abstains(message.content) and not checked(message.content, retrieval).is_supported
        messages = (message, Message("assistant", ABSTAINED)) if refused else (message,)
        return Rollout(problem, messages, (completion,), outcome, completion.sample, retrievals=(retrieval,))


def asked_of(problem: Problem, shown: Sequence[Passage], instructions: str = INSTRUCTIONS) -> tuple[Message, ...]:
    """The problem's messages, the last with the sources above it, each under its number from 1: for a reader, and for whoever trains one."""
    *before, last = problem.messages
    blocks = "".join(_block(number, passage) for number, passage in enumerate(shown, 1))
    return (*before, replace(last, content=f"{blocks}{instructions}\n\nQuestion: {last.content}"))


def question(problem: Problem) -> str:
    """What is looked up: the problem's last message."""
    return problem.messages[-1].content


def checked(answer: str, retrieval: Retrieval) -> Checked:
    """An answer held against the sources that were shown for it."""
    return check(answer, retrieval.query, [Passage(s.id, s.text, s.score, s.document, s.start, s.end) for s in retrieval.shown])


def _block(number: int, passage: Passage) -> str:
    return f"[{number}] {passage.text}\n\n"


@dataclass(frozen=True)
class Rag:
    """Answers from the `k` passages that a retriever finds for the question, as many of them as fit."""

    reader: Reader
    retriever: Retriever
    k: int = 5

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` answers from the same passages. Raises `UserError` for an empty question."""
        _check_question(problem)
        return await self.reader.read(problem, self.retriever.search(question(problem), self.k), n, seed)


@dataclass(frozen=True)
class LongContext:
    """Answers with all passages before it, in their order, as far as the context holds them; what does not fit is named, never cut in silence."""

    reader: Reader
    passages: Sequence[Passage]

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` answers from all there is. Raises `UserError` for an empty question."""
        _check_question(problem)
        return await self.reader.read(problem, self.passages, n, seed)


@dataclass(frozen=True)
class Hybrid:
    """Tries `Rag`, and where that abstains `LongContext`, as Self-Route does (2407.16833).

    Deviation: there the model's own word decides, here also the check of what it said. A rollout that fell back has the completions and
    the retrievals of both.
    """

    first: Rag
    then: LongContext

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` answers, of which some may have cost both attempts."""
        rollouts = await self.first.attempt(problem, n, seed)
        open_places = [i for i, rollout in enumerate(rollouts) if abstains(rollout.text)]
        if open_places:
            again = await self.then.attempt(problem, len(open_places), fold(seed, "then"))
            for i, rollout in zip(open_places, again, strict=True):
                rollouts[i] = _joined(rollouts[i], rollout)
        return rollouts


def _joined(first: Rollout, then: Rollout) -> Rollout:
    """Two attempts as one, the second's word being the last."""
    return Rollout(
        then.problem, (*first.messages, *then.messages), (*first.completions, *then.completions), then.outcome, first.sample, then.error,
        retrievals=(*first.retrievals, *then.retrievals),
    )  # fmt: skip


def _check_question(problem: Problem) -> None:
    if not question(problem).strip():
        raise UserError("the question is empty: ask something")
