"""A task whose truth is plain and whose judge can be made to fail: say the number you were given."""

from __future__ import annotations

from posttrain.agents.scripted import ScriptedAgent
from posttrain.seeds import fold, uniforms
from posttrain.types import Message, Problem, Rollout, Sampling, Score, unscored


class EchoTask:
    """Right is the answer itself. The judge shrugs at `mumble` and breaks on `crash`."""

    name = "echo"

    def __init__(self, n: int = 20) -> None:
        self.n = n

    def problems(self, split: str) -> list[Problem]:
        return [Problem(f"{split}-{i}", (Message("user", f"Say {i}."),), str(i)) for i in range(self.n)]

    async def score(self, rollout: Rollout) -> Score:
        if rollout.text == "crash":
            raise RuntimeError("the judge's process died")
        if rollout.text == "mumble":
            return unscored("cannot be understood")
        return Score(float(rollout.text == self.solution(rollout.problem)), {}, "compared with the number")

    def solution(self, problem: Problem) -> str:
        return problem.answer


def sometimes_right(chance: float, name: str = "", wrong: str = "no", sampling: Sampling = Sampling()) -> ScriptedAgent:
    """Right with probability `chance`, independently in every attempt; agents of one name toss the same coins."""

    def answer(problem: Problem, sample: int, seed: int) -> str:
        return problem.answer if uniforms([fold(seed, name)], [sample])[0] < chance else wrong

    return ScriptedAgent(answer, sampling)


def says(*texts: str) -> ScriptedAgent:
    """Says the texts in turn, the same for every problem; `{answer}` is the problem's."""
    return ScriptedAgent(lambda problem, sample, seed: texts[sample % len(texts)].format(answer=problem.answer))
