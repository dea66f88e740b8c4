"""A PPO step: what a round teaches under each policy for cut answers, and gradients by hand and under any split."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from posttrain.algorithms.ppo import Config, Experience, Learner, answers, descend, experience
from posttrain.batching import Batch, TokenSequence
from posttrain.policy.hf import Policy
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.policy.scalar import ScalarModel, load_scalar
from posttrain.returns import gae, whiten
from posttrain.training.critic import ActorCritic, Critic, OwnCritic, SharedCritic
from posttrain.training.reference import Reference
from posttrain.training.rounds import Round
from posttrain.types import Completion, Message, Problem, Rollout, Sampling, Score
from tests.algorithms.dense import DenseReading
from tests.algorithms.gradient import CLOSE, LENGTHS
from tests.algorithms.toy import difference, gradients, made_round, tiny

NAN = math.nan
VALUES = ((1.0, 0.0, 0.0, 0.5), (1.0, NAN, 1.0, 0.0), (1.0, 1.0, 1.0, 1.0), (0.0, 0.25, 0.0, 0.0))
ROW_TOKENS = (1, 60, 128, 250)
PLAIN = Config(kl_coef=0.0, gamma=0.9, gae_lambda=0.8, whiten_advantages=False, tokens_per_batch=10_000)


class Says:
    """A critic that gives these values, token after token."""

    optimizer: Optimizer

    def __init__(self, before: Sequence[float], behind: Sequence[float] = ()) -> None:
        self.before, self.behind = before, behind

    def values(self, batch: Batch, states: Tensor) -> Tensor:
        return torch.tensor(self.before)[batch.index]

    def score(self, sequences: Sequence[TokenSequence], before: bool = True) -> Tensor:
        found = torch.tensor(self.before if before else self.behind)
        assert len(found) == sum(s.n_predicted for s in sequences)
        return found

    def save(self, folder) -> None: ...


def learned_from(round: Round, critic: Critic, config: Config = PLAIN, reference: Reference | None = None) -> Experience:
    return experience(answers(round, config), critic, reference, config.kl_coef, config)


def two_answers(values: tuple[float, float] = (1.0, 0.5), truncated: tuple[tuple[int, int], ...] = ((0, 1),)) -> Round:
    return made_round(tiny(), ((2, 3),), (values,), truncated=truncated)


# ----------------------------------------------------------------------------------------------------- what a round teaches


@pytest.mark.parametrize(("policy", "scores", "cut_off"), [("score", [1.0, 0.5], False), ("penalty", [1.0, -2.0], False), ("bootstrap", [1.0, 0.0], True)])
def test_a_cut_answer_is_known_by_its_outcome_and_treated_as_configured(policy: str, scores: list[float], cut_off: bool) -> None:
    """Neither answer ends in an end-of-turn token; only one ran out of tokens."""
    penalty = {"missing_end_score": -2.0} if policy == "penalty" else {}
    found = answers(two_answers(), replace(PLAIN, truncated=policy, **penalty))
    assert [a.score for a in found] == scores
    assert [a.cut_off for a in found] == [False, cut_off]


def test_what_could_not_be_scored_teaches_nothing() -> None:
    assert [a.length for a in answers(two_answers((NAN, 0.5)), PLAIN)] == [3]


def test_the_score_is_paid_at_the_last_token_and_nothing_is_behind_an_end() -> None:
    data = learned_from(two_answers(truncated=()), Says([0.0] * 5))
    assert data.returns.tolist() == pytest.approx([0.8 * 0.9, 1.0, 0.5 * 0.72**2, 0.5 * 0.72, 0.5])


def test_behind_a_cut_stands_the_critics_own_value() -> None:
    data = learned_from(two_answers(), Says([0.0] * 5, behind=[2.0]), replace(PLAIN, truncated="bootstrap"))
    assert data.advantages.tolist() == pytest.approx([0.72, 1.0, 1.8 * 0.72**2, 1.8 * 0.72, 1.8])


def with_a_tool_between() -> Round:
    """One answer of two turns, of 2 and 3 tokens; what the tool said, 4 tokens, stands between."""
    problem, first, second = Problem("p", (Message("user", "?"),), ""), (10, 11), (12, 13, 14)
    prompt, between = (1, 2, 3), (20, 21, 22, 23)
    turns = (
        Completion(prompt, first, (-1.0, -2.0), "stop", Sampling(), 0),
        Completion(prompt + first + between, second, (-3.0, -4.0, -5.0), "stop", Sampling(), 0),
    )
    return Round([problem], [[Rollout(problem, (), turns)]], [[Score(1.0)]])


def test_what_a_tool_said_is_no_action_and_advantages_are_carried_over_it() -> None:
    values = [0.1, -0.2, 0.5, 0.4, -0.3]
    data = learned_from(with_a_tool_between(), Says(values))
    assert data.old_logprobs.tolist() == [-1, -2, -3, -4, -5]
    by_hand = gae(torch.tensor([0.0, 0, 0, 0, 1]), torch.tensor(values), [5], 0.9, 0.8)
    assert torch.equal(data.advantages, by_hand) and by_hand[1] != 0
    (answer,) = data.answers
    assert answer.sequences[0].predicted == (True,) * 2 + (False,) * 4 + (True,) * 3


def test_advantages_are_whitened_once_over_the_step_and_returns_are_not() -> None:
    plain, white = (learned_from(two_answers(), Says([0.1] * 5), replace(PLAIN, whiten_advantages=on)) for on in (False, True))
    torch.testing.assert_close(white.advantages, whiten(plain.advantages))
    assert (white.advantages.mean().item(), white.advantages.var(correction=0).item()) == pytest.approx((0, 1), abs=1e-5)
    assert torch.equal(white.returns, plain.returns)


def test_the_kl_is_paid_at_each_token_and_reported_for_whole_answers() -> None:
    policy = tiny()
    reference = Reference(policy.frozen_copy(), False)
    config = replace(PLAIN, kl_coef=0.5, gamma=1.0, gae_lambda=1.0)
    round = made_round(policy, ((2, 3),), ((1.0, 0.5),), drift=0.3, temperature=1.0)
    data = learned_from(round, Says([0.0] * 5), config, reference)
    sampled = torch.tensor([x for r in round.rollouts for x in r.completions[0].sampling_logprobs])
    gaps = sampled - policy.score([s for a in data.answers for s in a.sequences])[0]
    torch.testing.assert_close(data.ref_gaps, gaps, atol=1e-5, rtol=0)
    assert data.returns[[0, 2]].tolist() == pytest.approx([1 - 0.5 * gaps[:2].sum().item(), 0.5 - 0.5 * gaps[2:].sum().item()], abs=1e-4)
    assert data.kl_nats == pytest.approx(gaps.sum().item() / 2, abs=1e-4)


# ------------------------------------------------------------------------------------------------------------- gradients


@cache
def setting() -> tuple[Policy, ScalarModel, Round]:
    """A policy, a critic, and a round that another policy might have sampled."""
    policy = tiny()
    torch.manual_seed(1)
    return policy, load_scalar("tiny", "float32"), made_round(policy, LENGTHS, VALUES)


def critic_of(kind: str) -> Critic:
    policy, model, _ = setting()
    still = AdamWConfig(learning_rate=0.0)
    if kind == "own":
        return OwnCritic(model, Optimizer(model.parameters(), still))
    head = SharedCritic.new_head(policy)
    with torch.no_grad():
        head.weight.copy_(0.3 * torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(2)))
    return SharedCritic(policy, head, Optimizer(list(head.parameters()), still))


@cache
def old_values(n: int) -> tuple[float, ...]:
    return tuple((0.3 * torch.randn(n, generator=torch.Generator().manual_seed(4))).tolist())


def descended(config: Config, chosen: Sequence[int] | None = None) -> tuple[list[Tensor], list[Tensor], dict[str, float], Experience]:
    """Gradients of the policy and of an own critic, and what was seen. The old values are such that the value clip acts."""
    policy, model, round = setting()
    critic = critic_of(config.critic)
    found = answers(round, config)
    data = experience(found, Says(old_values(sum(a.length for a in found))), None, 0.0, config)
    learner = Learner(ActorCritic(policy, Optimizer(policy.parameters(), AdamWConfig(learning_rate=0.0)), critic=critic), None, None, [], None, config)  # type: ignore[arg-type]
    with gradients(policy) as ours, gradients(model) as theirs:
        metrics = descend(learner, data, range(len(found)) if chosen is None else chosen)
    return ours, theirs, metrics, data


def loss_by_hand(logprobs: Sequence[Tensor], data: Experience, clip: float) -> Tensor:
    """PPO's, token by token, over all tokens of the step."""
    flat, total = torch.cat(list(logprobs)), torch.zeros((), dtype=torch.float64)
    for new, old, advantage in zip(flat, data.old_logprobs.double(), data.advantages.double(), strict=True):
        ratio = (new - old).exp()
        total = total - torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return total / len(flat)


