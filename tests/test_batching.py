"""Packing: nothing lost, nothing twice, nothing shared that should not be, and no trace of how it was cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from posttrain.batching import LANE, Batch, TokenSequence, bucket_length, pack, rollout_sequences
from posttrain.policy.attention import PackedAttention
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.types import Completion, Problem, Rollout, Sampling
from tests.small_models import gradients, relative_error, text

ONE_ROW = 100_000


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("tiny", "float32")


def sequence(prompt: Sequence[int], tokens: Sequence[int], marks: str = "") -> TokenSequence:
    """Marks are written as `.` (read only) and `x` (predicted)."""
    return TokenSequence(tuple(prompt), tuple(tokens), tuple(m == "x" for m in marks) if marks else None)


# ---------------------------------------------------------------------------------------------------------- what is packed


tokens_st = st.lists(st.integers(0, 9), max_size=40)


@st.composite
def some_sequences(draw: st.DrawFn) -> list[TokenSequence]:
    """Sequences of few different prompts, so that some are siblings, with marks and temperatures of all kinds."""
    prompts = draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=40).map(tuple), min_size=1, max_size=4))
    made = []
    for _ in range(draw(st.integers(0, 12))):
        tokens = tuple(draw(tokens_st))
        marks = draw(st.none() | st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)).map(tuple))
        made.append(TokenSequence(draw(st.sampled_from(prompts)), tokens, marks, draw(st.sampled_from([0.5, 1.0]))))
    return made


def predictions(sequences: Sequence[TokenSequence]) -> list[tuple[int, int, float]]:
    """By hand: (position of the source, target, temperature) of every prediction in the order of the sequences."""
    return [
        (len(s.prompt) + i - 1, token, s.temperature)
        for s in sequences
        for i, token in enumerate(s.tokens)
        if s.predicted is None or s.predicted[i]
    ]


@settings(max_examples=40)
@given(some_sequences(), st.integers(1, 200))
def test_every_prediction_is_made_once_from_the_right_place(sequences, max_tokens):
    expected, batches = predictions(sequences), pack(sequences, max_tokens)
    seen = {}
    for batch in batches:
        rows = zip(batch.position_ids[batch.sources].tolist(), batch.targets.tolist(), batch.temperatures.tolist(), strict=True)
        seen |= dict(zip(batch.index.tolist(), rows, strict=True))
    assert sum(len(batch.index) for batch in batches) == len(seen) == len(expected)
    assert [seen[i] for i in range(len(expected))] == expected


@settings(max_examples=40)
@given(some_sequences(), st.integers(1, 200))
def test_a_row_is_too_long_only_where_a_single_sequence_is(sequences, max_tokens):
    lengths = {len(s.prompt) + len(s.tokens) for s in sequences}
    for batch in pack(sequences, max_tokens):
        assert batch.n_tokens <= max_tokens or batch.n_tokens in lengths


@settings(max_examples=40)
@given(some_sequences())
def test_siblings_share_one_prompt_in_a_row(sequences):
    predicted = [s for s in sequences if s.n_predicted]
    expected = sum(len(p) for p in {s.prompt for s in predicted}) + sum(len(s.tokens) for s in predicted)
    assert sum(batch.n_tokens for batch in pack(sequences, ONE_ROW)) == expected


@settings(max_examples=40)
@given(some_sequences(), st.integers(1, 200))
def test_rows_hold_the_tokens_of_the_sequences_and_no_others(sequences, max_tokens):
    packed = Counter(t for batch in pack(sequences, max_tokens) for t in batch.token_ids.tolist())
    needed = Counter(t for s in sequences if s.n_predicted for t in s.tokens)
    assert needed <= packed
    assert set(packed) <= {t for s in sequences for t in s.prompt + s.tokens}


def test_a_row_by_hand():
    group = [sequence([1, 2], [3, 4, 5], "x.x"), sequence([1, 2], [6])]
    (batch,) = pack([group[0], sequence([7], [8, 9]), group[1]], ONE_ROW)
    assert batch.token_ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 2, 0, 1, 2]
    assert batch.sources.tolist() == [1, 3, 1, 6, 7]
    assert batch.targets.tolist() == [3, 5, 6, 8, 9]
    assert batch.index.tolist() == [0, 1, 4, 2, 3]


def test_a_group_larger_than_a_row_is_cut_and_its_prompt_read_again():
    batches = pack([sequence([1, 2, 3], [4] * 5) for _ in range(5)], max_tokens=13)
    assert [batch.n_tokens for batch in batches] == [13, 13, 8]
    assert [batch.token_ids[:3].tolist() for batch in batches] == [[1, 2, 3]] * 3


def test_a_sequence_longer_than_a_row_has_a_row_of_its_own():
    batches = pack([sequence([1], [2]), sequence([3], [4] * 30), sequence([5], [6])], max_tokens=10)
    assert [batch.n_tokens for batch in batches] == [2, 31, 2]


def test_what_predicts_nothing_is_not_computed_and_keeps_no_place():
    batches = pack([sequence([1], []), sequence([2], [3, 4], ".."), sequence([5], [6])], ONE_ROW)
    assert [batch.token_ids.tolist() for batch in batches] == [[5, 6]]
    assert batches[0].index.tolist() == [0]
    assert pack([], ONE_ROW) == pack([sequence([1], [])], ONE_ROW) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: TokenSequence((), (1,)),
        lambda: TokenSequence((1,), (2, 3), (True,)),
        lambda: TokenSequence((1,), (2,), temperature=0.0),
    ],
)
def test_a_sequence_that_cannot_be_predicted_is_refused(make):
    with pytest.raises(ValueError):
        make()


@given(st.integers(1, 5000))
def test_a_padded_length_is_whole_lanes_and_not_much_longer(n):
    padded = bucket_length(n)
    assert padded >= n and padded % LANE == 0
    assert padded <= max(LANE, 2 * n if n <= 128 else 1.5 * n)


# -------------------------------------------------------------------------------------------------------- no trace of it


def mixed_sequences() -> list[TokenSequence]:
    """Three groups, a lone sequence, lengths on both sides of the padding's steps, one turn that is only read."""
    sequences = [sequence(text(17, 1), text(n, 10 + n)) for n in (1, 15, 16, 17, 33)]
    sequences += [sequence(text(5, 2), text(n, 20 + n)) for n in (40, 3)]
    sequences += [sequence(text(1, 3), text(9, 30), "xxx...xxx"), sequence(text(70, 4), text(12, 40))]
    return sequences


