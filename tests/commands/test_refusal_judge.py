"""A model as the judge of refusals: `eval` and `compare` with --refusal-judge."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from posttrain import cli
from posttrain.agents.scripted import ScriptedAgent
from posttrain.commands.judging import check_judge, option_logprobs, with_judge
from posttrain.commands.measuring import Measured, SuiteArgs
from posttrain.evals.loops import load_used
from posttrain.evals.measure import measure
from posttrain.policy.hf import load_policy
from posttrain.rewards.judge import by_asking
from posttrain.rewards.refusal import ModelsVerdict, RefusalJudge
from posttrain.runs.records import read_rows
from posttrain.tasks import load
from posttrain.types import Message, Problem, Sampling, UserError, answered

SMALL = ("--problems", "4", "--samples", "1", "--max-tokens", "4", "--dtype", "float32")


@pytest.fixture
def spec(tmp_path: Path) -> str:
    rows = [{"prompt": f"Tell me of {label} {i}.", "label": label, "type": label} for i in range(6) for label in ("safe", "unsafe")]
    (tmp_path / "xstest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"xstest:path={tmp_path / 'xstest.jsonl'}"


def verdict(says) -> ModelsVerdict:
    """A judge of which nothing is known but what it writes."""
    return ModelsVerdict(RefusalJudge(by_asking(ScriptedAgent(lambda problem, *_: says(problem.messages[-1].content)))), "wise")


WISE = verdict(lambda text: "Yes." if "[Reply]\nI'm sorry" in text or "[Reply]\nNever" in text else "No, it does not.")


def test_a_models_verdict_takes_the_place_of_phrases_in_whatever_circumstances(spec: str) -> None:
    for name in (spec, f"conversation:of={spec.replace(':', ',', 1)}", f"loop:of={spec.replace(':', ',', 1)}"):
        task = load_used(name)
        wise = with_judge(task, WISE)
        safe, unsafe = task.problems("test")[:2]
        for reply, by_phrases, by_judge in (("Never.", (1, 0), (0, 1)), ("I won't help with that.", (0, 1), (1, 0)), ("Sure.", (1, 0), (1, 0))):
            for judged, values in ((task, by_phrases), (wise, by_judge)):
                assert tuple(asyncio.run(judged.score(answered(p, reply))).value for p in (safe, unsafe)) == values
        assert (task.judged_by, wise.judged_by) == ({"refusal_judge": "phrases"}, {"refusal_judge": "wise"})
    assert with_judge(load("facts"), WISE) == load("facts")


def test_with_another_judge_the_kept_attempts_are_judged_again_and_none_is_made(spec: str, tmp_path: Path) -> None:
    attempted: list[str] = []
    model = Measured("m", None, ScriptedAgent(lambda problem, *_: attempted.append(problem.id) or "Never."), Sampling(), SuiteArgs(out=tmp_path))
    model.__dict__["settings"] = {"model": "m"}

    def accuracy(task) -> tuple[float, float]:
        """How often what should be refused is, and the share of all that could not be judged."""
        asked = model.asked(task)
        found = asyncio.run(measure(asked.agent, task, task.problems("test"), 1, keeper=model.keeper(asked)))
        return found["aspect/refused_unsafe"].value, found["unscored_frac"].value

    phrases, wise, mute = (with_judge(load(spec), judge) for judge in (None, WISE, replace(verdict(lambda text: "Perhaps."), name="mute")))
    assert [accuracy(task) for task in (phrases, wise, phrases)] == [(0, 0), (1, 0), (0, 0)] and len(attempted) == 12
    rows = read_rows(tmp_path / "records.jsonl")
    assert [row["settings"]["refusal_judge"] for row in rows] == ["phrases"] * 12 + ["wise"] * 12 and len({row["key"] for row in rows}) == 12
    assert accuracy(mute)[1] == 1, "a judge without a verdict leaves the attempts unscored: the others' scores are not its own"
    assert [row["settings"]["refusal_judge"] for row in read_rows(tmp_path / "records.jsonl")][24:] == ["mute"] * 12 and len(attempted) == 12
    assert model.asked(wise).settings() == {"model": "m", "refusal_judge": "wise"}


def test_a_judge_that_cannot_be_read_is_no_verdict(spec: str) -> None:
    task = with_judge(load(spec), verdict(lambda text: "Perhaps."))
    assert asyncio.run(task.score(answered(task.problems("test")[0], "Sure."))).is_unscored


def test_a_judge_is_tried_on_what_nobody_doubts(spec: str) -> None:
    problems = load(spec).problems("test")
    asyncio.run(check_judge("wise", with_judge(load(spec), WISE), problems))
    with pytest.raises(UserError, match="'meek' tells only 6 of 12 plain refusals and plain answers"):
        asyncio.run(check_judge("meek", with_judge(load(spec), verdict(lambda text: "Yes")), problems))


def test_a_policys_opinion_is_read_from_its_log_probs_of_yes_and_no() -> None:
    policy = load_policy("tiny", "float32")
    asked = (Message("user", "Is it?"),)
    read = asyncio.run(option_logprobs(policy)(asked, ("Yes", "No")))
    prompt = policy.renderer.prompt(asked)
    expected = [sum(logprobs) for logprobs, _ in policy.score_tokens([(prompt, policy.renderer.encode(word)) for word in ("Yes", "No")])]
    assert read == pytest.approx(expected)
    reply = answered(Problem("1", asked, ""), "no")
    assert asyncio.run(ModelsVerdict(RefusalJudge(option_logprobs(policy)), "tiny")(reply)) in (0, 1)


def test_what_cannot_be_judged_so_is_refused_in_a_sentence(posttrain, spec: str) -> None:
    for argv, words in (
        (("--task", spec, "--refusal-judge", "tiny"), "leave --refusal-judge out"),
        (("--task", "arithmetic", "--refusal-judge", "tiny"), "none of these tasks asks for"),
        (("--task", f"{spec},judge=tiny"), "--refusal-judge MODEL"),
        (("--task", spec, "--refusal-judge", "no/such"), "no/such"),
    ):
        ended = posttrain("eval", "--model", "tiny", *argv, *SMALL)
        assert ended.code == cli.USAGE and words in ended.err and "Traceback" not in ended.err, ended.err
