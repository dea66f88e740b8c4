"""Critics: what a state is worth, what an action earned beyond that, and what makes a critic learn it.

Positions are those of the product: a token's reward is that of the action, its value that of the state before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from posttrain.batching import Batch, TokenSequence, pack
from posttrain.losses.kl import k1
from posttrain.losses.policy import clipped_surrogate
from posttrain.losses.ratio import importance_ratio
from posttrain.losses.value import clipped_squared_error, explained_variance, squared_error
from posttrain.returns import AdaptiveKL, gae, token_rewards, whiten
from tests.exact.check import Check, gradient_check
from tests.exact.expectation import Groups, expected, expected_loss, given_state, gradient_error, minimise, slopes, to_go
from tests.exact.policies import EnumerablePolicy, SoftmaxBandit, stopping_tree, tree

LENGTHS = (3, 1, 0, 5, 2)
GAMMA = 0.9
CLIP = 0.2


def _flat(seed: int) -> Tensor:
    """A number for each token of answers of these lengths."""
    return torch.randn(sum(LENGTHS), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _largest(x: Tensor) -> float:
    return x.abs().max().item()


# ------------------------------------------------------------------------------------------------------------ advantages


def _discounted(rewards: Sequence[float], last: float) -> list[float]:
    """The return from each position on: what follows it counts gamma less with every step."""
    return [sum(GAMMA ** (k - t) * x for k, x in enumerate([*rewards, last]) if k >= t) for t in range(len(rewards))]


def _by_answer(rewards: Tensor, values: Tensor, lasts: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Returns less values, and one-step errors, answer by answer."""
    whole, one_step = [], []
    for r, v, last in zip(rewards.split(list(LENGTHS)), values.split(list(LENGTHS)), lasts, strict=True):
        whole += [g - x for g, x in zip(_discounted(r.tolist(), last), v.tolist(), strict=True)]
        one_step += [a + GAMMA * after - x for a, x, after in zip(r.tolist(), v.tolist(), [*v.tolist(), last][1:], strict=True)]
    return torch.tensor(whole, dtype=torch.float64), torch.tensor(one_step, dtype=torch.float64)


def advantages_lie_between_the_return_and_one_step() -> Iterator[Check]:
    rewards, values = _flat(0), _flat(1)
    cut = torch.tensor([0.0, 0.7, 0.0, -1.3, 0.4], dtype=torch.float64)
    for words, last_values, lasts in (("ended", None, [0.0] * 5), ("cut off, worth V behind the cut", cut, cut.tolist())):
        whole, one_step = _by_answer(rewards, values, lasts)
        for name, lam, true in (("1 is the return less the value", 1.0, whole), ("0 is the one-step error", 0.0, one_step)):
            error = _largest(gae(rewards, values, LENGTHS, GAMMA, lam, last_values) - true)
            yield Check("20", f"GAE, lambda {name}, answers of 0 to 5 tokens, {words}: largest error", 0, error, 1e-12)


def _chain() -> tuple[Tensor, Tensor]:
    """Rewards of 8 certain tokens, and the exact value before each."""
    rewards = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return rewards, torch.tensor(_discounted(rewards.tolist(), 0.0), dtype=torch.float64)


def a_cut_is_not_an_end() -> Iterator[Check]:
    rewards, values = _chain()
    words = "8 certain tokens under a perfect critic, cut behind the third: largest advantage"
    behind = gae(rewards[:3], values[:3], [3], GAMMA, 0.95, values[3:4])
    yield Check("20", f"{words}, the value behind the cut taken for the rest", 0, _largest(behind), 1e-12)
    nothing = gae(rewards[:3], values[:3], [3], GAMMA, 0.95)
    yield Check("20", f"{words}, nothing taken for it: gamma times that value", GAMMA * values[3].abs().item(), _largest(nothing), 1e-12)


def _walked(rewards: Sequence[float], values: Sequence[float], predicted: Sequence[bool], lam: float, skip: bool) -> list[float]:
    """GAE of one answer over all its tokens from the last to the first; what was not predicted is skipped, or zeroed as an action."""
    found, carried, following = [], 0.0, 0.0
    for r, v, mark in reversed(list(zip(rewards, values, predicted, strict=True))):
        if mark:
            carried = r + GAMMA * following - v + GAMMA * lam * carried
            found.append(carried)
        elif skip:
            continue
        else:
            carried = 0.0
        following = v
    return found[::-1]


