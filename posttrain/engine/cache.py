"""Keys and values of completions being written: a grid of groups × siblings, the group's prompt stored once."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from posttrain.batching import LANE, bucket_length, round_up
from posttrain.engine.kept import Pairs
from posttrain.policy.attention import PackedAttention, Rules, attend_grid, mask


@dataclass
class Recorder:
    """`PackedAttention` that keeps what it saw: the prefill of prompts."""

    packed: PackedAttention
    seen: dict[int, tuple[Tensor, Tensor]]

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, rules: Rules) -> Tensor:
        self.seen[layer] = (keys, values)
        return self.packed(layer, queries, keys, values, rules)


@dataclass
class Cohort:
    """N groups of up to S siblings that write together. A completion is a place (group, slot) and a number of tokens."""

    prefix: Pairs
    """[N, K, P, d]"""
    prefix_lengths: Tensor
    """Long[N]"""
    own: Pairs
    """[N, K, S, C, d]"""

    @property
    def n_groups(self) -> int:
        return len(self.prefix_lengths)

    @property
    def n_slots(self) -> int:
        return next(iter(self.own.values()))[0].shape[2]

    @property
    def capacity(self) -> int:
        """C: tokens that there is room for in each completion."""
        return next(iter(self.own.values()))[0].shape[3]

    @classmethod
    def from_prefill(cls, seen: dict[int, tuple[Tensor, Tensor]], lengths: list[int], n_slots: int) -> Cohort:
        """From the keys [T, K, d] of prompts of these lengths, packed one behind the other."""
        index = torch.zeros(len(lengths), round_up(max(lengths)), dtype=torch.long)
        for row, (stop, length) in enumerate(zip(accumulate(lengths), lengths, strict=True)):
            index[row, :length] = torch.arange(stop - length, stop)
        take = lambda x: x[index].permute(0, 2, 1, 3).contiguous()  # noqa: E731
        room = lambda x: x.new_zeros(len(lengths), x.shape[1], n_slots, LANE, x.shape[2])  # noqa: E731
        prefix = {i: (take(k), take(v)) for i, (k, v) in seen.items()}
        return cls(prefix, torch.tensor(lengths), {i: (room(k), room(v)) for i, (k, v) in seen.items()})

    @classmethod
    def from_kept(cls, prefixes: list[Pairs], lengths: list[int], owns: list[Pairs]) -> Cohort:
        """From each group's prefix [K, P, d] and the tokens since [K, C, d] of its only sibling."""
        width = round_up(max(lengths))
        capacity = max(LANE, bucket_length(max(next(iter(own.values()))[0].shape[1] for own in owns)))
        join = lambda rows, layer, size: tuple(torch.stack([_widen(row[layer][i][:, :size], 1, size) for row in rows]) for i in (0, 1))  # noqa: E731
        prefix = {layer: join(prefixes, layer, width) for layer in prefixes[0]}
        own = {layer: tuple(x.unsqueeze(2) for x in join(owns, layer, capacity)) for layer in owns[0]}
        return cls(prefix, torch.tensor(lengths), own)

    def prefix_of(self, group: int) -> Pairs:
        """A copy of a group's prefix."""
        width = round_up(int(self.prefix_lengths[group]))
        return {i: (k[group, :, :width].clone(), v[group, :, :width].clone()) for i, (k, v) in self.prefix.items()}

    def own_of(self, group: int, slot: int, length: int) -> Pairs:
        """A copy of the first `length` own tokens of a completion."""
        return {i: (k[group, :, slot, :length].clone(), v[group, :, slot, :length].clone()) for i, (k, v) in self.own.items()}

    def grow(self, length: int) -> None:
        """Make room for `length` tokens in every completion."""
        if length > self.capacity:
            for layer, (keys, values) in self.own.items():
                self.own[layer] = (_widen(keys, 3, bucket_length(length)), _widen(values, 3, bucket_length(length)))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rules: Rules, place: Place) -> Tensor:
        """Write the new tokens' keys of each living completion, and attend from them. q [R, H, d] → [R, H, d]."""
        keys, values = self.own[layer]
        at = (place.group, slice(None), place.slot, place.token)
        keys[at], values[at] = k, v
        N, K, S, _, d = keys.shape
        L = place.length
        grid = q.index_select(0, place.row_of_cell).view(N, S, L, K, -1, d).permute(0, 3, 1, 4, 2, 5)
        out = attend_grid(grid, *self.prefix[layer], keys, values, place.mask(self, rules.sliding_window), rules)
        return out.permute(0, 2, 4, 1, 3, 5).reshape(N * S * L, -1, d).index_select(0, place.cell)

    def kept(self, groups: list[int], slots: list[list[int]]) -> Cohort:
        """The cohort of only these groups and, in each, these slots (in the order given, moved to the front)."""
        n_slots = max(map(len, slots))
        rows = torch.tensor(groups)
        columns = torch.tensor([s + [0] * (n_slots - len(s)) for s in slots])
        pick = lambda x: x[rows[:, None], :, columns].transpose(1, 2).contiguous()  # noqa: E731
        prefix = {i: (k[rows], v[rows]) for i, (k, v) in self.prefix.items()}
        own = {i: (pick(k), pick(v)) for i, (k, v) in self.own.items()}
        return Cohort(prefix, self.prefix_lengths[rows], own)

    @classmethod
    def merged(cls, cohorts: list[Cohort]) -> Cohort:
        """One cohort with the groups of all, in order."""
        n_slots, capacity = max(c.n_slots for c in cohorts), max(c.capacity for c in cohorts)
        width = max(k.shape[2] for c in cohorts for k, _ in c.prefix.values())
        join = lambda pairs, pad: tuple(torch.cat([pad(pair[i]) for pair in pairs]) for i in (0, 1))  # noqa: E731
        prefix = {i: join([c.prefix[i] for c in cohorts], lambda x: _widen(x, 2, width)) for i in cohorts[0].prefix}
        own = {i: join([c.own[i] for c in cohorts], lambda x: _widen(_widen(x, 2, n_slots), 3, capacity)) for i in cohorts[0].own}
        return cls(prefix, torch.cat([c.prefix_lengths for c in cohorts]), own)


