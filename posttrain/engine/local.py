"""Samples from the policy itself, with the forward that it is trained with.

Whoever waits is batched: all requests that are pending when a step begins join it. A prompt is read once for all its
siblings; a completion that has ended leaves at once. What is drawn depends on (seed, sample, position) and on the
model's log-probs, and those do not depend on the batch (`policy/numerics.py`): a sample is the same alone or in company.
A conversation (`begun`) is remembered from turn to turn (`engine/kept.py`), and what is remembered is what would be computed anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from posttrain.batching import bucket_length, make_layout
from posttrain.engine.cache import CachedAttention, Cohort, Place, Recorder
from posttrain.engine.draw import block_masses, draw, keep_likely
from posttrain.engine.kept import Kept, Memory, Pairs, Weights
from posttrain.policy.attention import LONG, PackedAttention
from posttrain.policy.head import Head
from posttrain.policy.hf import Policy
from posttrain.policy.laid_out import LaidOut
from posttrain.seeds import fold, uniforms
from posttrain.types import Completion, ContextFull, Sampling, UserError

Watch = Callable[[int, Sequence[int], Sequence[float]], bool]
"""Told after each token of a completion: its sample index, its tokens and log-probs so far; true ends it there."""

MAX_COHORTS = 4
"""More than this many are merged: each costs one round of attention a step."""
MANY_TOKENS = 24
"""Completions that may become this long repay the laying out of the weights, which costs some ten steps' gain."""
MEMORY_BYTES = 1 << 30
"""For conversations between their turns: 23,000 tokens of SmolLM2-135M in fp32."""


@dataclass(eq=False)
class Request:
    """One caller's wish, and what has become of it."""

    prompt: tuple[int, ...]
    n: int
    sampling: Sampling
    stops: frozenset[int]
    limit: int
    """Tokens a completion may have: the sampling's limit or the room in the context."""
    done: asyncio.Future
    begun: int = 0
    """How many of the prompt's tokens began the conversation; 0 for none that is to be remembered."""
    watch: Watch | None = None
    completions: dict[int, Completion] = field(default_factory=dict)
    kept: Kept | None = None
    """What has been computed of the conversation before."""
    known: int = 0
    """How much of that are tokens of the prompt."""
    prefix: Pairs | None = None
    """A copy of the beginning's keys, once for all siblings."""
    weights: Weights | None = None
    """What it is computed with, if that matters."""

    @property
    def first(self) -> int:
        """Tokens that stand in the cohort's prefix; those behind them are each completion's own."""
        return self.begun or len(self.prompt)

    @property
    def goes_on(self) -> bool:
        """Whether turns have gone before."""
        return self.first < len(self.prompt)


@dataclass(eq=False)
class Writing:
    """One completion being written."""

    request: Request
    sample: int
    seed: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def n_own(self) -> int:
        """Own tokens that have been computed: all behind the prefix but the last, which has only been drawn."""
        return len(self.request.prompt) - self.request.first + len(self.tokens) - 1

    def add(self, token: int, logprob: float) -> bool:
        """Append a token; whether the completion has ended with it."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        watched = self.request.watch is not None and self.request.watch(self.sample, self.tokens, self.logprobs)
        return watched or token in self.request.stops or len(self.tokens) >= self.request.limit


@dataclass
class Group:
    """A cohort and, in the grid's order, who writes in which cell."""

    cohort: Cohort
    spots: list[tuple[int, int]]
    writers: list[Writing]


