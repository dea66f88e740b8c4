"""Solution trees: the worlds' combinatorics, what is planted in them, and a judge that tells planning from executing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from posttrain.tasks import check_gold, load
from posttrain.tasks.tree import SolutionTree, read, written
from posttrain.types import Problem, UserError, answered

TASK = SolutionTree(n=6, lengths=(2, 4), irrelevant=3, n_train=40, n_test=30)


def parse(problem: Problem) -> tuple[int, list[int], list[int], list[int]]:
    """First state, places, contexts and irrelevant words of a prompt, read by the published form alone."""
    words = problem.messages[0].content.split()
    assert words[0] == "S" and words[2] == "P" and words[-1] == ":"
    length = (len(words) - 4 - 1 - 1 - TASK.irrelevant) // 4
    steps = words[4 : 4 + 4 * length]
    assert steps[::4] == ["C"] * length and steps[2::4] == ["P"] * length and words[4 + 4 * length] == "I"
    return int(words[1]), [int(words[3]), *map(int, steps[3::4])], [*map(int, steps[1::4])], [*map(int, words[5 + 4 * length : -1])]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_places_alone_say_which_actions_lie_between_and_the_table_where_they_lead(split: str) -> None:
    transitions, plans, _, _ = TASK.world.tables
    for problem in TASK.problems(split):
        state, places, contexts, irrelevant = parse(problem)
        assert len(irrelevant) == 3 and len(contexts) == len(places) - 1 and 2 <= len(contexts) <= 4
        states, actions = [state], []
        for before, after in zip(places, places[1:], strict=False):
            (action,) = np.flatnonzero(plans[before] == after)
            actions.append(int(action))
            states.append(int(transitions[states[-1], action]))
        assert problem.answer == written(states, actions)


def test_each_place_has_a_permutation_of_its_own_and_transitions_need_none() -> None:
    transitions, plans, habits, hints = SolutionTree().world.tables
    assert transitions.shape == plans.shape == (20, 20)
    assert (np.sort(plans, 1) == np.arange(20)).all()
    assert any(len(set(row)) < 20 for row in transitions.tolist())
    assert np.allclose(habits.sum(1), 1) and np.allclose(hints.sum(1), 1)


def test_train_and_test_share_no_walk_and_few_problems_are_the_first_of_many() -> None:
    key = lambda p: (p.data["states"][0], tuple(p.messages[0].content.split()[3::4]), tuple(p.data["actions"]))  # noqa: E731
    train, test = ({key(p) for p in TASK.problems(split)} for split in ("train", "test"))
    assert len(train) == 40 and len(test) == 30 and not train & test
    more = replace(TASK, n_train=1500).problems("train")
    assert [p.messages for p in more[:40]] == [p.messages for p in TASK.problems("train")]
    assert [p.messages for p in replace(TASK, n_train=1500).problems("test")] == [p.messages for p in TASK.problems("test")]


def test_demonstrations_follow_habits_and_hints_and_the_other_splits_do_not() -> None:
    shown = TASK.demonstrations(20_000)
    _, _, habits, hints = TASK.world.tables
    states, actions, contexts = (column[:, 0] for column in (shown.states, shown.actions, shown.contexts))
    share = np.array([[np.mean(actions[states == s] == a) for a in range(6)] for s in range(6)])
    assert np.abs(share - habits).max() < 0.03
    share = np.array([[np.mean(contexts[actions == a] == c) for c in range(6)] for a in range(6) if (actions == a).sum() > 500])
    assert np.abs(share - hints[[a for a in range(6) if (actions == a).sum() > 500]]).max() < 0.05
    problems = replace(TASK, n_train=3000).problems("train")
    share = np.bincount([p.data["actions"][0] for p in problems], minlength=6) / 3000
    assert np.abs(share - 1 / 6).max() < 0.03


def test_smudged_places_and_other_hints_change_nothing_else_in_a_demonstration() -> None:
    plain, smudged, other = (
        SolutionTree(n=8, lengths=(4, 4), seed=5, **options).demonstrations(500) for options in ({}, {"smudge": 0.25}, {"smudge": 0.25, "beta": 5.0})
    )
    for walks in (smudged, other):
        assert np.array_equal(plain.states, walks.states) and np.array_equal(plain.actions, walks.actions)
    assert np.array_equal(plain.contexts, smudged.contexts) and not np.array_equal(plain.contexts, other.contexts)
    assert np.mean(plain.places != smudged.places) == pytest.approx(0.25 * 7 / 8, abs=0.03)
    tests = [SolutionTree(n=8, lengths=(4, 4), seed=5, n_test=16, smudge=smudge).problems("test") for smudge in (0.0, 0.25)]
    assert tests[0] == tests[1], "problems are never smudged"


def test_facts_counts_each_step_of_each_walk_and_nothing_behind_its_end() -> None:
    shown = TASK.demonstrations(200)
    counts = np.zeros((6, 6), int)
    for i in range(200):
        data = shown.problem(i, "").data
        for state, action in zip(data["states"], data["actions"], strict=False):
            counts[state, action] += 1
    assert (shown.facts(6) == counts).all() and counts.sum() == shown.lengths.sum()


def test_an_attempt_is_right_exactly_if_it_starts_plans_and_executes_right() -> None:
    rng = np.random.default_rng(0)
    solved = 0
    for problem in TASK.problems("test"):
        for _ in range(20):
            states, actions = list(problem.data["states"]), list(problem.data["actions"])
            for column in (states, actions):
                if rng.random() < 0.5:
                    column[rng.integers(len(column))] = int(rng.integers(6))
            text = written(states, actions)
            solved += TASK.steps(problem, text).solves
            assert TASK.steps(problem, text).solves == (text == problem.answer) == asyncio.run(TASK.score(answered(problem, text))).value
    assert 0 < solved < 600


def test_a_wrong_action_that_is_carried_out_well_is_a_mistake_of_planning_alone() -> None:
    transitions = TASK.world.tables[0]
    problem = TASK.problems("test")[0]
    states, actions = problem.data["states"], list(problem.data["actions"])
    actions[0] = next(a for a in range(6) if transitions[states[0], a] != states[1])
    walked = [states[0]]
    for action in actions:
        walked.append(int(transitions[walked[-1], action]))
    score = asyncio.run(TASK.score(answered(problem, written(walked, actions))))
    assert (score.value, score.parts["execute"], score.parts["plan"]) == (0, 1, (len(actions) - 1) / len(actions))


def test_a_wrong_state_that_the_rest_goes_on_from_is_one_mistake_of_executing() -> None:
    transitions = TASK.world.tables[0]
    problem = next(p for p in TASK.problems("test") if len(p.data["actions"]) == 3)
    actions = problem.data["actions"]
    walked = [problem.data["states"][0], (problem.data["states"][1] + 1) % 6]
    for action in actions[1:]:
        walked.append(int(transitions[walked[-1], action]))
    score = asyncio.run(TASK.score(answered(problem, written(walked, actions))))
    assert (score.value, score.parts["plan"], score.parts["execute"]) == (0, 1, 2 / 3)


@pytest.mark.parametrize("text", ["", "S", "S 1 A", "S 1 A 2", "A 1 S 2", "S 1 A 2 S x", "S 1 A 2 S 99", "S 1 S 2 A 3", "S 1 A 2 S 3 A"])
def test_what_is_no_walk_is_wrong_and_has_no_parts(text: str) -> None:
    score = asyncio.run(TASK.score(answered(TASK.problems("test")[0], text)))
    assert score.value == 0 and score.parts == {"parsed": 0.0}


def test_reading_undoes_writing() -> None:
    assert read(written([3, 1, 4], [1, 5])) == ([3, 1, 4], [1, 5])
    assert read("S 3") == ([3], [])


def test_a_wrong_solution_is_wrong_in_one_place_but_the_first_state() -> None:
    places = set()
    for problem in TASK.problems("train"):
        wrong, gold = TASK.wrong_solution(problem).split(), problem.answer.split()
        (at,) = [i for i, (a, b) in enumerate(zip(wrong, gold, strict=True)) if a != b]
        assert at >= 3 and at % 2 == 1 and wrong[at] in TASK.words[-6:]
        assert " ".join(wrong) == TASK.wrong_solution(problem)
        places.add(wrong[at - 1])
    assert places == {"A", "S"}


def test_gold_answers_score_one_and_its_words_are_all_there_are() -> None:
    asyncio.run(check_gold(TASK, TASK.problems("train")))
    words = {word for p in TASK.problems("train") for word in f"{p.messages[0].content} {TASK.wrong_solution(p)}".split()}
    assert words <= set(TASK.words)
    assert max(len(p.answer.split()) for p in TASK.problems("train")) + 1 == TASK.longest_tokens


def test_it_can_be_asked_for_by_name() -> None:
    assert load("tree:n=6,lengths=2+4,irrelevant=3,n_train=40,n_test=30") == TASK


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"lengths": (4, 2)}, "lengths=FEWEST"), ({"lengths": (4,)}, "lengths=FEWEST"), ({"n": 1}, "n of at least 2"),
        ({"alpha": 0.0}, "above 0"), ({"smudge": 1.0}, "smudge from 0"),
    ],  # fmt: skip
)
def test_a_world_that_cannot_be_is_refused(options: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        SolutionTree(**options)


def test_a_world_too_small_for_so_many_problems_says_so() -> None:
    with pytest.raises(UserError, match="too few different walks"):
        SolutionTree(n=2, lengths=(1, 1), irrelevant=0, n_train=10, n_test=4).problems("train")