@dataclass(frozen=True)
class Place:
    """Where the tokens that are read in one forward stand in a cohort: one of each living completion, or up to `length` of each."""

    group: Tensor
    """Long[R]"""
    slot: Tensor
    """Long[R]"""
    token: Tensor
    """Long[R]: the place of the token now read among the completion's own."""
    cell: Tensor
    """Long[R]: where the token stands in the grid, (group · S + slot) · L + its place among those now read."""
    row_of_cell: Tensor
    """Long[N·S·L]: the token in each cell; 0 where there is none."""
    first_of_cell: Tensor
    """Long[N, S]: the place of the first of a completion's tokens now read, among its own."""
    length: int = 1
    """L"""
    masks: dict[int | None, Tensor] = field(default_factory=dict)
    """By sliding window; made by the first layer that needs one, for all."""

    def mask(self, cohort: Cohort, window: int | None) -> Tensor:
        if window not in self.masks:
            width = next(iter(cohort.prefix.values()))[0].shape[2]
            self.masks[window] = mask(cohort.prefix_lengths, self.first_of_cell, self.length, width, cohort.capacity, window)
        return self.masks[window]

    @classmethod
    def of(cls, cohort: Cohort, spots: list[tuple[int, int]], tokens: list[int], counts: list[int] | None = None) -> Place:
        """Of completions at these spots, whose next token is their own `tokens`-th; of each one token, or as many as `counts` says."""
        counts = counts or [1] * len(spots)
        length, n_cells = max(counts), cohort.n_groups * cohort.n_slots
        group, slot = torch.tensor(spots).unbind(1)
        first, many = torch.tensor(tokens), torch.tensor(counts)
        within = torch.cat([torch.arange(n) for n in counts]) if length > 1 else torch.zeros(len(spots), dtype=torch.long)
        group_R, slot_R, first_R = (x.repeat_interleave(many) for x in (group, slot, first))
        cell = (group_R * cohort.n_slots + slot_R) * length + within
        row_of_cell = torch.zeros(n_cells * length, dtype=torch.long).index_copy_(0, cell, torch.arange(len(cell)))
        first_of_cell = torch.zeros(n_cells, dtype=torch.long).index_copy_(0, group * cohort.n_slots + slot, first)
        return cls(group_R, slot_R, first_R + within, cell, row_of_cell, first_of_cell.view(-1, cohort.n_slots), length)


@dataclass(frozen=True)
class CachedAttention:
    """One forward of several cohorts, of a token or more of each completion: their rows stand one behind the other."""

    cohorts: list[Cohort]
    places: list[Place]

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, rules: Rules) -> Tensor:
        sizes = [len(place.cell) for place in self.places]
        parts = zip(*(x.split(sizes) for x in (queries, keys, values)), strict=True)
        return torch.cat([
            cohort.attend(layer, *part, rules, place)
            for cohort, place, part in zip(self.cohorts, self.places, parts, strict=True)
        ])  # fmt: skip


def _widen(x: Tensor, dim: int, size: int) -> Tensor:
    """`x` with zeros appended along `dim` up to `size`."""
    if x.shape[dim] >= size:
        return x
    shape = list(x.shape)
    shape[dim] = size - x.shape[dim]
    return torch.cat([x, x.new_zeros(shape)], dim)