@dataclass
class LocalEngine:
    """An `Engine` over a policy held in this process."""

    policy: Policy
    max_rows: int = 256
    """Completions written at once; further requests wait until a quarter of the places are free."""
    prefill_tokens: int = 4096
    """Prompt tokens read in one row."""
    memory_bytes: int = MEMORY_BYTES
    """What conversations between their turns may take; 0 computes each turn's whole prompt anew."""
    n_tokens: int = 0
    """Tokens sampled so far."""
    n_read: int = 0
    """Prompt tokens computed so far."""
    _waiting: deque[Request] = field(default_factory=deque)
    _groups: list[Group] = field(default_factory=list)
    _laid_out: LaidOut | None = None
    """The policy's weights as they are multiplied by while somebody waits for many tokens."""
    _open: set[Request] = field(default_factory=set)
    """Whoever has not been answered, wherever in the works a request may be."""
    _pump: asyncio.Task | None = None

    def __post_init__(self) -> None:
        self.memory = Memory(self.memory_bytes)

    async def sample(
        self, prompt_token_ids: Sequence[int], n: int, sampling: Sampling, stop_token_ids: Sequence[int] = (), begun: int = 0,
        watch: Watch | None = None,
    ) -> list[Completion]:  # fmt: skip
        """`n` completions of one prompt, in the order of their sample index. What `watch` ends has the stop reason `length`.

        With `begun`, the tokens of the conversation's first prompt (in its first turn: all), what is computed is remembered for the
        turns to come, until `forget` or until room is needed. Raises ContextFull where the prompt leaves no room in the model's context for a single token.
        """
        prompt = tuple(prompt_token_ids)
        room = self.policy.max_context - len(prompt)
        if not prompt:
            raise UserError("the prompt is empty")
        if room < 1:
            raise ContextFull(
                f"the prompt has {len(prompt)} tokens and the model's context holds {self.policy.max_context}:"
                " shorten the prompt, or take a model with a longer context"
            )
        if n < 1 or sampling.max_tokens < 1 or sampling.temperature < 0:
            raise UserError("sampling needs n and max_tokens of at least 1, and a temperature of at least 0")
        if not 0 <= begun <= len(prompt):
            raise UserError(f"a conversation of {len(prompt)} tokens cannot have begun with {begun}")
        done = asyncio.get_running_loop().create_future()
        request = Request(prompt, n, sampling, frozenset(stop_token_ids), min(sampling.max_tokens, room), done, begun, watch)
        self._waiting.append(request)
        self._open.add(request)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        try:
            return await request.done
        finally:
            self._open.discard(request)

    async def forget(self, prompt_token_ids: Sequence[int], token_ids: Sequence[int]) -> None:
        """The conversation that ended with this completion will not go on."""
        self.memory.forget((*prompt_token_ids, *token_ids[:-1]))

    async def _run(self) -> None:
        """Step until nobody waits. Control goes back to the callers between steps, so that new ones can join."""
        await asyncio.sleep(0)
        try:
            while self._waiting or self._groups:
                self._admit()
                if self._groups:
                    self._decode()
                await asyncio.sleep(0)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._laid_out = None  # training needs the memory

    def _fail(self, error: BaseException) -> None:
        """Whoever waits is told, and the engine can be used again."""
        self._waiting.clear()
        self._groups.clear()
        for request in self._open:
            if not request.done.done():
                request.done.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())

    # ------------------------------------------------------------------------------------------------------- admission

    def _admit(self) -> None:
        """Read the prompts of those who wait, as far as there is room, and draw their first tokens."""
        room = self.max_rows - sum(len(g.writers) for g in self._groups)
        if self._groups and room < self.max_rows // 4:
            return  # one by one, each newcomer's prompt would cost a whole pass through the model
        joining: list[Request] = []
        tokens = 0
        while self._waiting and (room >= self._waiting[0].n or not (joining or self._groups)):
            if joining and tokens + self._unread(self._waiting[0]) > self.prefill_tokens:
                self._prefill(joining)
                joining, tokens = [], 0
            request = self._waiting.popleft()
            room -= request.n
            tokens += self._unread(request)
            joining.append(request)
        if joining:
            self._prefill(joining)
        if len(self._groups) > MAX_COHORTS:
            self._groups = [_merge(self._groups)]

    def _unread(self, request: Request) -> int:
        """Tokens of its prompt that must be computed; looks up what is remembered of it."""
        if request.begun and request.weights is None:
            request.weights = self._weights()
            self.memory.enter(request.weights)
            if request.goes_on:
                request.kept, request.known = self.memory.longest(request.prompt, request.begun)
        return len(request.prompt) - request.known

    def _weights(self) -> Weights:
        return self.policy.model, sum(parameter._version for parameter in self.policy.model.parameters())

    @torch.no_grad()
    def _prefill(self, requests: list[Request]) -> None:
        begin, go_on = [r for r in requests if not r.goes_on], [r for r in requests if r.goes_on]
        if begin:
            cohort, last = self._read([r.prompt for r in begin], max(r.n for r in begin))
            self._write(begin, cohort, last)
        if unknown := [r for r in go_on if r.kept is None]:
            cohort, _ = self._read([r.prompt[: r.begun] for r in unknown], 1)
            for row, r in enumerate(unknown):
                r.kept, r.known = Kept(r.prompt[: r.begun], r.begun, cohort.prefix_of(row), cohort.own_of(row, 0, 0)), r.begun
        shape = lambda r: (bucket_length(len(r.prompt) - r.known), bucket_length(len(r.prompt) - r.begun))  # noqa: E731
        for _, alike in groupby(sorted(go_on, key=shape), key=shape):
            self._go_on(list(alike))

    def _read(self, prompts: list[tuple[int, ...]], n_slots: int) -> tuple[Cohort, Tensor]:
        """Read prompts in one row: their cohort, and the hidden state behind each."""
        lengths = [len(prompt) for prompt in prompts]
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        layout = make_layout([(range(s, s + n), []) for s, n in zip(starts, lengths, strict=True)], sum(lengths))
        recorder = Recorder(PackedAttention(layout), {})
        ids = torch.tensor([t for prompt in prompts for t in prompt])
        positions = torch.cat([torch.arange(n) for n in lengths])
        hidden = self.policy.hidden(ids, positions, recorder)
        self.n_read += len(ids)
        return Cohort.from_prefill(recorder.seen, lengths, n_slots), hidden[torch.tensor(lengths).cumsum(0) - 1]

    def _go_on(self, requests: list[Request]) -> None:
        """Read what is new in conversations, behind what is known of them."""
        known = [r.known - r.begun for r in requests]
        owns = [{i: (k[:, :n], v[:, :n]) for i, (k, v) in r.kept.own.items()} for r, n in zip(requests, known, strict=True)]
        cohort = Cohort.from_kept([r.kept.prefix for r in requests], [r.begun for r in requests], owns)
        cohort.grow(max(len(r.prompt) - r.begun for r in requests))
        last: dict[int, Tensor] = {}
        for start in range(0, max(len(r.prompt) - r.known for r in requests), LONG):
            parts = [r.prompt[r.known + start : r.known + start + LONG] for r in requests]
            rows = [row for row, part in enumerate(parts) if part]
            counts = [len(parts[row]) for row in rows]
            place = Place.of(cohort, [(row, 0) for row in rows], [known[row] + start for row in rows], counts)
            ids = torch.tensor([token for part in parts for token in part])
            positions = place.token + cohort.prefix_lengths[place.group]
            hidden = self.policy.hidden(ids, positions, CachedAttention([cohort], [place]))
            self.n_read += len(ids)
            last |= dict(zip(rows, hidden[torch.tensor(counts).cumsum(0) - 1], strict=True))
        spread = cohort.kept(list(range(len(requests))), [[0] * r.n for r in requests])
        for request in requests:
            request.prefix = request.kept.prefix
        self._write(requests, spread, torch.stack([last[row] for row in range(len(requests))]))

    def _write(self, requests: list[Request], cohort: Cohort, last: Tensor) -> None:
        """Begin the completions of prompts that have been read, and draw their first tokens."""
        group = Group(cohort, [], [])
        for row, request in enumerate(requests):
            for sample in range(request.n):
                group.spots.append((row, sample))
                group.writers.append(Writing(request, sample, fold(request.sampling.seed, sample)))
        self._extend([group], last[torch.tensor([row for row, _ in group.spots])])

    # -------------------------------------------------------------------------------------------------------- decoding

    @torch.no_grad()
    def _decode(self) -> None:
        """One token for every living completion."""
        writers = [w for g in self._groups for w in g.writers]
        places = []
        for group in self._groups:
            tokens = [w.n_own for w in group.writers]
            group.cohort.grow(max(tokens) + 1)
            places.append(Place.of(group.cohort, group.spots, tokens))
        ids = torch.tensor([w.tokens[-1] for w in writers])
        positions = torch.tensor([len(w.request.prompt) + len(w.tokens) - 1 for w in writers])
        attend = CachedAttention([g.cohort for g in self._groups], places)
        self._lay_out(writers)
        with self._laid_out.used() if self._laid_out else nullcontext():
            hidden = self.policy.hidden(ids, positions, attend)
        groups, self._groups = self._groups, []
        self._extend(groups, hidden)

    def _lay_out(self, writers: Sequence[Writing]) -> None:
        """Lay the weights out where that pays, and anew where they have changed in the meantime."""
        if self._laid_out and not self._laid_out.is_current:
            self._laid_out = None
        if self._laid_out is None and max(w.request.limit - len(w.tokens) for w in writers) >= MANY_TOKENS:
            self._laid_out = LaidOut.of(self.policy)

    def _extend(self, groups: list[Group], hidden: Tensor) -> None:
        """Draw a token for each completion of `groups`, whose hidden states stand in that order; keep the groups that live on."""
        writers = [w for g in groups for w in g.writers]
        tokens, logprobs = choose(self._laid_out.head if self._laid_out else self.policy.head, hidden, writers)
        self.n_tokens += len(writers)
        ended = [w.add(t, p) or w.request.done.cancelled() for w, t, p in zip(writers, tokens, logprobs, strict=True)]
        start = 0
        for group in groups:
            ends = ended[start : start + len(group.writers)]
            alive = [i for i, end in enumerate(ends) if not end]
            start += len(group.writers)
            for (row, slot), writer in (pair for pair, end in zip(zip(group.spots, group.writers, strict=True), ends, strict=True) if end):
                self._remember(group.cohort, row, slot, writer)
                self._finish(writer)
            if alive:
                self._groups.append(_retire(group, alive))

    def _remember(self, cohort: Cohort, row: int, slot: int, writer: Writing) -> None:
        """Keep what has been computed of a conversation; one whose weights have changed since is of no use."""
        request = writer.request
        if not request.begun or request.done.cancelled() or not self.memory_bytes or request.weights != self._weights():
            return
        request.prefix = request.prefix or cohort.prefix_of(row)
        tokens = request.prompt + tuple(writer.tokens[:-1])
        self.memory.keep(Kept(tokens, request.begun, request.prefix, cohort.own_of(row, slot, writer.n_own)), request.kept)

    def _finish(self, writer: Writing) -> None:
        request = writer.request
        reason = "stop" if writer.tokens[-1] in request.stops else "length"
        request.completions[writer.sample] = Completion(
            request.prompt, tuple(writer.tokens), tuple(writer.logprobs), reason, request.sampling, writer.sample, self.policy.version
        )
        if len(request.completions) == request.n and not request.done.done():
            request.done.set_result([request.completions[i] for i in range(request.n)])


