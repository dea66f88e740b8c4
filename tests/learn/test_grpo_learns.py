"""A random tiny model learns to say a letter by GRPO, and does not learn it from rewards that know nothing of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from posttrain.algorithms.grpo import Config, Learner, step
from posttrain.policy.optim import AdamWConfig
from posttrain.seeds import fold
from posttrain.types import Rollout, Score
from tests.algorithms.toy import learner
from tests.learn.letters import SayTheLetter, expected_reward

STEPS = 100
CONFIG = Config(
    problems_per_step=8, group_size=32, max_tokens=1, entropy_coef=0.1, tokens_per_batch=8192, dtype="float32", seed=0,
    optim=AdamWConfig(learning_rate=3e-3),
)  # fmt: skip


@dataclass(frozen=True)
class ShuffledLetters(SayTheLetter):
    """Every attempt is judged by the letter of a problem drawn at random: as many rewards, for the wrong reasons."""

    async def score(self, rollout: Rollout) -> Score:
        letter = self.letters[_draw(rollout) % len(self.letters)]
        return Score(float(rollout.text == letter))


@dataclass(frozen=True)
class CoinTosses(SayTheLetter):
    """Every second attempt is rewarded, whatever it says."""

    async def score(self, rollout: Rollout) -> Score:
        return Score(float(_draw(rollout) % 2))


def _draw(rollout: Rollout) -> int:
    """A number that has nothing to do with what was said."""
    return fold(rollout.completions[0].sampling.seed, "shuffle", rollout.sample)


def trained(task: SayTheLetter, steps: int = STEPS) -> Learner:
    made = learner(CONFIG, task)
    for _ in range(steps):
        asyncio.run(step(made))
    return made


def test_a_tiny_model_learns_to_say_the_letter_that_is_asked_for() -> None:
    assert expected_reward(learner(CONFIG).trained.policy) < 0.02
    made = trained(SayTheLetter())
    assert expected_reward(made.trained.policy) > 0.9
    assert made.trained.optimizer.n_skipped == 0


def test_from_shuffled_rewards_it_learns_which_letters_pay_and_not_which_is_asked_for() -> None:
    assert expected_reward(trained(ShuffledLetters()).trained.policy) < 0.4


def test_from_coin_tosses_it_learns_nothing() -> None:
    assert expected_reward(trained(CoinTosses(), STEPS // 4).trained.policy) < 0.1
