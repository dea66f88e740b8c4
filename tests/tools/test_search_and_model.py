"""Search over whatever finds passages, and another agent as a tool."""

from __future__ import annotations

import asyncio

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.retrieval.tfidf import TfIdf
from posttrain.retrieval.passages import Passage
from posttrain.tools.model import agent_tool
from posttrain.agents.toolboxes import load_tools
from posttrain.retrieval.index import IndexSettings, build
from posttrain.tools.search import search_tool
from posttrain.types import Agent, Problem, Rollout, Sampling, ToolError

LIBRARY = [Passage(name, text, 0.0, name, 0, len(text)) for name, text in (("bees", "Bees make honey."), ("whales", "Whales sing."), ("ants", "Ants and bees dig."))]


def test_a_retriever_and_functions_of_both_kinds_can_be_searched() -> None:
    retriever = TfIdf(LIBRARY)

    async def waits(query: str, k: int) -> list[Passage]:
        return retriever.search(query, k)

    for source in (retriever, retriever.search, waits):
        found = asyncio.run(search_tool(source)({"query": "bees honey"}))
        assert found == "[bees]\nBees make honey.\n\n[ants]\nAnts and bees dig."
        assert asyncio.run(search_tool(source)({"query": "bees", "k": 1})).count("[") == 1
        assert asyncio.run(search_tool(source)({"query": "zebra"})) == "nothing was found"
    with pytest.raises(ToolError, match="from 1 to 20"):
        asyncio.run(search_tool(retriever)({"query": "bees", "k": 0}))


def asked(agent: Agent, *questions: str) -> list[str]:
    tool = agent_tool(agent, "expert", "Knows sums.")
    assert tool.schema["function"]["name"] == "expert" and tool.description == "Knows sums."
    return [asyncio.run(tool({"question": question})) for question in questions]


def test_the_hash_of_an_index_stands_in_what_the_model_reads_of_the_tool(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "bees.txt").write_text("Bees make honey.")
    manifest = build(tmp_path / "documents", tmp_path / "index", IndexSettings(vectors=False, engine="lines")).manifest
    (made,) = load_tools(f"search:index={tmp_path / 'index'}")
    assert made.description.endswith(f"(library {manifest.sha256[:12]})")
    assert "[bees.txt:0-16]\nBees make honey." in asyncio.run(made({"query": "honey"}))


def test_another_agent_answers_and_each_asking_is_an_attempt_of_its_own() -> None:
    first, again = asked(ScriptedAgent(lambda problem, sample, seed: f"{problem.messages[0].content} {seed}"), "2+2?", "2+2?")
    assert first.startswith("2+2? ") and first != again


def test_an_agent_that_failed_or_was_broken_off_is_told_of() -> None:
    def fail(problem: Problem, sample: int, seed: int) -> str:
        raise OSError("no line")

    with pytest.raises(ToolError, match="expert failed: OSError: no line"):
        asked(ScriptedAgent(fail), "?")
    assert asked(ScriptedAgent(lambda *_: "forty-two", Sampling(max_tokens=5)), "?") == ["forty\n(it was broken off: it ran out of tokens)"]


def test_siblings_of_one_tool_do_not_share_its_words() -> None:
    rollouts: list[Rollout] = []

    class Keeping:
        async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
            rollouts.extend(await ScriptedAgent(lambda *_: "x").attempt(problem, n, seed))
            return rollouts[-n:]

    asked(Keeping(), "a", "b")
    assert [r.problem.id for r in rollouts] == ["expert/0", "expert/1"]