def scored_logprobs() -> tuple[DenseReading, list[Tensor]]:
    """Of the attempts that have a score."""
    policy, _, round = setting()
    reading = DenseReading.of(round, policy)
    kept = [not math.isnan(v) for row in VALUES for v in row]
    return reading, [x for x, keep in zip(reading.logprobs, kept, strict=True) if keep]


def test_the_policys_gradient_is_that_of_the_formula_written_out() -> None:
    ours, _, metrics, data = descended(replace(PLAIN, whiten_advantages=True))
    reading, logprobs = scored_logprobs()
    assert difference(ours, reading.gradient(loss_by_hand(logprobs, data, 0.2))) < CLOSE
    assert difference(reading.gradient(loss_by_hand(logprobs, data, 1e9)), ours) > 0.01, "the clip acts"
    assert metrics["policy/clip_low_frac"] > 0 and metrics["policy/clip_high_frac"] > 0


def test_the_critics_gradient_is_that_of_the_formula_on_answers_read_alone() -> None:
    """Read by transformers' own classifier, in float64."""
    _, theirs, metrics, data = descended(PLAIN)
    base = setting()[1].base
    model = AutoModelForSequenceClassification.from_config(copy.deepcopy(base.config), attn_implementation="eager").double()
    model.load_state_dict(base.state_dict())
    model.model.embed_tokens.padding_idx = None  # the product trains that row like any other
    spans = [torch.arange(n) + start for n, start in zip(data.lengths, torch.tensor([0, *data.lengths]).cumsum(0).tolist(), strict=False)]
    total = torch.zeros((), dtype=torch.float64)
    for answer, span in zip(data.answers, spans, strict=True):
        (sequence,) = answer.sequences
        hidden = model.model(input_ids=torch.tensor([sequence.prompt + sequence.tokens]), use_cache=False).last_hidden_state[0]
        values = model.score(hidden[len(sequence.prompt) - 1 : -1])[:, 0]
        old, returns = data.old_values[span].double(), data.returns[span].double()
        kept = torch.min(torch.max(values, old - PLAIN.value_clip), old + PLAIN.value_clip)
        total = total + torch.max((values - returns) ** 2, (kept - returns) ** 2).sum() / 2
    by_hand = torch.autograd.grad(total / sum(data.lengths), list(model.parameters()))
    assert difference(theirs, by_hand) < CLOSE
    assert metrics["value/loss"] == pytest.approx(total.item() / sum(data.lengths), rel=1e-4)