def what_a_tool_said_is_skipped_and_not_zeroed() -> Iterator[Check]:
    predicted = [True, True, False, False, False, True, True]
    rewards, values = [0.0, 0.1, 0.0, 0.0, 0.0, -0.2, 1.0], [0.3, -0.5, 0.9, 0.2, -0.4, 0.6, 0.1]
    mine = torch.tensor(predicted)
    flat = [torch.tensor(x, dtype=torch.float64)[mine] for x in (rewards, values)]
    measured = gae(*flat, [4], GAMMA, 0.95)
    skipped, zeroed = (torch.tensor(_walked(rewards, values, predicted, 0.95, skip), dtype=torch.float64) for skip in (True, False))
    words = "GAE over an answer with 3 tokens of a tool in it"
    yield Check("20", f"{words}: largest error against a walk over all tokens that passes over them", 0, _largest(measured - skipped), 1e-12)
    yield Check("20", f"{words}: largest difference where they are zeroed and nothing is carried over them", 0.1, _largest(measured - zeroed), relation=">")


def with_exact_values_any_lambda_climbs_the_expected_reward() -> Iterator[Check]:
    for name, policy in (("tree", tree(0)), ("stopping tree", stopping_tree(0))):
        rewards_S = torch.randn(len(policy.sequences), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        true, logprobs_n = slopes(expected(policy, rewards_S), policy), policy.logprobs().detach()
        rewards_n = token_rewards(rewards_S, torch.zeros_like(logprobs_n), policy.lengths.tolist(), 0.0)
        values_n = given_state(policy, to_go(policy, rewards_n), policy.per_sequence(logprobs_n).exp())
        for lam in (0.0, 0.95, 1.0):
            advantages_n = gae(rewards_n, values_n, policy.lengths.tolist(), 1.0, lam)
            error = gradient_error(-expected_loss(policy, rewards_S, loss=with_advantages(advantages_n)), true, policy)
            yield gradient_check("20", f"PPO with exact values, lambda {lam:g}, before its first step climbs E[r]", name, error)


def with_advantages(advantages_n: Tensor):
    """PPO's loss with an advantage of its own for each token."""

    def loss(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
        return clipped_surrogate(logprobs_N, old_N, advantages_n[groups.token_N], CLIP, CLIP)

    return loss


# --------------------------------------------------------------------------------------------------------------- rewards


def a_score_stands_at_the_last_token_and_the_kl_at_each() -> Iterator[Check]:
    scores, gaps, kl_coef = torch.tensor([1.0, -2.0, 9.0, 0.5, 3.0], dtype=torch.float64), _flat(0), 0.1
    alone = token_rewards(scores, torch.zeros_like(gaps), LENGTHS, kl_coef)
    true = torch.zeros_like(gaps)
    true[[2, 3, 8, 10]] = scores[[0, 1, 3, 4]]
    yield Check("22", "scores of answers of 3, 1, 0, 5 and 2 tokens, each at its answer's last token: largest error", 0, _largest(alone - true))
    rewards = token_rewards(scores, gaps, LENGTHS, kl_coef)
    sums = [part.sum().item() - (score - kl_coef * gap.sum()).item() for part, gap, score in zip(rewards.split(list(LENGTHS)), gaps.split(list(LENGTHS)), scores, strict=True) if len(part)]
    yield Check("22", "rewards of an answer's tokens against its score less the coefficient times its k1: largest error", 0, max(map(abs, sums)), 1e-12)


def the_expected_return_is_the_score_less_the_kl_of_answers() -> Iterator[Check]:
    policy, ref_n = stopping_tree(0), stopping_tree(1).logprobs().detach()
    logprobs_n, chance_S = policy.logprobs().detach(), policy.probabilities().detach()
    scores_S = torch.randn(len(chance_S), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rewards_n = token_rewards(scores_S, k1(logprobs_n, ref_n), policy.lengths.tolist(), 0.5)
    start = given_state(policy, to_go(policy, rewards_n), chance_S)[0].item()
    kl = (chance_S @ (chance_S.log() - policy.per_sequence(ref_n))).item()
    yield Check("22", "value of the prompt under token rewards is E[score] - coefficient KL(policy, ref), stopping tree", (chance_S @ scores_S).item() - 0.5 * kl, start, 1e-12)


def the_adaptive_coefficient_follows_its_formula() -> Iterator[Check]:
    start = AdaptiveKL(0.2, target_nats=6.0, horizon=10_000)
    words = "adaptive KL coefficient of .2, target 6 nats, 256 answers, horizon 10,000, after a KL of"
    for kl, error in ((6.0, 0.0), (6.6, 0.1), (5.4, -0.1), (60.0, 0.2), (0.0, -0.2)):
        yield Check("22", f"{words} {kl:g}", 0.2 * (1 + error * 256 / 10_000), start.update(kl, 256).coef, 1e-12)
    at_the_bound = start
    for _ in range(1000):
        at_the_bound = at_the_bound.update(60.0, 10)
    yield Check("22", "the same after a horizon of answers with the error at its bound, over what it was: e^.2", math.exp(0.2), at_the_bound.coef / 0.2, 1e-3)


# ------------------------------------------------------------------------------------------------------------- whitening


def whitening_once_is_not_whitening_each_part() -> Iterator[Check]:
    x = _flat(0) + 2
    white = whiten(x)
    yield Check("20", "whitened advantages of a step: mean", 0, white.mean().item(), 1e-12)
    yield Check("20", "whitened advantages of a step: variance", 1, white.var(correction=0).item(), 1e-6)
    yield Check("20", "whitened with the mean kept: change of the mean", 0, (whiten(x, keep_mean=True).mean() - x.mean()).item(), 1e-12)
    each = torch.cat([whiten(part) for part in x.split([5, 6])])
    yield Check("20", "whitened in two parts instead of once: largest change of an advantage", 0.1, _largest(each - white), relation=">")
    yield Check("20", "advantages that are all equal, whitened: largest", 0, _largest(whiten(torch.full((4,), 0.3, dtype=torch.float64))), 1e-10)


# --------------------------------------------------------------------------------------------------------------- critics


def a_clipped_value_loss_is_the_larger_of_two() -> Iterator[Check]:
    value, old, target = (x.flatten() for x in torch.meshgrid(*[torch.linspace(-1, 1, 21, dtype=torch.float64)] * 3, indexing="ij"))
    value = value.requires_grad_()
    loss = clipped_squared_error(value, old, target, CLIP)
    slope = torch.autograd.grad(loss.sum(), value)[0].numpy()
    v, o, r = value.detach().numpy(), old.numpy(), target.numpy()
    larger = np.maximum((v - r) ** 2, (np.clip(v, o - CLIP, o + CLIP) - r) ** 2) / 2
    words = f"clipped value loss, {len(v):,} points"
    yield Check("21", f"{words}: largest error against the larger of the two squares", 0, float(np.abs(loss.detach().numpy() - larger).max()), 1e-12)
    gone_far = (np.abs(v - o) > CLIP + 1e-9) & (np.sign(r - o) == np.sign(v - o)) & (np.abs(v - r) < np.abs(np.clip(v, o - CLIP, o + CLIP) - r) - 1e-9)
    yield Check("21", f"{words}: largest slope where a value has moved far enough towards its return", 0, float(np.abs(slope[gone_far]).max()))
    back = (np.abs(v - o) > CLIP + 1e-9) & (np.abs(v - r) > np.abs(np.clip(v, o - CLIP, o + CLIP) - r) + 1e-9)
    yield Check("21", f"{words}: largest error of the slope, v - r, where moving back would better it", 0, float(np.abs(slope[back] - (v - r)[back]).max()), 1e-12)
    unclipped = clipped_squared_error(value, old, target, math.inf) - squared_error(value, target)
    yield Check("21", f"{words}: largest difference from half the square with the clip at infinity", 0, _largest(unclipped), 1e-12)


class TableCritic:
    """One number for each state of an enumerable policy, read where the product reads a critic: at a row's tokens.

    What a causal model knows at a token is the text up to it; here each such text has a parameter of its own.
    """

    def __init__(self, policy: EnumerablePolicy) -> None:
        self.sequences = [TokenSequence((9,), sequence) for sequence in policy.sequences]
        (self.batch,) = pack(self.sequences, 10_000)
        self.text_T = self._texts(self.batch)
        self.values_X = torch.zeros(int(self.text_T.max()) + 1, dtype=torch.float64, requires_grad=True)

    def _texts(self, batch: Batch) -> Tensor:
        """Which text each token of the row ends: the prompt, or a prefix of a completion."""
        number: dict[tuple[int, ...], int] = {(): 0}
        found = [0]
        for sequence in self.sequences:
            found += [number.setdefault(sequence.tokens[: t + 1], len(number)) for t in range(len(sequence.tokens))]
        assert batch.n_tokens == len(found)
        return torch.tensor(found)

    def read(self, at: Tensor) -> Tensor:
        """The values at these tokens of the row: `sources` or `places`."""
        return self.values_X[self.text_T[at]]


def a_critic_learns_the_value_of_the_state_before_the_action() -> Iterator[Check]:
    for name, policy in (("tree", tree(0)), ("stopping tree", stopping_tree(0))):
        scores_S = torch.randn(len(policy.sequences), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        chance_S = policy.probabilities().detach()
        rewards_n = token_rewards(scores_S, torch.zeros(len(policy.tokens), dtype=torch.float64), policy.lengths.tolist(), 0.0)
        returns_n = gae(rewards_n, torch.zeros_like(rewards_n), policy.lengths.tolist(), 1.0, 1.0)
        true_n = given_state(policy, scores_S[policy.sequence_ids], chance_S)
        learned = {}
        for place in ("sources", "places"):
            critic = TableCritic(policy)
            at = getattr(critic.batch, place)
            minimise(lambda critic=critic, at=at: chance_S[policy.sequence_ids] @ squared_error(critic.read(at), returns_n), [critic.values_X])
            learned[place] = critic.read(at).detach()
        words = f"score at the last token, {name}: the critic's"
        yield Check("21", f"{words} value, read before the token, against E[score] given what stands before it: largest error", 0, _largest(learned["sources"] - true_n), 1e-6)
        last_n = policy.lengths.cumsum(0) - 1
        blind = gae(rewards_n, learned["places"], policy.lengths.tolist(), 1.0, 1.0)[last_n]
        seen = gae(rewards_n, learned["sources"], policy.lengths.tolist(), 1.0, 1.0)[last_n]
        yield Check("21", f"{words} value read at the token itself: largest advantage of a last token, of which nothing is left", 0, _largest(blind), 1e-6)
        yield Check("21", f"{words} value read before the token: largest advantage of a last token", 0.5, _largest(seen), relation=">")


def a_perfect_critic_explains_what_can_be_known() -> Iterator[Check]:
    policy = tree(0)
    scores_S = torch.randn(len(policy.sequences), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    uniform_S = torch.full_like(scores_S, 1 / len(scores_S))
    returns_n = scores_S[policy.sequence_ids]
    known_n = given_state(policy, returns_n, uniform_S)
    of_first, total = known_n[1::2].var(correction=0).item(), scores_S.var(correction=0).item()
    words = "explained variance of returns, tree with all answers as likely"
    yield Check("21", f"{words}: exact values, half the share that the first token decides", of_first / total / 2, explained_variance(known_n, returns_n), 1e-12)
    yield Check("21", f"{words}: a constant", 0, explained_variance(torch.full_like(returns_n, 0.7), returns_n), 1e-12)
    yield Check("21", f"{words}: the returns themselves", 1, explained_variance(returns_n, returns_n), 1e-12)


# ------------------------------------------------------------------------------------------------------ first minibatch


def the_first_ratio_is_one() -> Iterator[Check]:
    policy = stopping_tree(0)
    old_n = policy.logprobs().detach()
    yield Check("23", "ratios before the first update, stopping tree: largest distance from 1", 0, _largest(importance_ratio(policy.logprobs(), old_n) - 1))
    moved = SoftmaxBandit([0.0, 0.5]).logprobs() - SoftmaxBandit([0.0, 0.0]).logprobs()
    yield Check("23", "ratio of an arm whose logit has moved by half a nat from even odds", 2 / (1 + math.exp(-0.5)), importance_ratio(moved, torch.zeros_like(moved))[1].item(), 1e-12)


CHECKS = (
    advantages_lie_between_the_return_and_one_step,
    a_cut_is_not_an_end,
    what_a_tool_said_is_skipped_and_not_zeroed,
    with_exact_values_any_lambda_climbs_the_expected_reward,
    a_score_stands_at_the_last_token_and_the_kl_at_each,
    the_expected_return_is_the_score_less_the_kl_of_answers,
    the_adaptive_coefficient_follows_its_formula,
    whitening_once_is_not_whitening_each_part,
    a_clipped_value_loss_is_the_larger_of_two,
    a_critic_learns_the_value_of_the_state_before_the_action,
    a_perfect_critic_explains_what_can_be_known,
    the_first_ratio_is_one,
)
