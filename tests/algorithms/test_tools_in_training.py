"""Attempts of several turns are learned from as they were sampled: every method that samples reads the same tokens, and learns the model's own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.algorithms import distill, dpo, grpo, ppo, reject
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.tasks import load
from posttrain.training.agents import make_agent, offered
from posttrain.training.loop import Trained
from posttrain.training.reference import Reference
from posttrain.training.rounds import Round, summary
from posttrain.types import Message, Sampling, Score, UserError
from tests.agents.test_tool_agent import PROBLEM, WRITTEN, attempt, forced
from tests.small_models import write_model

OTHER = [WRITTEN[0], "Then it is 6."]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("tiny", "float32")


@pytest.fixture(scope="module")
def round_(policy: Policy) -> Round:
    rollouts = [*attempt(forced(policy, WRITTEN)), *attempt(forced(policy, OTHER))]
    return Round([PROBLEM], [rollouts], [[Score(1.0), Score(0.0)]])


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with room for the descriptions of tools."""
    return str(write_model(tmp_path_factory.mktemp("model"), max_position_embeddings=2048))


def test_grpo_learns_the_models_own_tokens_of_all_turns_under_the_log_probs_that_they_were_drawn_with(policy: Policy, round_: Round) -> None:
    config = grpo.Config(group_size=2, tools="calculator")
    tokens = grpo.Tokens.of(round_, grpo.group_mean(round_.values_PG), None, config)
    assert [s.n_predicted for s in tokens.sequences] == [r.n_tokens for r in round_.rollouts] and len(tokens.sequences) == 2
    optimizer = Optimizer(policy.parameters(), AdamWConfig(learning_rate=0.0))
    metrics = grpo.descend(policy, optimizer, tokens, config)
    assert metrics["sampling/mismatch_nats_max"] < 2e-5 and metrics["policy/grad_norm"] > 0


def test_the_metrics_count_turns_calls_and_calls_that_were_no_good(round_: Round) -> None:
    found = summary(round_)
    assert (found["agent/turns"], found["agent/calls"], found["agent/call_errors_frac"]) == (2.5, 1.5, pytest.approx(1 / 3))
    bare = Round([PROBLEM], [asyncio.run(ScriptedAgent(lambda *_: "5").attempt(PROBLEM, 2))], [[Score(1.0), Score(0.0)]])
    assert not any(name.startswith("agent/") for name in summary(bare))


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_a_teacher_reads_the_same_turns_behind_its_own_prompt(policy: Policy, round_: Round, system: str) -> None:
    tools = asyncio.run(offered(forced(policy, WRITTEN)))
    trained = Trained(policy, Optimizer(policy.parameters(), AdamWConfig(learning_rate=0.0)))
    told = (Message("system", system),) if system else ()
    config = distill.Config(task="-", tools="calculator")
    learner = distill.Learner(trained, Reference(policy.frozen_copy(), False), None, None, [], [], told, config, tools)  # type: ignore[arg-type]
    learner.teacher.policy.base.config.max_position_embeddings = 4096
    lessons = [lesson for rollout in round_.rollouts for lesson in distill._lessons(learner, rollout)]
    for lesson, rollout in zip(lessons, round_.rollouts, strict=True):
        assert (lesson.teacher.tokens, lesson.teacher.predicted) == (lesson.student.tokens, lesson.student.predicted)
        assert lesson.student.prompt == rollout.completions[0].prompt_token_ids
        assert lesson.sampling_logprobs.tolist() == pytest.approx([x for c in rollout.completions for x in c.sampling_logprobs])
        assert (lesson.teacher.prompt == lesson.student.prompt) == (not system)
        assert policy.renderer.decode(lesson.teacher.prompt).count('"name": "add"') == 1
    if not system:
        metrics = distill.descend(learner, lessons)
        assert metrics["distill/divergence_nats"] == pytest.approx(0, abs=1e-5)


