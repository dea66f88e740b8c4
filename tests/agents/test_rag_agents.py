"""Agents that read sources: what they show, what they leave out, when they abstain, and what they keep of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from posttrain.agents.rag import Hybrid, LongContext, Rag, Reader
from posttrain.evals.records import Attempt, Record, record_from, record_row
from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.retrieval.tfidf import TfIdf
from posttrain.rewards.abstention import ABSTAINED
from posttrain.types import Completion, Message, Problem, Sampling, Score, UserError
from tests.retrieval.library import passages_of

RENDERER = Renderer(tiny_tokenizer())
LIBRARY = passages_of("The cat of Velmora is red.", "The dog of Velmora is blue.", "The wine of Velmora is old.")
PROBLEM = Problem("p", (Message("system", "Be kind."), Message("user", "Which colour has the dog of Velmora?")), "blue")


@dataclass
class Says:
    """An engine that says what a function makes of the prompt's text; its tokens are the tiny tokenizer's bytes."""

    answer: Callable[[str], str]
    prompts: list[str] = field(default_factory=list)

    async def sample(self, prompt_token_ids: Sequence[int], n: int, sampling: Sampling, stop_token_ids: Sequence[int] = ()) -> list[Completion]:
        self.prompts.append(RENDERER.decode(prompt_token_ids))
        tokens = (*RENDERER.encode(self.answer(self.prompts[-1])), stop_token_ids[0])
        return [Completion(tuple(prompt_token_ids), tokens, (0.0,) * len(tokens), "stop", sampling, i) for i in range(n)]


def reader(answer: Callable[[str], str], context_tokens: int = 2_000, **settings) -> Reader:
    return Reader(Says(answer), RENDERER, context_tokens, Sampling(0.0, 50), corpus_sha256="hash", **settings)


def attempts(agent, problem: Problem = PROBLEM, n: int = 1):
    return asyncio.run(agent.attempt(problem, n))


def blue(prompt: str) -> str:
    return "The dog of Velmora is blue [1]." if "is blue" in prompt else "I do not know."


def shown(rollout, lookup: int = 0) -> list[str]:
    return [source.id for source in rollout.retrievals[lookup].shown]


def test_what_is_found_stands_numbered_above_the_question_and_what_came_before_it_stays():
    made = reader(blue)
    (rollout,) = attempts(Rag(made, TfIdf(LIBRARY), k=2))
    (prompt,) = made.engine.prompts
    assert shown(rollout) == ["p1", "p0"]
    assert prompt.index("Be kind.") < prompt.index("[1] The dog") < prompt.index("[2] The cat") < prompt.index("Question: Which colour")
    assert "wine" not in prompt and rollout.text == "The dog of Velmora is blue [1]."


def test_an_attempt_keeps_the_exact_tokens_and_what_was_searched():
    (rollout,) = attempts(Rag(reader(blue), TfIdf(LIBRARY), k=1))
    (completion,), (retrieval,) = rollout.completions, rollout.retrievals
    assert RENDERER.decode(completion.prompt_token_ids).count("The dog of Velmora is blue.") == 1
    assert (retrieval.query, retrieval.corpus_sha256) == (PROBLEM.messages[-1].content, "hash")
    (source,) = retrieval.shown
    assert (source.document, source.start, source.end, source.text) == ("p1", 0, 27, LIBRARY[1].text) and source.score > 0
    record = Record(PROBLEM, (Attempt(rollout, Score(1.0)),))
    assert record_from(record_row(record)) == record


def test_what_does_not_fit_is_named_and_the_prompt_never_exceeds_the_context():
    for context in range(420, 600, 7):
        made = reader(blue, context)
        try:
            (rollout,) = attempts(LongContext(made, LIBRARY))
        except UserError as error:
            assert "fits into a context" in str(error) or "does not fit" in str(error)
            continue
        (completion,) = rollout.completions
        left_out = list(rollout.retrievals[0].left_out)
        assert len(completion.prompt_token_ids) + 50 <= context
        assert sorted(shown(rollout) + left_out) == ["p0", "p1", "p2"]
        assert left_out == [p.id for p in LIBRARY if p.text not in made.engine.prompts[0]]
    assert left_out == []


def test_a_passage_too_long_is_skipped_for_a_shorter_one():
    long = passages_of("Velmora " * 200, "The dog of Velmora is blue.")
    (rollout,) = attempts(LongContext(reader(blue, 800), long))
    assert shown(rollout) == ["p1"] and rollout.retrievals[0].left_out == ("p0",)
    with pytest.raises(UserError, match="none of 1 passages fits"):
        attempts(LongContext(reader(blue, 800), long[:1]))


def test_where_nothing_is_found_the_model_is_not_asked():
    made = reader(blue)
    rollouts = attempts(Rag(made, TfIdf(LIBRARY)), Problem("q", (Message("user", "Zebra?"),), ""), 2)
    assert [r.text for r in rollouts] == [ABSTAINED] * 2 and made.engine.prompts == [] and [r.sample for r in rollouts] == [0, 1]


def test_an_answer_that_nothing_shown_bears_out_is_taken_back_and_kept_on_record():
    (rollout,) = attempts(Rag(reader(lambda _: "It is green."), TfIdf(LIBRARY)))
    assert [m.content for m in rollout.messages] == ["It is green.", ABSTAINED]
    (unchecked,) = attempts(Rag(reader(lambda _: "It is green.", checks=False), TfIdf(LIBRARY)))
    assert unchecked.text == "It is green."


def test_the_hybrid_reads_everything_only_where_the_first_try_abstains():
    made = reader(blue)
    (hit,) = attempts(Hybrid(Rag(made, TfIdf(LIBRARY), 1), LongContext(made, LIBRARY)))
    assert len(hit.completions) == 1 and hit.text.startswith("The dog")
    (fell_back,) = attempts(Hybrid(Rag(made, TfIdf(LIBRARY[:1]), 1), LongContext(made, LIBRARY)))
    assert len(fell_back.completions) == 2 and fell_back.text.startswith("The dog")
    assert (shown(fell_back, 0), shown(fell_back, 1)) == (["p0"], ["p0", "p1", "p2"])
    assert fell_back.n_tokens == sum(len(c.token_ids) for c in fell_back.completions)


def test_only_the_attempts_that_abstained_are_made_again():
    said = iter(["I do not know.", "blue"])
    made = reader(lambda _: next(said))
    rollouts = attempts(Hybrid(Rag(made, TfIdf(LIBRARY)), LongContext(made, LIBRARY)), n=3)
    assert [len(r.completions) for r in rollouts] == [2, 2, 2] and [r.sample for r in rollouts] == [0, 1, 2]
    assert [r.text for r in rollouts] == ["blue"] * 3


@pytest.mark.parametrize("agent", [Rag(reader(blue), TfIdf(LIBRARY)), LongContext(reader(blue), LIBRARY)], ids=["rag", "long"])
def test_an_empty_question_is_refused(agent):
    with pytest.raises(UserError, match="question is empty"):
        attempts(agent, Problem("q", (Message("user", " \n"),), ""))


def test_a_question_longer_than_the_context_is_refused():
    with pytest.raises(UserError, match="question alone does not fit"):
        attempts(Rag(reader(blue, 100), TfIdf(LIBRARY)))