def choose(head: Head, hidden: Tensor, writers: Sequence[Writing]) -> tuple[list[int], list[float]]:
    """A token for each row and its log-prob: under what it was drawn from; at temperature 0, under temperature 1."""
    temperatures = torch.tensor([w.request.sampling.temperature or 1.0 for w in writers])
    logp, masses = head.distribution(hidden, temperatures)
    for sampling, rows in _rows_by_sampling(writers):
        if sampling.truncates and sampling.temperature:
            logp[rows] = keep_likely(logp[rows], sampling)
            masses[rows] = block_masses(logp[rows], head.block)
    chance = torch.from_numpy(uniforms([w.seed for w in writers], [len(w.tokens) for w in writers]))
    tokens = draw(logp, chance, masses, head.block)
    greedy = torch.tensor([w.request.sampling.temperature == 0 for w in writers])
    if greedy.any():
        tokens = torch.where(greedy, logp.argmax(-1), tokens)
    return tokens.tolist(), logp.gather(1, tokens[:, None])[:, 0].tolist()


def _rows_by_sampling(writers: Sequence[Writing]) -> Iterable[tuple[Sampling, list[int]]]:
    """Runs of rows that are drawn in the same way."""
    for sampling, rows in groupby(range(len(writers)), key=lambda i: writers[i].request.sampling):
        yield sampling, list(rows)


def _retire(group: Group, alive: list[int]) -> Group:
    """The group of those still writing; its cache shrinks once at most half of the cells are in use."""
    spots, writers = [group.spots[i] for i in alive], [group.writers[i] for i in alive]
    cells = group.cohort.n_groups * group.cohort.n_slots
    if 2 * len(alive) > cells:
        return Group(group.cohort, spots, writers)
    rows = sorted({g for g, _ in spots})
    slots = [[s for g, s in spots if g == row] for row in rows]
    if 2 * len(rows) * max(map(len, slots)) > cells:
        return Group(group.cohort, spots, writers)
    moved = {(row, s): (i, j) for i, row in enumerate(rows) for j, s in enumerate(slots[i])}
    return Group(group.cohort.kept(rows, slots), [moved[spot] for spot in spots], writers)


def _merge(groups: list[Group]) -> Group:
    spots, offset = [], 0
    for group in groups:
        spots += [(g + offset, s) for g, s in group.spots]
        offset += group.cohort.n_groups
    return Group(Cohort.merged([g.cohort for g in groups]), spots, [w for g in groups for w in g.writers])