SAMPLED = dict(problems_per_step=2, group_size=2)
METHODS: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    "grpo": (grpo, SAMPLED),
    "distill": (distill, {**SAMPLED, "teacher_system": "Be brief."}),
    "ppo": (ppo, {**SAMPLED, "reward": "length:3"}),
    "reject": (reject, {**SAMPLED, "reward": "length:3", "keep_truncated": True}),
    "online dpo": (dpo, {"pairs_per_step": 2, "group_size": 2, "reward": "length:3"}),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_training_with_tools_runs_and_goes_on(roomy: str, tmp_path: Path, method: str) -> None:
    module, changes = METHODS[method]
    common = dict(model=roomy, out=tmp_path, dtype="float32", task="arithmetic:levels=1,n_train=8", tools="calculator", tool_steps=2, max_tokens=8)
    for steps in (1, 2):
        asyncio.run(module.train(module.Config(steps=steps, **common, **changes)))
    rows = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    made = load_policy(roomy, "float32").renderer
    assert {row["step"] for row in rows} == {1, 2}
    assert all("calculator" in made.decode(row["attempts"][0]["turns"][0]["prompt_token_ids"]) for row in rows)


@pytest.mark.parametrize("method", METHODS)
def test_a_task_brings_its_own_tools_to_every_method(roomy: str, tmp_path: Path, method: str) -> None:
    module, changes = METHODS[method]
    common = dict(model=roomy, out=tmp_path, dtype="float32", task="ledger:horizon=1,n_train=4", tools="task", tool_steps=2, max_tokens=8, steps=1)
    asyncio.run(module.train(module.Config(**common, **changes)))
    row = json.loads((tmp_path / "rollouts.jsonl").read_text().splitlines()[0])
    read = load_policy(roomy, "float32").renderer.decode(row["attempts"][0]["turns"][0]["prompt_token_ids"])
    assert '"function"' in read and "calculator" not in read


def test_a_pair_holds_the_models_own_tokens_of_all_turns(round_: Round) -> None:
    (pair,) = dpo.best_against_worst(round_)
    assert [s.n_predicted for s in pair.sequences] == [r.n_tokens for r in round_.rollouts]
    assert not all(pair.chosen.predicted), "what the tool said is read and not learned"
    assert pair.chosen.prompt == pair.rejected.prompt


def test_attempts_whose_history_was_rewritten_make_no_pair_in_silence(round_: Round) -> None:
    first, second = round_.rollouts[0].completions[:2]
    rewritten = replace(round_.rollouts[0], completions=(first, replace(second, prompt_token_ids=second.prompt_token_ids[1:])))
    spoiled = Round(round_.problems_P, [[rewritten, round_.rollouts[1]]], round_.scores_PG)
    with pytest.raises(UserError, match="template that only appends"):
        dpo.best_against_worst(spoiled)


def test_a_question_that_leaves_no_room_for_tools_is_refused(tmp_path: Path) -> None:
    config = grpo.Config(model="tiny", out=tmp_path, task="arithmetic", tools="calculator", dtype="float32", steps=1)
    with pytest.raises(UserError, match="longer context"):
        asyncio.run(grpo.train(config))


def test_settings_of_tools_without_tools_are_refused() -> None:
    with pytest.raises(UserError, match="--tool-steps has no effect without --tools"):
        grpo.Config(tool_steps=2)
    with pytest.raises(UserError, match="--tools has no effect without --task"):
        dpo.Config(data="pairs.jsonl", tools="calculator")
    for config in (ppo.Config, reject.Config, dpo.Config):
        with pytest.raises(UserError, match="--tool-steps has no effect without --tools"):
            config(tool_steps=2)
    with pytest.raises(UserError, match="--tools has no effect without --on own"):
        distill.Config(on="teacher", tools="calculator", task="arithmetic")


def test_without_tools_the_agent_is_the_bare_model(policy: Policy) -> None:
    problem = load("arithmetic").problems("train")[0]
    agent = make_agent(policy, Sampling(max_tokens=4))
    assert asyncio.run(offered(agent)) == () and asyncio.run(agent.attempt(problem, 1))[0].n_tokens <= 4
