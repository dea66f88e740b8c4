"""The experiments in made worlds run from beginning to end at the smallest size, go on where they stopped, and shuffle what they say they shuffle."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import solution_tree
from experiments.worlds import taught, words_model
from posttrain.policy.hf import load_policy
from posttrain.policy.words import WordModelConfig
from posttrain.tasks.tree import SolutionTree
from posttrain.training.texts import completion
from posttrain.types import Completion, Message, Sampling, answered

TASK = SolutionTree(n=4, lengths=(2, 2), irrelevant=1, n_train=8, n_test=8)


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
def test_the_solution_tree_runs_and_reads_what_it_has_done(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(solution_tree.__file__).read_text()
    config = solution_tree.Config(out=tmp_path / "tree", quick=True, seeds=2)
    solution_tree.run(config)
    first = json.loads((config.out / "result.json").read_text())["found"]
    assert 0 <= first["SFT"]["pass_1"]["value"] <= first["SFT"]["pass_128"]["value"] <= 1
    kept = json.loads((config.out / "seed_0" / "SFT.json").read_text())
    assert np.shape(kept["chances"]) == (len(solution_tree.TEMPERATURES), 24)
    (config.out / "seed_0" / "GRPO_8.json").unlink()
    solution_tree.run(config)
    assert json.loads((config.out / "result.json").read_text())["found"] == first
    assert Path(solution_tree.__file__).read_text() == source
