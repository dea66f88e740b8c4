"""What an agent costs beside its model: the time of a step, and whether a hundred agents share the engine's batches.

    python -m benchmarks.agent_overhead
    python -m benchmarks.agent_overhead --agents 100 --steps 4 --tokens 8 --markdown docs/BENCHMARKS.md

- `a step`: from one turn of the model to the next, with a model that takes no time: the prompt made, the call read, the tool
  `calculator` run, the step appended to a file; attempts one after the other. The goal: less than 5 ms
- `a step, not kept`: the same without the file
- `a step, n at once`: the same for all agents at once, divided by their steps
- `tokens a pass, alone` and `tokens a pass, n at once`: with the model itself, how many tokens each of its passes writes: 1 for an
  agent alone, and near n where n share them. `tokens a second` beside
- `read, remembered` and `read, anew`: prompt tokens that the model computes in one attempt of all its steps, when the engine remembers
  the conversation from turn to turn and when it does not; `seconds` beside, of which the writing is the same in both
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import rows as benchmark
from benchmarks.rows import Found
from posttrain.agents.conversation import Limits
from posttrain.agents.local import LocalSpeaker
from posttrain.agents.tool_agent import ToolAgent
from posttrain.engine.local import MEMORY_BYTES, LocalEngine
from posttrain.engine.scripted import ScriptedEngine
from posttrain.policy.hf import Policy, load_policy
from posttrain.renderer import Renderer
from posttrain.runs.attempts import AttemptLog
from posttrain.tools.calculator import calculator
from posttrain.tools.calling import Calling
from posttrain.tools.tool import tool
from posttrain.types import Message, Problem, Rollout, Sampling, UserError

GOAL_MS = 5.0
CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "12*(3+4)"}}\n</tool_call>'


@dataclass(frozen=True)
class Options:
    """What to measure, and how to print it."""

    model: str = "smollm2"
    """Whose chat format, tokenizer and passes; its template must be one that calls in words."""
    agents: int = 100
    """How many at once."""
    steps: int = 8
    """Turns of each."""
    repeats: int = 20
    """Attempts one after the other."""
    tokens: int = 16
    """Tokens of a turn that the model itself writes."""
    json: bool = False
    """Print JSON, unrounded."""
    markdown: Path | None = None
    """Also append a dated section to this file (docs/BENCHMARKS.md)."""

    def __post_init__(self) -> None:
        if min(self.agents, self.repeats, self.tokens) < 1 or self.steps < 2:
            raise UserError("--agents, --repeats and --tokens must be at least 1, --steps at least 2")


@dataclass
class CountingEngine(LocalEngine):
    """Counts the model's passes that write."""

    passes: int = 0

    def _decode(self) -> None:
        self.passes += 1
        super()._decode()


def scripted(renderer: Renderer, options: Options, folder: Path | None) -> ToolAgent:
    """A model that calls the calculator in every turn, at once; its steps are kept in the folder, if there is one."""
    written = (*renderer.encode(CALL), renderer.stop_token_ids[0])
    speaker = LocalSpeaker(ScriptedEngine(lambda prompt, sample, seed: written), renderer)
    agent = ToolAgent(speaker, Calling((tool(calculator),)), Limits(options.steps))
    return replace(agent, journal=AttemptLog(folder / "steps.jsonl").journal) if folder else agent


async def step_times(renderer: Renderer, options: Options) -> dict[str, list[float]]:
    """Milliseconds of a step: of each attempt, and of all at once."""
    with tempfile.TemporaryDirectory() as folder:
        agent, unkept = scripted(renderer, options, Path(folder)), scripted(renderer, options, None)
        alone, bare = [[await _timed(each, 1, i, options) for i in range(options.repeats + 1)][1:] for each in (agent, unkept)]
        together = [await _timed(agent, options.agents, options.repeats + 1, options)]
        return {"a step": alone, "a step, not kept": bare, f"a step, {options.agents} at once": together}