def scores(policy: Policy, sequences: Sequence[TokenSequence], max_tokens: int = ONE_ROW) -> tuple[Tensor, ...]:
    """The log-probs of each sequence."""
    return policy.score(sequences, max_tokens)[0].split([s.n_predicted for s in sequences])


@pytest.mark.parametrize("changed", range(9))
def test_changing_one_document_moves_no_bit_of_another(policy, changed):
    before = mixed_sequences()
    after = list(before)
    old = before[changed]
    after[changed] = TokenSequence(old.prompt, text(len(old.tokens), 99), old.predicted)
    for i, (a, b) in enumerate(zip(scores(policy, before), scores(policy, after), strict=True)):
        assert torch.equal(a, b) == (i != changed)


def test_changing_a_shared_prompt_moves_no_bit_of_another_group(policy):
    before = mixed_sequences()
    after = [sequence(text(17, 77), s.tokens) if s.prompt == before[0].prompt else s for s in before]
    moved = [not torch.equal(a, b) for a, b in zip(scores(policy, before), scores(policy, after), strict=True)]
    assert moved == [True] * 5 + [False] * 4


def test_a_document_scores_the_same_alone_as_in_company(policy):
    sequences = mixed_sequences()
    for alone, packed in zip(sequences, scores(policy, sequences), strict=True):
        assert_close(scores(policy, [alone])[0], packed, rtol=0, atol=1e-5)


@settings(max_examples=12)
@given(st.permutations(range(9)), st.integers(20, 300))
def test_neither_order_nor_cut_shows_in_the_scores(policy, order, max_tokens):
    sequences = mixed_sequences()
    whole, cut = scores(policy, sequences), scores(policy, [sequences[i] for i in order], max_tokens)
    for place, i in enumerate(order):
        assert_close(cut[place], whole[i], rtol=0, atol=1e-5)


def test_the_temperature_divides_the_logits(policy):
    hot = [TokenSequence(s.prompt, s.tokens, s.predicted, 2.0) for s in mixed_sequences()]
    batch, hot_batch = pack(mixed_sequences(), ONE_ROW)[0], pack(hot, ONE_ROW)[0]
    assert_close(policy.logprobs(hot_batch), hot_by_hand(policy, batch), rtol=0, atol=1e-5)


def hot_by_hand(policy: Policy, batch: Batch) -> Tensor:
    """The batch's log-probs at temperature 2."""
    hidden = policy.hidden(batch.token_ids, batch.position_ids, PackedAttention(batch.layout))
    logits = policy.head.logits(hidden[batch.sources]) / 2
    return logits.log_softmax(-1).gather(1, batch.targets[:, None])[:, 0]


# ------------------------------------------------------------------------------------------------------------- gradients


