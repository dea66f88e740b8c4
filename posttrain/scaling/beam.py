"""Search over the steps of an answer: beams that a process reward prunes, with or without a look ahead."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from posttrain.renderer import Renderer
from posttrain.scaling.cost import SearchedRollout, Spent, VerifierTokens, free, searched
from posttrain.scaling.vote import Scorer
from posttrain.seeds import fold
from posttrain.types import Completion, ContextFull, Engine, Outcome, Problem, Rollout, Sampling, UserError


@dataclass(frozen=True)
class Path:
    """A beginning of an answer: one completion for each step, each of which reads all that came before."""

    completions: tuple[Completion, ...] = ()
    outcome: Outcome | None = None
    """None while it can go on."""
    value: float = math.nan
    """What the process reward says of it."""
    is_judged: bool = False

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(token for completion in self.completions for token in completion.token_ids)

    @property
    def rank(self) -> tuple[bool, float]:
        """Paths that could not be judged come last."""
        return (False, 0.0) if math.isnan(self.value) else (True, self.value)


@dataclass
class Account:
    """What a search has spent so far."""

    spent: Spent = Spent()

    def read_and_wrote(self, completion: Completion) -> None:
        self.spent += Spent(len(completion.prompt_token_ids), len(completion.token_ids))


@dataclass(frozen=True)
class StepBeam:
    """Beam search over steps, and lookahead search (arXiv 2408.03314, section 5.1).

    `beams` first steps are sampled and scored by `process`; the best `beams` // `expand` paths are kept, and `expand` next
    steps sampled from each, until every path kept has come to its end. With `lookahead` of k, a path is scored by
    what `process` says after k further steps at temperature 0, which are then thrown away (and paid for). 0 is plain beam
    search; `expand` = `beams` keeps one path at a time, and is greedy in the steps.

    A step ends with the first token whose text holds `delimiter`, or with the turn. A delimiter of one character always
    lies within one token; a longer one that the model spells out in several tokens ends no step. `process` is any reward
    that can judge an unfinished attempt: it is given the text so far as a rollout whose outcome is `truncated` until it ends. A
    process reward model with the aggregate `last` is the paper's choice. nan ranks below every number; the first
    among equals is kept. `sampling.max_tokens` is for the whole answer. An answer that has it all, more than `max_steps`
    steps or a full context is truncated.

    Deviations: a path that has ended holds its place among those kept without being expanded, while others go on; the
    answer is the best-scored path that came to its end (else the best-scored), where the paper takes a weighted vote over
    the last beams. The attempts' record
    `spent` holds every step sampled, kept or not, each prefix read anew, and what judging took.
    """

    engine: Engine
    renderer: Renderer
    process: Scorer
    beams: int = 8
    expand: int = 4
    delimiter: str = "\n"
    lookahead: int = 0
    max_steps: int = 40
    sampling: Sampling = Sampling()
    verifier_tokens: VerifierTokens = free

    def __post_init__(self) -> None:
        if self.expand < 1 or self.beams < 1 or self.beams % self.expand:
            raise UserError(f"{self.beams} beams cannot be shared by paths with {self.expand} next steps each: give a multiple")
        if self.lookahead < 0 or self.max_steps < 1:
            raise UserError("a search looks ahead for 0 steps or more, and takes at least 1")
        if not self.delimiter or not self._delimiters:
            raise UserError(f"no token of this model holds the delimiter {self.delimiter!r}: give what stands between the steps of its answers, such as a newline")

    @cached_property
    def _delimiters(self) -> frozenset[int]:
        pieces = self.renderer.pieces(range(self.renderer.vocab_size)) if self.delimiter else []
        return frozenset(token for token, piece in enumerate(pieces) if self.delimiter in piece)

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` searches, independent of one another."""
        return list(await asyncio.gather(*(self._search(problem, i, fold(seed, self.sampling.seed, problem.id, "beam", i)) for i in range(n))))

    async def _search(self, problem: Problem, i: int, seed: int) -> SearchedRollout:
        prompt, account = self.renderer.prompt(problem.messages), Account()
        paths = await self._steps(prompt, Path(), self.beams, seed, account)
        for step in range(1, self.max_steps + 1):
            kept = await self._best(problem, prompt, paths, account)
            going = [path for path in kept if path.outcome is None]
            if not going or step == self.max_steps:
                break
            grown = await asyncio.gather(*(
                self._steps(prompt, path, self.expand, fold(seed, step, place), account) for place, path in enumerate(kept) if path.outcome is None
            ))  # fmt: skip
            paths = [*(path for path in kept if path.outcome is not None), *(path for group in grown for path in group)]
        answer = max(kept, key=lambda path: (path.outcome == "terminated", path.rank))
        return searched(self._rollout(problem, answer), account.spent, i)

    async def _best(self, problem: Problem, prompt: tuple[int, ...], paths: Sequence[Path], account: Account) -> list[Path]:
        """The paths to be kept, best first; the first among equals."""
        judged = await asyncio.gather(*(self._judged(problem, prompt, path, account) for path in paths))
        return sorted(judged, key=lambda path: path.rank, reverse=True)[: self.beams // self.expand]

    async def _judged(self, problem: Problem, prompt: tuple[int, ...], path: Path, account: Account) -> Path:
        """The path with its value, which one that has ended keeps."""
        if path.outcome is not None and path.is_judged:
            return path
        ahead = path
        for _ in range(self.lookahead):
            if ahead.outcome is None:
                (ahead,) = await self._steps(prompt, ahead, 1, 0, account, temperature=0.0)
        rollout = self._rollout(problem, ahead)
        account.spent += Spent(verifier_tokens=self.verifier_tokens(rollout))
        return replace(path, value=(await self.process(rollout)).value, is_judged=True)

    async def _steps(
        self, prompt: tuple[int, ...], path: Path, n: int, seed: int, account: Account, temperature: float | None = None
    ) -> list[Path]:
        """`n` ways in which the path goes on for one step; the path itself, truncated, where its last step has filled the context."""
        written = path.tokens
        drawn = replace(
            self.sampling, seed=seed, max_tokens=self.sampling.max_tokens - len(written),
            temperature=self.sampling.temperature if temperature is None else temperature,
        )  # fmt: skip
        try:
            completions = await self.engine.sample(prompt + written, n, drawn, (*self.renderer.stop_token_ids, *self._delimiters))
        except ContextFull:
            if not written:
                raise
            return [replace(path, outcome="truncated")]
        for completion in completions:
            account.read_and_wrote(completion)
        return [Path((*path.completions, completion), self._outcome(completion, drawn.max_tokens)) for completion in completions]

    def _outcome(self, step: Completion, limit: int) -> Outcome | None:
        if step.stop_reason == "stop" and step.token_ids[-1] in self.renderer.stop_token_ids:
            return "terminated"
        return None if step.stop_reason == "stop" and len(step.token_ids) < limit else "truncated"

    def _rollout(self, problem: Problem, path: Path) -> Rollout:
        return Rollout(problem, (self.renderer.parse(path.tokens),), path.completions, path.outcome or "truncated")