async def _timed(agent: ToolAgent, n: int, number: int, options: Options) -> float:
    begun = time.perf_counter()
    rollouts = await asyncio.gather(*(agent.attempt(_problem(f"{number}/{i}"), 1) for i in range(n)))
    milliseconds = 1e3 * (time.perf_counter() - begun)
    _check([rollout for group in rollouts for rollout in group], options)
    return milliseconds / (n * options.steps)


async def passes(policy: Policy, options: Options) -> dict[str, float]:
    """Tokens a pass and a second: of one agent, and of all at once. The model's turns are cut to one length, and go on as if ended."""
    found = {}
    for name, n in (("alone", 1), (f"{options.agents} at once", options.agents)):
        engine = CountingEngine(policy)
        speaker = _Cut(engine, policy.renderer, Sampling(max_tokens=options.tokens))
        agent = ToolAgent(speaker, Calling((tool(calculator),)), Limits(steps=2))
        begun = time.perf_counter()
        await asyncio.gather(*(agent.attempt(_problem(str(i)), 1) for i in range(n)))
        found[f"tokens a pass, {name}"] = engine.n_tokens / max(1, engine.passes)
        found[f"tokens a second, {name}"] = engine.n_tokens / (time.perf_counter() - begun)
    return found


async def turns(policy: Policy, options: Options) -> dict[str, float]:
    """Prompt tokens read, and seconds, of one attempt of all its steps; the median of three. Both ways say the same."""
    found, said = {}, []
    for name, memory_bytes in (("remembered", MEMORY_BYTES), ("anew", 0)):
        taken = []
        for _ in range(3):
            engine = LocalEngine(policy, memory_bytes=memory_bytes)
            speaker = _Cut(engine, policy.renderer, Sampling(max_tokens=options.tokens))
            begun = time.perf_counter()
            (rollout,) = await ToolAgent(speaker, Calling((tool(calculator),)), Limits(options.steps)).attempt(_problem("turns"), 1)
            taken.append(time.perf_counter() - begun)
        said.append([completion.token_ids for completion in rollout.completions])
        found |= {f"read, {name}": engine.n_read, f"seconds, {name}": median(taken)}
    return found | {"turns alike": sum(a == b for a, b in zip(*said, strict=True))}


@dataclass(frozen=True)
class _Cut(LocalSpeaker):
    """Whatever the model says is followed by a question, so that every attempt has all its turns."""

    async def speak(self, *asked):
        return [replace(spoken, finished=True, complaints=("go on",), message=Message("assistant", "…")) for spoken in await super().speak(*asked)]


def _problem(name: str) -> Problem:
    return Problem(name, (Message("user", "What is 12*(3+4)? Answer with the number only."),), "84")


def _check(rollouts: Sequence[Rollout], options: Options) -> None:
    if any(len(r.completions) != options.steps or r.messages[1].content != "84" for r in rollouts):
        raise UserError("the calculator was not called: take a --model whose calls are written in words, such as smollm2")


def rows(times: dict[str, list[float]], counted: dict[str, float]) -> list[list[str]]:
    """The table's rows, its header first."""
    found = [["side", "median", "lowest", "highest"]]
    found += [[f"{name}, ms", *(f"{value:.2f}" for value in (median(taken), min(taken), max(taken)))] for name, taken in times.items()]
    return found + [[name, f"{value:.2f}" if name.startswith("seconds") else f"{value:.1f}", "", ""] for name, value in counted.items()]


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m benchmarks.agent_overhead`: exits with 2 on bad input, said in one sentence."""
    benchmark.main("benchmarks.agent_overhead", "agents beside their model", __doc__, Options, _found, argv)


def _found(options: Options) -> Found:
    policy = load_policy(options.model)
    times = asyncio.run(step_times(policy.renderer, options))
    counted = asyncio.run(passes(policy, options)) | asyncio.run(turns(policy, options))
    verdict = "is reached" if median(times["a step"]) < GOAL_MS else "is NOT reached"
    return Found(
        rows(times, counted), {"milliseconds": times, "counted": counted}, f"{options.repeats} attempts of {options.steps} steps",
        remarks=[f"The goal, {GOAL_MS:g} ms for `a step` that is appended to a file as it happens, {verdict}."],
    )  # fmt: skip


if __name__ == "__main__":
    main()
