"""One step of GRPO from attempt to update, on the tiny model: what it changes, what it leaves alone, and what it reports."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from posttrain.advantages import group_mean
from posttrain.agents.scripted import ScriptedAgent
from posttrain.algorithms.grpo import ADVANTAGES, Config, Learner, ReferenceLogprobs, Tokens, descend, rewards, step
from posttrain.policy.optim import AdamWConfig
from posttrain.training.loop import StepResult
from posttrain.training.rounds import attempt
from posttrain.training.stream import Stream
from posttrain.types import Problem, Rollout, Sampling, Score, unscored
from tests.algorithms.toy import EvenBytes, difference, digest, gradients, learner, made_round, tiny

NAN = math.nan
ONE_ULP = 1e-6
"""Of an fp32 log-prob between 8 and 16 nats, which the least likely tokens of the random model have."""


def config(**changes: Any) -> Config:
    small = Config(
        problems_per_step=3, group_size=4, max_tokens=6, dtype="float32", optim=AdamWConfig(learning_rate=1e-3), reduction="token"
    )
    return replace(small, **changes)


def take(learner: Learner, n: int = 1) -> list[StepResult]:
    return [asyncio.run(step(learner)) for _ in range(n)]


def weights(learner: Learner) -> str:
    return digest(learner.trained.policy.model.parameters())


@dataclass(frozen=True)
class Judged(EvenBytes):
    """`EvenBytes` with another opinion of some problems and texts."""

    dead: frozenset[str] = frozenset()
    """Problems at which every attempt scores the same."""
    unsure_of: str = "\0"
    """The judge cannot judge an attempt that says this."""

    async def score(self, rollout: Rollout) -> Score:
        if self.unsure_of in rollout.text:
            return unscored("cannot be judged")
        return Score(0.25) if rollout.problem.id in self.dead else await super().score(rollout)


# ----------------------------------------------------------------------------------------------------------- the update


def test_a_step_moves_the_weights_and_the_same_step_moves_them_to_the_same_bits() -> None:
    once, again = learner(config()), learner(config())
    before = weights(once)
    (result,), (repeated,) = take(once), take(again)
    assert weights(once) == weights(again) != before
    assert result.metrics == repeated.metrics and result.rollouts == repeated.rollouts
    assert once.trained.policy.version == 1


def test_the_reward_grows_with_the_steps() -> None:
    rewards_by_step = [r.metrics["reward/mean"] for r in take(learner(config(optim=AdamWConfig(learning_rate=5e-3))), 12)]
    assert sum(rewards_by_step[-3:]) / 3 > sum(rewards_by_step[:3]) / 3 + 0.15


def test_no_signal_at_all_means_no_update_and_no_push_by_momentum() -> None:
    task = EvenBytes(6)
    alive = learner(config(problems_per_step=6), task)
    take(alive, 2)
    before, steps_taken = weights(alive), alive.trained.optimizer.n_steps
    silenced = replace(alive, task=Judged(6, dead=frozenset(p.id for p in task.problems("train"))))
    (result,) = take(silenced)
    assert weights(silenced) == before
    assert (silenced.trained.optimizer.n_steps, silenced.trained.policy.version) == (steps_taken, 2)
    assert result.metrics["groups/live_frac"] == 0
    assert not any(name in result.metrics for name in ("policy/grad_norm", "policy/entropy_nats"))


def test_an_update_whose_gradient_is_not_finite_is_skipped_and_counted() -> None:
    made = learner(config())
    round = made_round(made.trained.policy, [(2, 2)], [(1.0, 0.0)])
    tokens = Tokens.of(round, group_mean(round.values_PG), None, made.config)
    before = weights(made)
    descend(made.trained.policy, made.trained.optimizer, replace(tokens, advantages=tokens.advantages * NAN), made.config)
    assert weights(made) == before
    assert made.trained.optimizer.n_skipped == 1
    assert take(made)[0].metrics["policy/skipped_updates"] == 1
    assert weights(made) != before


# ------------------------------------------------------------------------------------------------------ updates and epochs


@pytest.mark.parametrize(("updates", "epochs"), [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_a_round_makes_updates_times_epochs_optimizer_steps(updates: int, epochs: int) -> None:
    made = learner(config(updates=updates, epochs=epochs))
    take(made)
    assert made.trained.optimizer.n_steps == made.trained.policy.version == updates * epochs


def test_updates_deal_the_rounds_problems_out_and_use_each_once() -> None:
    chosen = config(problems_per_step=5, updates=2)
    made, by_hand = learner(chosen), learner(chosen)
    take(made)
    stream = Stream(by_hand.problems, chosen.seed)
    round = asyncio.run(attempt(by_hand.agent, by_hand.task, *stream.take(5), chosen.group_size))
    for rows in ([0, 2, 4], [1, 3]):
        part = round.only(rows)
        tokens = Tokens.of(part, group_mean(part.values_PG), None, chosen)
        descend(by_hand.trained.policy, by_hand.trained.optimizer, tokens, chosen)
    assert weights(made) == weights(by_hand)


def test_more_epochs_move_the_ratio_away_from_1_and_only_later_epochs_clip() -> None:
    fast = AdamWConfig(learning_rate=1e-2, max_grad_norm=math.inf)
    (one,), (three,) = take(learner(config(optim=fast))), take(learner(config(optim=fast, epochs=3)))
    assert one.metrics["policy/clip_low_frac"] == one.metrics["policy/clip_high_frac"] == 0
    assert three.metrics["policy/clip_low_frac"] + three.metrics["policy/clip_high_frac"] > 0.01
    assert one.metrics["policy/kl_old_nats"] < 1e-6 < 1e-3 < three.metrics["policy/kl_old_nats"]


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_before_the_first_update_of_a_round_the_policy_is_the_sampler(temperature: float) -> None:
    results = take(learner(config(temperature=temperature, epochs=2)), 3)
    assert max(result.metrics["sampling/mismatch_nats_max"] for result in results) <= ONE_ULP


def test_another_temperature_in_training_would_be_noticed() -> None:
    made = learner(config(temperature=0.7))
    stream = Stream(made.problems, 0)
    round = asyncio.run(attempt(made.agent, made.task, *stream.take(2), 4))
    untold = [
        [replace(r, completions=tuple(replace(c, sampling=Sampling()) for c in r.completions)) for r in group] for group in round.rollouts_PG
    ]
    tokens = Tokens.of(replace(round, rollouts_PG=untold), group_mean(round.values_PG), None, made.config)
    assert descend(made.trained.policy, made.trained.optimizer, tokens, made.config)["sampling/mismatch_nats_max"] > 0.1


def test_in_the_first_update_all_ratio_losses_have_the_gradient_of_reinforce() -> None:
    made = learner(config())
    round = made_round(made.trained.policy, [(3, 5, 2), (4, 1, 6)], [(1.0, 0.0, 0.5), (0.0, 0.0, 1.0)], drift=0.0)

    def gradient(loss: str) -> list[torch.Tensor]:
        fresh = learner(config(loss=loss, reduction="sequence"))
        tokens = Tokens.of(round, group_mean(round.values_PG), None, fresh.config)
        with gradients(fresh.trained.policy) as found:
            descend(fresh.trained.policy, fresh.trained.optimizer, tokens, fresh.config)
        return found

    for loss in ("clipped", "cispo", "gspo"):
        assert difference(gradient(loss), gradient("reinforce")) < 1e-5, loss


# ------------------------------------------------------------------------------------------------------------ the reference


@pytest.mark.parametrize("kl_in", ["reward", "loss_k2", "loss_k3"])
def test_the_reference_does_not_drift_and_the_kl_to_it_starts_at_0_and_grows(kl_in: str) -> None:
    made = learner(config(kl_coef=0.01, kl_in=kl_in, optim=AdamWConfig(learning_rate=5e-3)))
    start = weights(made)
    frozen = made.reference.policy.model
    before = digest(frozen.state_dict().values())
    results = take(made, 4)
    assert digest(frozen.state_dict().values()) == before
    assert not any(p.requires_grad or p.grad is not None for p in frozen.parameters())
    assert weights(made) != start
    kl = [result.metrics["policy/kl_ref_nats"] for result in results]
    assert abs(kl[0]) < 1e-5 < 1e-2 < kl[-1]


@pytest.mark.parametrize("kl_in", ["reward", "loss_k2", "loss_k3"])
def test_with_an_adapter_the_reference_is_the_model_without_it_bit_for_bit(kl_in: str) -> None:
    made = learner(config(kl_coef=0.01, kl_in=kl_in, lora_rank=4, optim=AdamWConfig(learning_rate=2e-2)))
    policy, original = made.trained.policy, tiny()
    base = {name: value for name, value in policy.model.state_dict().items() if "lora_" not in name}
    before, adapter = digest(base.values()), weights(made)
    results = take(made, 3)
    assert made.reference.shares_weights
    assert digest(base.values()) == before and weights(made) != adapter
    assert abs(results[0].metrics["policy/kl_ref_nats"]) < 1e-5 < 1e-2 < results[-1].metrics["policy/kl_ref_nats"]

    round = made_round(original, [(4, 7)], [(1.0, 0.0)], drift=0.0)
    read = ReferenceLogprobs.of(round, made.reference).stretches_PG
    assert [tuple(parts[0].tolist()) for parts in read[0]] == [r.completions[0].sampling_logprobs for r in round.rollouts]


def test_with_an_adapter_and_with_all_weights_the_same_attempts_have_the_same_kl() -> None:
    round = made_round(tiny(), [(4, 7), (2, 5)], [(1.0, 0.0), (0.0, 1.0)], drift=0.3)
    full, low_rank = (learner(config(kl_coef=0.1, lora_rank=rank)) for rank in (0, 4))
    assert torch.equal(ReferenceLogprobs.of(round, full.reference).gap(round), ReferenceLogprobs.of(round, low_rank.reference).gap(round))


def test_a_kl_in_the_reward_holds_the_policy_back() -> None:
    def kl_after(coefficient: float) -> float:
        chosen = config(kl_coef=coefficient, kl_in="reward", optim=AdamWConfig(learning_rate=5e-3))
        return take(learner(chosen), 8)[-1].metrics["policy/kl_ref_nats"]

    assert kl_after(0.3) < 0.5 * kl_after(1e-9)


def test_no_kl_asks_no_reference() -> None:
    made = learner(config())
    assert made.reference is None
    assert ReferenceLogprobs.of(made_round(made.trained.policy, [(2, 2)], [(1.0, 0.0)]), made.reference) is None


# -------------------------------------------------------------------------------------------------- truncated and unscored


ATTEMPTS = ("answers, rightly", "never stops, though right", "answers, wrongly", "never stops, and is wrong")
VALUES = (1.0, 1.0, 0.0, 0.0)


def truncation_advantages(policy: str, advantage: str) -> dict[str, float]:
    """What four attempts at one problem, two of them cut off, are worth under a truncation policy."""
    round = made_round(tiny(), [(2, 6, 2, 6)], [VALUES], truncated=[(0, 1), (0, 3)])
    worth_PG = ADVANTAGES[advantage](rewards(round, None, config(truncated=policy)))
    return dict(zip(ATTEMPTS, worth_PG[0].tolist(), strict=True))


@pytest.mark.parametrize("advantage", list(ADVANTAGES))
@pytest.mark.parametrize("policy", ["score", "wrong", "mask"])
def test_never_stopping_never_beats_an_answer_that_is_as_right(policy: str, advantage: str) -> None:
    worth = truncation_advantages(policy, advantage)
    right, endless_right, wrong, endless_wrong = (worth[name] for name in ATTEMPTS)
    assert endless_right <= right
    assert right > 0 > wrong
    assert {
        "score": endless_right == right and endless_wrong == wrong,
        "wrong": endless_right == endless_wrong == wrong,
        "mask": endless_right == endless_wrong == 0,  # beats a wrong answer: the price of masking, as the setting says
    }[policy]


def chance_of_stopping(policy: str, n: int = 6) -> tuple[float, float]:
    """Of two right answers, before and after steps with them and with two attempts that never stop, one of them right."""
    made = learner(config(truncated=policy, loss="reinforce", optim=AdamWConfig(learning_rate=1e-2)))
    model = made.trained.policy
    stop = model.renderer.stop_token_ids[0]
    round = made_round(model, [(3, 3, 3, 3)], [(1.0, 1.0, 0.0, 1.0)], drift=0.0, truncated=[(0, 2), (0, 3)])
    answers = [replace(r.completions[0], token_ids=(*r.completions[0].token_ids[:2], stop)) for r in round.rollouts[:2]]
    group = [replace(r, completions=(c,)) for r, c in zip(round.rollouts, answers, strict=False)] + round.rollouts[2:]
    round = replace(round, rollouts_PG=[group])

    def chance() -> float:
        read = model.score_tokens([(c.prompt_token_ids, c.token_ids) for c in answers])
        return sum(math.exp(logprobs[-1]) for logprobs, _ in read) / len(read)

    before = chance()
    for _ in range(n):
        advantages_PG = group_mean(rewards(round, None, made.config))
        descend(model, made.trained.optimizer, Tokens.of(round, advantages_PG, None, made.config), made.config)
    return before, chance()


def test_a_policy_learns_to_stop_where_truncation_is_wrong_or_scored_and_does_not_where_it_is_masked() -> None:
    for policy in ("score", "wrong"):
        before, after = chance_of_stopping(policy)
        assert after > 2 * before, policy
    before, after = chance_of_stopping("mask")
    assert after == before


def test_unscored_rewards_are_in_no_mean() -> None:
    round = made_round(tiny(), [(2, 2, 2, 2)], [(1.0, NAN, 0.0, NAN)])
    assert group_mean(rewards(round, None, config())).tolist() == [[0.5, 0.0, -0.5, 0.0]]
    agent = ScriptedAgent(lambda problem, sample, seed: ("2222", "1111", "?", "2222")[sample])
    judged = replace(learner(config()), agent=agent, task=Judged(unsure_of="?"))
    (result,) = take(judged)
    assert result.metrics["reward/mean"] == pytest.approx(2 / 3)
    assert result.metrics["reward/unscored_frac"] == 0.25
    advantages = [attempt["advantage"] for attempt in result.rollouts[0]["attempts"]]
    assert advantages == pytest.approx([1 / 3, -2 / 3, 0, 1 / 3])


def test_attempts_whose_machinery_failed_are_in_no_mean_and_do_not_stop_the_step() -> None:
    def answer(problem: Problem, sample: int, seed: int) -> str:
        if sample == 1:
            raise RuntimeError("the tool's process died")
        return "2222" if sample else "1111"

    made = replace(learner(config(kl_coef=0.01)), agent=ScriptedAgent(answer))
    (result,) = take(made)
    assert result.metrics["reward/mean"] == pytest.approx(2 / 3)
    assert (result.metrics["sampling/error_frac"], result.metrics["reward/unscored_frac"]) == (0.25, 0.25)
    failed = result.rollouts[0]["attempts"][1]
    assert failed["advantage"] == 0 and "process died" in failed["error"] and math.isnan(failed["score"])


def test_a_round_in_which_nothing_could_be_judged_teaches_nothing_and_says_so() -> None:
    made = replace(learner(config()), task=Judged(unsure_of=""))
    before = weights(made)
    (result,) = take(made)
    assert weights(made) == before
    assert result.metrics["reward/unscored_frac"] == 1 and math.isnan(result.metrics["reward/mean"])


# --------------------------------------------------------------------------------------------------- groups and accounting


def assert_groups_are_whole(result: StepResult, made: Learner) -> None:
    renderer = made.trained.policy.renderer
    prompts = {p.id: renderer.prompt(p.messages) for p in made.problems}
    for row in result.rollouts:
        assert [attempt["sample"] for attempt in row["attempts"]] == list(range(made.config.group_size))
        for attempt in row["attempts"]:
            (turn,) = attempt["turns"]
            assert turn["prompt_token_ids"] == prompts[row["problem_id"]]
            assert attempt["text"] == renderer.parse(turn["token_ids"]).content


@pytest.mark.parametrize("changes", [{}, {"updates": 3}, {"extra_rounds": 2}], ids=["plain", "dealt", "refilled"])
def test_all_attempts_at_a_problem_stay_in_its_group_and_are_compared_with_one_another_only(changes: dict[str, Any]) -> None:
    task = Judged(9, dead=frozenset(f"train-{i}" for i in (0, 3, 4, 7)))
    made = learner(config(**changes), task)
    for result in take(made, 3):
        assert_groups_are_whole(result, made)
        for row in result.rollouts:
            scores = torch.tensor([[a["score"] for a in row["attempts"]]], dtype=torch.float64)
            found = torch.tensor([[a["advantage"] for a in row["attempts"]]], dtype=torch.float64)
            assert torch.equal(found, group_mean(scores)) or (not found.any() and "extra_rounds" in changes)


def test_every_problem_comes_once_in_each_pass_and_its_attempts_differ_between_passes() -> None:
    made = learner(config(optim=AdamWConfig(learning_rate=0.0)), EvenBytes(6))
    rows = [row for result in take(made, 4) for row in result.rollouts]
    first, second = rows[:6], rows[6:]
    assert sorted(r["problem_id"] for r in first) == sorted(r["problem_id"] for r in second) == [f"train-{i}" for i in range(6)]
    texts = lambda rows: {r["problem_id"]: [a["text"] for a in r["attempts"]] for r in rows}  # noqa: E731
    assert all(texts(first)[name] != texts(second)[name] for name in texts(first))


@dataclass(frozen=True)
class Solves:
    """Problems below `n` are always solved, the others by every second attempt."""

    n: int

    def __call__(self, problem: Problem, sample: int, seed: int) -> str:
        return "2222" if int(problem.id.split("-")[1]) < self.n or sample % 2 else "1111"


def dynamic(extra_rounds: int, n_solved: int, **changes: Any) -> tuple[Learner, StepResult]:
    """One step over 12 problems, 3 at a time, of which `n_solved` have no signal."""
    made = replace(learner(config(extra_rounds=extra_rounds, **changes)), agent=ScriptedAgent(Solves(n_solved)))
    return made, take(made)[0]


def test_dynamic_sampling_refills_the_round_and_counts_all_that_was_attempted() -> None:
    made, result = dynamic(extra_rounds=3, n_solved=6)
    metrics = result.metrics
    attempted = len(result.rollouts)
    live = [row for row in result.rollouts if int(row["problem_id"].split("-")[1]) >= 6]
    assert metrics["groups/attempted"] == attempted == made.trained.position > 3
    assert metrics["groups/used"] == 3 <= len(live)
    assert metrics["groups/live_frac"] == 3 / attempted
    assert metrics["groups/discarded_tokens"] == (attempted - 3) * 4 * len("2222\3")
    learned = [row["problem_id"] for row in result.rollouts if any(a["advantage"] for a in row["attempts"])]
    assert learned == [row["problem_id"] for row in live[:3]]


def test_the_mean_reward_is_over_every_attempt_and_not_over_the_kept_ones() -> None:
    _, result = dynamic(extra_rounds=3, n_solved=6)
    scores = [a["score"] for row in result.rollouts for a in row["attempts"]]
    kept = [a["score"] for row in result.rollouts for a in row["attempts"] if a["advantage"]]
    assert result.metrics["reward/mean"] == pytest.approx(sum(scores) / len(scores))
    assert sum(kept) / len(kept) == 0.5 < result.metrics["reward/mean"] - 0.1
    assert result.metrics["reward/n"] == len(result.rollouts)


def test_groups_replaced_by_dynamic_sampling_do_not_count_in_the_normaliser() -> None:
    made, result = dynamic(extra_rounds=3, n_solved=6)
    learned = [row["problem_id"] for row in result.rollouts if any(a["advantage"] for a in row["attempts"])]
    twin = replace(learner(config()), agent=made.agent)
    problems = [p for name in learned for p in twin.problems if p.id == name]
    round = asyncio.run(attempt(twin.agent, twin.task, problems, [0] * 3, 4))
    tokens = Tokens.of(round, group_mean(round.values_PG), None, twin.config)
    descend(twin.trained.policy, twin.trained.optimizer, tokens, twin.config)
    assert weights(made) == weights(twin)


def test_dynamic_sampling_gives_up_after_its_rounds() -> None:
    made, result = dynamic(extra_rounds=2, n_solved=12)
    assert (result.metrics["groups/attempted"], result.metrics["groups/used"]) == (9, 0)
    assert made.trained.policy.version == 0


@pytest.mark.parametrize("truncated", ["score", "wrong"])
def test_fewer_live_groups_than_updates_are_no_error(truncated: str) -> None:
    made, result = dynamic(extra_rounds=3, n_solved=11, updates=3, truncated=truncated)
    assert result.metrics["groups/used"] == made.trained.policy.version == 1


# ----------------------------------------------------------------------------------------------------------- the log's rows


def test_a_logged_attempt_holds_all_that_its_gradient_came_from() -> None:
    made = learner(config())
    policy = made.trained.policy
    (result,) = take(made)
    original = tiny()
    for row in result.rollouts:
        for a in row["attempts"]:
            (turn,) = a["turns"]
            ((logprobs, _),) = original.score_tokens([(turn["prompt_token_ids"], turn["token_ids"])])
            assert turn["sampling_logprobs"] == pytest.approx(logprobs, abs=1e-5)
            assert turn["weight_version"] == 0
            assert turn["stop_reason"] == ("stop" if turn["token_ids"][-1] in policy.renderer.stop_token_ids else "length")


def test_timings_are_kept_apart_from_what_repeats() -> None:
    (result,) = take(learner(config()))
    assert all(name.startswith("time/") for name in result.timings)
    assert not any(name.startswith("time/") for name in result.metrics)
