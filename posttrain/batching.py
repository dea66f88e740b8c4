"""Rollouts become tensors: packed rows, no padding, a shared prompt computed once for all its siblings.

A row is a list of *segments*. A prompt is one segment; each completion is another, whose tokens attend to the prompt
and to themselves, never to a sibling and never to another prompt. `Layout` writes that down as index tensors, and the
attention function (`policy/attention.py`) reads it; every other layer of a transformer works token by token and needs
to know nothing.

A batch has two axes. `T` is the tokens of the row. `N` is its *predictions*: (the position that predicts, the token
predicted). They differ because the last token of a shared prompt predicts one token for each of its completions, and
because what is not trained on is not predicted. Values that belong to predictions (advantages, old log-probs, weights)
stay outside, as flat tensors over all predictions of the optimizer step in the order of the sequences; `batch.index`
says which of them a batch holds, so that cutting a step into batches is invisible to its arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from posttrain.types import Completion, Rollout

LANE = 16
"""Segment lengths are bucketed to multiples of this inside attention. It is the widest vector of fp32 numbers on a CPU,
so that a padded key adds an exact zero to the same partial sum, and a sum does not depend on the padding behind it."""


@dataclass(frozen=True)
class TokenSequence:
    """A prompt and what followed it, with a mark on each following token that is to be predicted (and trained on)."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    predicted: tuple[bool, ...] | None = None
    """One mark for each of `tokens`; None marks them all."""
    temperature: float = 1.0
    """Logits are divided by it, as they were when `tokens` were drawn."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("a sequence needs at least one prompt token: the first token has nothing to predict it from")
        if self.predicted is not None and len(self.predicted) != len(self.tokens):
            raise ValueError(f"{len(self.predicted)} marks for {len(self.tokens)} tokens")
        if self.temperature <= 0:
            raise ValueError("log-probs need a temperature above 0")

    @property
    def n_predicted(self) -> int:
        return len(self.tokens) if self.predicted is None else sum(self.predicted)


@dataclass(frozen=True)
class Bucket:
    """Groups of similar shape, attended to together: N groups of one prefix of up to P tokens and S segments of up to L."""

    n_groups: int
    n_segments: int
    length: int
    prefix_width: int
    prefix_lengths: Tensor
    """Long[N]"""

    @property
    def n_slots(self) -> int:
        return self.n_groups * self.n_segments * self.length

    @property
    def n_prefix_slots(self) -> int:
        return self.n_groups * self.prefix_width


@dataclass(frozen=True)
class Layout:
    """How the tokens of one row attend.

    The buckets' slots lie one behind the other. Each token has one slot as a member of its own segment, and one in each
    bucket that reads it as a prefix. Slots beyond a segment's end repeat the row's first token: nobody reads them.
    """

    buckets: tuple[Bucket, ...]
    own_index: Tensor
    """Long[slots]: the token in each slot."""
    prefix_index: Tensor
    """Long[prefix slots]: the token in each prefix slot."""
    slots: Tensor
    """Long[T]: the slot of each token."""


@dataclass(frozen=True)
class Batch:
    """One packed row."""

    token_ids: Tensor
    """Long[T]"""
    position_ids: Tensor
    """Long[T]: positions within each sequence, as if it stood alone."""
    layout: Layout
    sources: Tensor
    """Long[N]: the token of the row whose hidden state predicts."""
    targets: Tensor
    """Long[N]: the token predicted."""
    places: Tensor
    """Long[N]: where in the row the predicted token itself stands: a reward model reads there, a critic at `sources`."""
    temperatures: Tensor
    """Float[N]"""
    index: Tensor
    """Long[N]: which of the step's predictions these are, in the order of the sequences."""

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)