def test_the_order_in_which_answers_are_dealt_does_not_change_the_gradient() -> None:
    whole, value_whole, metrics, data = descended(PLAIN)
    dealt = torch.randperm(len(data.answers), generator=torch.Generator().manual_seed(0)).tolist()
    ours, theirs, dealt_metrics, _ = descended(replace(PLAIN, tokens_per_batch=128), dealt)
    assert difference(ours, whole) < CLOSE and difference(theirs, value_whole) < CLOSE
    assert dealt_metrics == pytest.approx(metrics, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("critic", ["own", "shared"])
def test_any_split_into_rows_gives_the_same_gradient(critic: str) -> None:
    config = replace(PLAIN, critic=critic, **({"value_coef": 0.5} if critic == "shared" else {}))
    whole, value_whole, metrics, _ = descended(config)
    for tokens in ROW_TOKENS:
        cut, value_cut, cut_metrics, _ = descended(replace(config, tokens_per_batch=tokens))
        assert difference(cut, whole) < CLOSE
        assert cut_metrics == pytest.approx(metrics, rel=1e-3, abs=1e-5)
        if critic == "own":
            assert difference(value_cut, value_whole) < CLOSE


def test_a_shared_critics_loss_trains_the_trunk_by_its_coefficient() -> None:
    off, half, whole = (descended(replace(PLAIN, critic="shared", value_coef=c))[0] for c in (0.0, 0.5, 1.0))
    assert difference(off, descended(PLAIN)[0]) < CLOSE
    assert difference([2 * h - o for h, o in zip(half, off, strict=True)], whole) < CLOSE
    assert difference(half, off) > 0.01


def test_the_updates_of_an_epoch_share_out_the_answers_and_each_means_over_its_own_tokens() -> None:
    (whole, *_, data), (even, *_), (odd, *_) = descended(PLAIN), descended(PLAIN, range(0, 15, 2)), descended(PLAIN, range(1, 15, 2))
    n = [sum(data.lengths[start::2]) for start in (0, 1)]
    together = [(a * n[0] + b * n[1]) / sum(n) for a, b in zip(even, odd, strict=True)]
    assert difference(together, whole) < CLOSE


# ---------------------------------------------------------------------------------------------------------- first ratio


def test_the_ratio_is_1_in_the_first_update_of_the_first_epoch_and_not_in_the_second() -> None:
    torch.manual_seed(1)
    policy, model = tiny(), load_scalar("tiny", "float32")
    round = made_round(policy, LENGTHS, VALUES, drift=0.0)
    critic = OwnCritic(model, Optimizer(model.parameters(), AdamWConfig(learning_rate=1e-3)))
    trained = ActorCritic(policy, Optimizer(policy.parameters(), AdamWConfig(learning_rate=1e-2)), critic=critic)
    config = replace(PLAIN, tokens_per_batch=128)
    learner = Learner(trained, None, None, [], None, config)  # type: ignore[arg-type]
    data = learned_from(round, critic, config)
    first, second = (descend(learner, data, range(len(data.answers))) for _ in range(2))
    assert first["sampling/mismatch_nats_max"] < 1e-4
    assert first["policy/clip_low_frac"] == first["policy/clip_high_frac"] == 0
    assert second["sampling/mismatch_nats_max"] > 0.05 and second["policy/clip_low_frac"] + second["policy/clip_high_frac"] > 0
    assert policy.version == 2