@pytest.fixture(scope="module")
def weights() -> Tensor:
    total = sum(s.n_predicted for s in mixed_sequences())
    return torch.randn(total, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def separate(policy, weights) -> dict[str, Tensor]:
    """The sum of the gradients of every sequence computed alone, its prompt too."""
    sequences, start, total = mixed_sequences(), 0, {}
    for s in sequences:
        part = gradients(policy, [s], weights[start : start + s.n_predicted], ONE_ROW)
        total = {name: total.get(name, 0) + g for name, g in part.items()}
        start += s.n_predicted
    return total


def test_the_gradient_of_a_packed_row_is_the_sum_of_the_separate_ones(policy, weights, separate):
    assert relative_error(gradients(policy, mixed_sequences(), weights, ONE_ROW), separate) < 1e-6


def test_a_shared_prompt_has_the_gradient_of_separate_copies(policy):
    group = [sequence(text(20, 1), text(n, n)) for n in (4, 18, 9)]
    shared = gradients(policy, group, torch.ones(31), ONE_ROW)
    copies = [gradients(policy, [s], torch.ones(s.n_predicted), ONE_ROW) for s in group]
    assert relative_error(shared, {name: sum(c[name] for c in copies) for name in shared}) < 1e-6


@settings(max_examples=10)
@given(st.integers(1, 260))
def test_any_cut_into_batches_gives_the_same_gradient(policy, weights, separate, max_tokens):
    assert relative_error(gradients(policy, mixed_sequences(), weights, max_tokens), separate) < 1e-6


def test_any_cut_into_batches_gives_the_same_step(weights):
    stepped = []
    for max_tokens in (50, 90, ONE_ROW):
        policy = load_policy("tiny", "float32")
        optimizer = Optimizer(policy.parameters(), AdamWConfig(learning_rate=1e-3, eps=1e-3))
        for batch in pack(mixed_sequences(), max_tokens):
            (policy.logprobs(batch) * weights[batch.index]).sum().backward()
        optimizer.step()
        stepped.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
    for other in stepped[1:]:
        assert_close(other, stepped[0], rtol=0, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------- rollouts


def rollout(*turns: tuple[Sequence[int], Sequence[int]], temperatures: Sequence[float] = ()) -> Rollout:
    """An attempt of these (prompt, completion) turns."""
    heat = temperatures or [1.0] * len(turns)
    completions = tuple(
        Completion(tuple(p), tuple(c), (-1.0,) * len(c), "stop", Sampling(temperature=t)) for (p, c), t in zip(turns, heat, strict=True)
    )
    return Rollout(Problem("p", (), ""), (), completions)


def test_one_turn_is_one_sequence():
    assert rollout_sequences(rollout(([1, 2], [3, 4]))) == [sequence([1, 2], [3, 4], "xx")]


def test_a_growing_conversation_is_one_sequence_in_which_what_was_read_is_not_predicted():
    turns = rollout(([1, 2], [3, 4]), ([1, 2, 3, 4, 5, 6], [7]), ([1, 2, 3, 4, 5, 6, 7], [8, 9]))
    assert rollout_sequences(turns) == [sequence([1, 2], [3, 4, 5, 6, 7, 8, 9], "xx..xxx")]


@pytest.mark.parametrize("second", [[1, 2, 3, 5, 6], [1, 2, 3], [9, 2, 3, 4, 5], [1, 2]])
def test_a_rewritten_history_begins_a_new_sequence(second):
    assert rollout_sequences(rollout(([1, 2], [3, 4]), (second, [7]))) == [sequence([1, 2], [3, 4], "xx"), sequence(second, [7], "x")]


def test_a_conversation_goes_on_from_its_last_stretch():
    turns = rollout(([1], [2]), ([9], [8]), ([9, 8, 7], [6]))
    assert rollout_sequences(turns) == [sequence([1], [2], "x"), sequence([9], [8, 7, 6], "x.x")]


def test_another_temperature_begins_a_new_sequence():
    first, second = rollout_sequences(rollout(([1], [2]), ([1, 2, 3], [4]), temperatures=[1.0, 0.5]))
    assert (first.temperature, second.temperature) == (1.0, 0.5)
    assert second.prompt == (1, 2, 3) and second.predicted == (True,)


def test_an_attempt_that_was_not_sampled_has_no_sequences():
    assert rollout_sequences(rollout()) == []


@given(st.lists(st.tuples(tokens_st, st.lists(st.integers(0, 9), min_size=1, max_size=5)), min_size=1, max_size=5))
def test_every_sampled_token_is_predicted_once_in_order(turns):
    history: list[int] = [0]
    grown = []
    for read, written in turns:
        history = history + read
        grown.append((list(history), written))
        history = history + written
    (merged,) = rollout_sequences(rollout(*grown))
    assert [t for t, mark in zip(merged.tokens, merged.predicted, strict=True) if mark] == [t for _, w in turns for t in w]
    assert list(merged.prompt + merged.tokens) == history


def test_turns_packed_as_one_sequence_score_as_they_would_turn_by_turn(policy):
    a, b, c, d = text(9, 1), text(6, 2), text(4, 3), text(7, 4)
    merged = rollout_sequences(rollout((a, b), (a + b + c, d)))
    whole = policy.score(merged)[0]
    apart = policy.score([sequence(a, b), sequence(a + b + c, d)])[0]
    assert_close(whole, apart, rtol=0, atol=1e-5)