def round_up(n: int, multiple: int = LANE) -> int:
    """The smallest multiple that holds n."""
    return -(-n // multiple) * multiple


def bucket_length(n: int) -> int:
    """The padded length of a segment of n tokens: 16, 32, 64 or 128; beyond that at most half too long."""
    return round_up(n, max(LANE, _power_of_two(n) // 4)) if n > 128 else max(LANE, _power_of_two(n)) if n else 0


def _power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def pack(sequences: Sequence[TokenSequence], max_tokens: int, together: int = 1) -> list[Batch]:
    """Rows of at most `max_tokens` tokens that hold every sequence once.

    Sequences with the same prompt stand side by side and share it; a group larger than a row is cut, and its prompt
    computed again. A sequence longer than a row gets a row of its own. Sequences in which nothing is predicted are left out.
    `together` = n never tears sequences k n … k n + n − 1 apart: a loss of both answers of a pair needs both at once.
    """
    starts = _starts(sequences)
    rows = _fill(sequences, max_tokens, together)
    return [_build(row, sequences, starts) for row in rows]


def _starts(sequences: Iterable[TokenSequence]) -> list[int]:
    """Where each sequence's predictions begin among those of the step."""
    starts, total = [], 0
    for sequence in sequences:
        starts.append(total)
        total += sequence.n_predicted
    return starts


def _fill(sequences: Sequence[TokenSequence], max_tokens: int, together: int) -> list[list[int]]:
    """Greedy fit, unit by unit, in the order in which their prompts first appear, so that siblings meet."""
    units = [range(start, min(start + together, len(sequences))) for start in range(0, len(sequences), together)]
    groups: dict[tuple[int, ...], list[list[int]]] = {}
    for unit in units:
        members = [i for i in unit if sequences[i].n_predicted]
        if members:
            groups.setdefault(sequences[members[0]].prompt, []).append(members)
    rows: list[list[int]] = []
    room, last_prompt = 0, None
    for members in (members for group in groups.values() for members in group):
        cost = _cost(members, sequences, last_prompt)
        if cost > room:
            rows.append([])
            room, cost = max_tokens, _cost(members, sequences, None)
        rows[-1] += members
        room -= cost
        last_prompt = sequences[members[-1]].prompt
    return rows


def _cost(members: Sequence[int], sequences: Sequence[TokenSequence], last_prompt: tuple[int, ...] | None) -> int:
    """The tokens that these sequences add to a row which ends in a sequence of `last_prompt`."""
    prompts = [last_prompt, *(sequences[i].prompt for i in members)]
    new = sum(len(prompt) for before, prompt in pairwise(prompts) if prompt is not None and prompt != before)
    return new + sum(len(sequences[i].tokens) for i in members)


def _build(row: list[int], sequences: Sequence[TokenSequence], starts: list[int]) -> Batch:
    token_ids: list[int] = []
    position_ids: list[int] = []
    sources: list[int] = []
    places: list[int] = []
    temperatures: list[float] = []
    index: list[int] = []
    groups: list[tuple[range, list[range]]] = []
    last_prompt = None
    for i in row:
        sequence = sequences[i]
        if sequence.prompt != last_prompt:
            prefix = range(len(token_ids), len(token_ids) + len(sequence.prompt))
            groups.append((prefix, []))
            token_ids += sequence.prompt
            position_ids += range(len(prefix))
            last_prompt = sequence.prompt
        own = range(len(token_ids), len(token_ids) + len(sequence.tokens))
        groups[-1][1].append(own)
        token_ids += sequence.tokens
        position_ids += range(len(prefix), len(prefix) + len(own))
        marks = sequence.predicted or (True,) * len(own)
        predicted = [t for t, mark in zip(own, marks, strict=True) if mark]
        sources += [t - 1 if t > own.start else prefix.stop - 1 for t in predicted]
        places += predicted
        temperatures += [sequence.temperature] * len(predicted)
        index += range(starts[i], starts[i] + len(predicted))
    long = torch.long
    return Batch(
        torch.tensor(token_ids, dtype=long), torch.tensor(position_ids, dtype=long), make_layout(groups, len(token_ids)),
        torch.tensor(sources, dtype=long), torch.tensor([token_ids[t] for t in places], dtype=long), torch.tensor(places, dtype=long),
        torch.tensor(temperatures), torch.tensor(index, dtype=long),
    )  # fmt: skip


def make_layout(groups: Sequence[tuple[range, Sequence[range]]], n_tokens: int) -> Layout:
    """The layout of a row made of (prefix, its segments): prefixes attend to themselves, segments to prefix and self.

    Groups of the same padded shape share a bucket. Within a group, segments are split by padded length too, so that one
    long completion does not pad its short siblings.
    """
    shapes: dict[tuple[int, int, int], list[tuple[range, list[range]]]] = {}
    for prefix, segments in groups:
        shapes.setdefault((0, 1, bucket_length(len(prefix))), []).append((range(0), [prefix]))
        by_length: dict[int, list[range]] = {}
        for segment in segments:
            by_length.setdefault(bucket_length(len(segment)), []).append(segment)
        for length, members in by_length.items():
            shape = (bucket_length(len(prefix)), _power_of_two(len(members)), length)
            shapes.setdefault(shape, []).append((prefix, members))
    buckets, own, prefixes = [], [], []
    slots = torch.zeros(n_tokens, dtype=torch.long)
    offset = 0
    for (width, _, length), members in sorted(shapes.items(), key=lambda item: item[0]):
        n_segments = max(len(segments) for _, segments in members)
        lengths = torch.tensor([len(prefix) for prefix, _ in members])
        buckets.append(Bucket(len(members), n_segments, length, width, lengths))
        prefixes.append(_index([prefix for prefix, _ in members], width).flatten())
        padded = [segment for _, segments in members for segment in [*segments, *[range(0)] * (n_segments - len(segments))]]
        own.append(_index(padded, length).flatten())
        for i, segment in enumerate(padded):
            start = offset + i * length
            slots[segment.start : segment.stop] = torch.arange(start, start + len(segment))
        offset += len(own[-1])
    return Layout(tuple(buckets), torch.cat(own), torch.cat(prefixes), slots)


def _index(segments: Sequence[range], width: int) -> Tensor:
    """Long[len(segments), width] of token indices, 0 beyond each segment's end."""
    index = torch.zeros(len(segments), width, dtype=torch.long)
    for row, segment in enumerate(segments):
        index[row, : len(segment)] = torch.arange(segment.start, segment.stop)
    return index


def rollout_sequences(rollout: Rollout) -> list[TokenSequence]:
    """A rollout's sampled tokens as training sequences, exactly as they were sampled.

    A turn whose prompt begins with all that went before (prompt and completion) continues its sequence, and what was read
    in between is not predicted; any other turn (a rewritten history) begins a sequence of its own. Completions at another
    temperature do too.
    """
    sequences: list[TokenSequence] = []
    for completion in rollout.completions:
        temperature = completion.sampling.temperature
        last = sequences[-1] if sequences else None
        seen = last.prompt + last.tokens if last else ()
        marks = (True,) * len(completion.token_ids)
        if last and completion.prompt_token_ids[: len(seen)] == seen and temperature == last.temperature:
            between = completion.prompt_token_ids[len(seen) :]
            predicted = last.predicted + (False,) * len(between) + marks
            sequences[-1] = TokenSequence(last.prompt, last.tokens + between + completion.token_ids, predicted, temperature)
        else:
            sequences.append(TokenSequence(completion.prompt_token_ids, completion.token_ids, marks, temperature))
    return sequences


def row_begun(completions: Iterable[Completion], prompt: tuple[int, ...]) -> int:
    """How many tokens are the prompt of the training row that a turn with this prompt will stand in, after these completions; all of
    its own where it begins one."""
    begun, seen = len(prompt), None
    for completion in completions:
        if seen is None or completion.prompt_token_ids[: len(seen)] != seen:
            begun = len(completion.prompt_token_ids)
        seen = completion.prompt_token_ids + completion.token_ids
    return begun if seen is not None and prompt[: len(seen)] == seen else len(prompt)
