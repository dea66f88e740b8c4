"""The experiments in made worlds run from beginning to end at the smallest size, go on where they stopped, and shuffle what they say they shuffle."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import miscalibration, serial_thought, solution_tree, spurious_context
from experiments.worlds import taught, words_model
from posttrain.policy.hf import load_policy
from posttrain.policy.words import WordModelConfig
from posttrain.tasks.tree import SolutionTree
from posttrain.training.texts import completion
from posttrain.types import Completion, Message, Sampling, answered

TASK = SolutionTree(n=4, lengths=(2, 2), irrelevant=1, n_train=8, n_test=8)


def found(out: Path) -> dict:
    """What a run has measured."""
    return json.loads((out / "result.json").read_text())["found"]


def test_a_text_is_taught_as_the_renderer_would_have_it(tmp_path: Path) -> None:
    renderer = load_policy(words_model(tmp_path, TASK.words, WordModelConfig()), "float32").renderer
    problem = TASK.problems("train")[0]
    theirs = completion(renderer, problem.messages, (Message("assistant", problem.answer),))
    ours = taught(renderer, problem.messages[0].content, problem.answer)
    assert (ours.prompt, ours.tokens) == (theirs.prompt, theirs.tokens) and all(theirs.predicted)
    assert ours.prompt == renderer.prompt(problem.messages)


def test_shuffled_rewards_are_the_same_rewards_at_other_attempts() -> None:
    problems = TASK.problems("train")
    rollouts = [
        replace(answered(p, p.answer if i % 2 else "S 0"), sample=i, completions=(Completion((1,), (1,), (0.0,), "stop", Sampling(seed=s)),))
        for s, p in enumerate(problems) for i in range(8)
    ]  # fmt: skip

    async def scored(order: list[int]) -> list[float]:
        judge = solution_tree.Shuffled(TASK, len(rollouts), 7)
        return [s.value for s in await asyncio.gather(*(judge.score(rollouts[i]) for i in order))]

    values = asyncio.run(scored(list(range(64))))
    assert Counter(values) == {0.0: 32, 1.0: 32}
    assert values != [float(i % 2) for _ in problems for i in range(8)]
    backwards = asyncio.run(scored(list(range(63, -1, -1))))
    assert backwards[::-1] == values, "who gets what does not depend on who waits first"


@pytest.mark.slow
def test_the_two_strengths_of_hints_run_in_worlds_of_the_same_facts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(spurious_context.__file__).read_text()
    spurious_context.run(spurious_context.Config(out=tmp_path / "out", quick=True, seeds=2))
    gains = found(tmp_path / "out")["pass@128"]
    apart = gains["weak hints"]["value"] - gains["strong hints"]["value"]
    assert gains["weak less strong"]["value"] == pytest.approx(apart, abs=1e-9) and gains["weak less strong"]["n"] == 2
    assert Path(spurious_context.__file__).read_text() == source, "a quick run is no answer"


@pytest.mark.slow
def test_the_solution_tree_runs_and_reads_what_it_has_done(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(solution_tree.__file__).read_text()
    config = solution_tree.Config(out=tmp_path / "tree", quick=True, seeds=2)
    solution_tree.run(config)
    first = found(config.out)
    assert 0 <= first["SFT"]["pass_1"]["value"] <= first["SFT"]["pass_128"]["value"] <= 1
    kept = json.loads((config.out / "seed_0" / "SFT.json").read_text())
    assert np.shape(kept["chances"]) == (len(solution_tree.TEMPERATURES), 24)
    (config.out / "seed_0" / "GRPO_8.json").unlink()
    solution_tree.run(config)
    assert json.dumps(found(config.out)) == json.dumps(first), "as texts, for nan is not nan"
    assert Path(solution_tree.__file__).read_text() == source


# --------------------------------------------------------------------------------------------------------- serial thought


def test_the_moves_reach_the_whole_group_and_each_can_be_undone() -> None:
    elements, table = serial_thought.group()
    assert len(elements) == 60 and table.shape == (60, 4)
    assert all(len(set(table[:, g].tolist())) == 60 for g in range(4))
    reached = {0}
    while (more := reached | {int(table[e, g]) for e in reached for g in range(4)}) != reached:
        reached = more
    assert len(reached) == 60
    composed = lambda p, q: tuple(p[i] for i in q)  # noqa: E731
    assert composed(*serial_thought.GENERATORS[:2]) != composed(*serial_thought.GENERATORS[1::-1]), "the order of moves matters"


def test_every_way_asks_the_same_and_ends_in_the_same_answer() -> None:
    rng = np.random.default_rng(0)
    walk = serial_thought.Walk((7, 8, 9, 10), (0, 1, 2))
    texts = {way: walk.text(way, 5, rng) for way in serial_thought.WAYS}
    assert texts["at once"] == texts["at once, twice the layers"] == ("e7 g0 g1 g2 _ _ :", "e10")
    assert texts["chain"] == ("e7 g0 g1 g2 _ _ :", "e8 e9 e10")
    assert texts["filler"] == ("e7 g0 g1 g2 _ _ : . .", "e10")
    assert texts["shuffled chain"] == ("e7 g0 g1 g2 _ _ :", "e9 e8 e10")
    assert all(sorted(order := serial_thought.disordered(n, rng)) == [*range(n)] and (order != sorted(order) or n < 2) for n in range(12))


# --------------------------------------------------------------------------------------------------------- miscalibration


def test_the_closed_form_is_the_optimum_and_sharpens_without_another_favourite() -> None:
    law = miscalibration.Questions(30, 0).law
    for beta in (1.0, 0.1):
        best = miscalibration.closed_form(law, law, beta)
        value = lambda p, beta=beta: float((p * law).sum(1).mean() - beta * (p * np.log(p / law)).sum(1).mean())  # noqa: E731
        assert value(best) == pytest.approx(float(beta * np.log((law * np.exp(law / beta)).sum(1)).mean()))
        for other in (law, best**1.1 / (best**1.1).sum(1, keepdims=True), best**0.9 / (best**0.9).sum(1, keepdims=True)):
            assert value(other) < value(best)
        assert (best.argmax(1) == law.argmax(1)).all()
        assert miscalibration.calibration_error(best, law) == pytest.approx(float((best.max(1) - law.max(1)).mean()))
    assert miscalibration.calibration_error(law, law) < 1e-12
    assert np.allclose(miscalibration.closed_form(law, law, 1e6), law, atol=1e-5)


def test_attempts_are_right_as_often_as_the_law_says_and_confidence_pays_if_it_is_true() -> None:
    right = miscalibration.Questions(3, 0)
    problem = right.problems("train")[1]
    chance = right.law[1].max()

    async def mean(task: miscalibration.Questions, text: str) -> float:
        made = [replace(answered(problem, text), sample=i, completions=(Completion((1,), (1,), (0.0,), "stop"),)) for i in range(2000)]
        return float(np.mean([score.value for score in await asyncio.gather(*map(task.score, made))]))

    assert abs(asyncio.run(mean(right, problem.answer)) - chance) < 4 * (chance * (1 - chance) / 2000) ** 0.5
    rlcr = replace(right, rewards="rlcr")
    paid = {c: asyncio.run(mean(rlcr, f"{problem.answer} {c:.1f}")) for c in miscalibration.CONFIDENCES}
    assert abs(max(paid, key=paid.get) - chance) < 0.11
    assert asyncio.run(mean(rlcr, problem.answer)) == pytest.approx(asyncio.run(mean(right, problem.answer)) - 1)


@pytest.mark.parametrize("labels", ["drawn by r", "right against wrong"])
def test_a_preferred_answer_is_preferred_as_often_as_its_implied_reward_says(labels: miscalibration.Labels) -> None:
    questions = miscalibration.Questions(3, 0)
    asked, chosen, rejected = questions.pairs(100_000, labels).T
    assert len(asked) == 100_000 and (chosen != rejected).all()
    n_of = np.zeros((3, 8, 8))
    np.add.at(n_of, (asked, chosen, rejected), 1)
    both = n_of + n_of.transpose(0, 2, 1)
    gaps = questions.implied(labels)[:, :, None] - questions.implied(labels)[:, None, :]
    expected = 1 / (1 + np.exp(-gaps))
    often = both > 200
    errors = (n_of - both * expected)[often] / np.sqrt(both * expected * (1 - expected) + 1)[often]
    assert often.sum() > 40 and np.abs(errors).max() < 4.5
    assert np.std(errors) < 1.3


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["serial_thought", "miscalibration"])
def test_the_small_ones_run_and_read_what_they_have_done(experiment: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = {"serial_thought": serial_thought, "miscalibration": miscalibration}[experiment]
    source, config = Path(module.__file__).read_text(), module.Config(out=tmp_path / "out", seeds=1)
    few = {"sft": replace(config.sft, steps=4, conversations_per_step=16)}
    few |= {"longest": 3, "problems": 4} if experiment == "serial_thought" else {
        "arms": ("grpo", "dpo", "confidence"), "questions": 8, "settle_steps": 2, "betas": (0.5,), "dpo_betas": (0.5,),
        "grpo": replace(config.grpo, steps=2, problems_per_step=4, group_size=4), "dpo": replace(config.dpo, steps=2, pairs_per_step=8)}  # fmt: skip
    config = replace(config, **few)
    module.run(config)
    first = found(config.out)
    module.run(config)
    assert json.dumps(found(config.out)) == json.dumps(first), "as texts, for nan is not nan"
    assert Path(module.__file__).read_text() == source
