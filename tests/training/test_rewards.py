"""Rewards by name: where a reward model reads, what a process reward model makes of steps, and rules that anyone can check."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from posttrain.batching import TokenSequence, pack
from posttrain.data.pairs import Pair
from posttrain.data.steps import Steps
from posttrain.policy import attention
from posttrain.policy.lora import LoraConfig
from posttrain.policy.scalar import ScalarModel, load_scalar
from posttrain.rewards.learned import Learned
from posttrain.rewards.weighted import Reward
from posttrain.training.pairs import PairTokens
from posttrain.training.process import ProcessReader, steps_of, steps_sequence
from posttrain.training.rewards import ConversationReader, last_token, load_reward
from posttrain.types import Message, Problem, Rollout, Score, UserError, answered
from tests.small_models import EOS

ASKED = Problem("1", (Message("user", "Add 1 and 2."),), "3")


@cache
def scalar() -> ScalarModel:
    torch.manual_seed(0)
    model = load_scalar("tiny", "float32")
    with torch.no_grad():
        model.base.score.weight.normal_(0, 1)
    return model


def alone(tokens: tuple[int, ...]) -> float:
    """The head at the last token, by transformers' own trunk and one product."""
    model = scalar()
    model.base.set_attn_implementation("eager")
    with torch.no_grad():
        hidden = model.base.model(input_ids=torch.tensor([tokens])).last_hidden_state[0, -1]
    model.base.set_attn_implementation(attention.NAME)
    return (hidden @ model.base.score.weight[0]).item()


def judged(reward: Reward, text: str, problem: Problem = ASKED) -> Score:
    return asyncio.run(_first(reward, answered(problem, text)))


async def _first(reward: Reward, rollout: Rollout) -> Score:
    return await reward(rollout)


# --------------------------------------------------------------------------------------------------- where a text is read


@pytest.mark.parametrize(
    "tokens",
    [(1, 2, EOS, 4, 5), (1, EOS, EOS, 4, EOS), (EOS, 2, 3, EOS, EOS), (1, 2, 3, 4)],
    ids=["an end inside", "an end inside and behind", "nothing but padding at both ends", "no end"],
)
def test_a_text_is_read_at_its_end_whatever_token_stands_there_or_before(tokens: tuple[int, ...]) -> None:
    """The end of turn is the padding token too: who looks for the first padding reads at the wrong place."""
    model = scalar()
    assert model.base.config.pad_token_id == EOS
    longer = last_token((1, 2), (3, EOS, 5, 6, 7, 8))
    read = model.score([longer, last_token(tokens[:1], tokens[1:]), longer])
    assert read[1].item() == pytest.approx(alone(tokens), abs=1e-5)
    assert read[0].item() == pytest.approx(read[2].item(), abs=1e-5) and read[0] != read[1]


def test_an_answer_of_a_conversation_with_ends_of_turn_in_it_is_read_at_its_own_end() -> None:
    model = scalar()
    talk = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "1+2?"))
    reader = ConversationReader(model)
    three, four = reader([(*talk, Message("assistant", "3")), (*talk, Message("assistant", "4"))])
    whole = model.renderer.prompt(talk) + tuple(model.renderer.encode("3")) + (EOS,)
    assert three == pytest.approx(alone(whole), abs=1e-5) and three != four
    assert whole.count(EOS) == 4


def test_an_answer_is_judged_where_it_was_learned() -> None:
    """The reward's own reading of a conversation ends in the very token at which a pair of it was trained."""
    model = scalar()
    prompt, answer = ASKED.messages, (Message("assistant", "It is 3."),)
    pair = PairTokens.of(model.renderer, Pair("1", prompt, answer, (Message("assistant", "4"),)))
    read = ConversationReader(model).tokens((*prompt, *answer))
    assert read.prompt + read.tokens == pair.chosen.prompt + pair.chosen.tokens


def test_an_answer_to_a_prompt_with_tools_is_judged_where_it_was_learned_by_the_reward_that_a_rollout_gets() -> None:
    model, answer = scalar(), (Message("assistant", "It is 3."),)
    tools = ({"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {"type": "object"}}},)
    pair = PairTokens.of(model.renderer, Pair("1", ASKED.messages, answer, (Message("assistant", "4"),), tools=tools))
    learned = Learned(ConversationReader(model))
    told, bare = (asyncio.run(learned(Rollout(replace(ASKED, data=data), answer))).value for data in ({"tools": tools}, {}))
    assert told == pytest.approx(alone(pair.chosen.prompt + pair.chosen.tokens), abs=1e-5) and told != pytest.approx(bare, abs=1e-5)


# -------------------------------------------------------------------------------------------------------------------- steps


def test_a_step_is_marked_at_the_last_token_that_its_own_text_adds() -> None:
    renderer = scalar().renderer
    sequence = steps_sequence(renderer, ASKED.messages, ["so", "1+2", "3"], "\n")
    assert sequence.prompt == renderer.prompt(ASKED.messages) and sequence.tokens == tuple(renderer.encode("so\n1+2\n3"))
    assert [renderer.decode(sequence.tokens[: i + 1]) for i, mark in enumerate(sequence.predicted or ()) if mark] == ["so\n", "so\n1+2\n", "so\n1+2\n3"]


def test_blank_lines_are_no_steps() -> None:
    assert steps_of("so\n\n1+2\n \n3\n", "\n") == ["so", "1+2", "3"]
    assert steps_of("one. two. ", ". ") == ["one", "two"]


@pytest.mark.parametrize("aggregate", ["min", "product", "last"])
def test_an_answer_is_worth_the_least_the_product_or_the_last_of_its_steps_chances(aggregate) -> None:
    model = scalar()
    texts = ["so\n1+2\n3", "3"]
    found = ProcessReader(model, aggregate)([(*ASKED.messages, Message("assistant", text)) for text in texts])
    for text, score in zip(texts, found, strict=True):
        row = Steps("1", ASKED.messages, tuple(text.split("\n")), (1.0,) * (text.count("\n") + 1))
        learned = steps_sequence(model.renderer, row.prompt, row.steps, "\n")
        p = [1 / (1 + torch.tensor(-x).exp().item()) for x in model.score([learned]).tolist()]
        product = torch.tensor(p).prod().item()
        assert score.value == pytest.approx({"min": min(p), "product": product, "last": p[-1]}[aggregate], rel=1e-4)
        assert 0 < score.value < 1 and score.parts == {"steps": len(p)}


def test_an_answer_without_steps_or_too_long_to_be_read_is_unscored() -> None:
    blank, long, fine = ProcessReader(scalar())([(*ASKED.messages, Message("assistant", text)) for text in (" \n", "la " * 300, "3")])
    assert blank.is_unscored and "no step" in blank.explanation
    assert long.is_unscored and "context of 512" in long.explanation and not fine.is_unscored


def test_a_head_that_is_broken_scores_nothing() -> None:
    model = scalar().frozen_copy()
    model.base.score.weight.data.fill_(float("nan"))
    assert all(s.is_unscored for s in ProcessReader(model)([(*ASKED.messages, Message("assistant", text)) for text in ("so\n3", "3")]))


@pytest.mark.parametrize("lora", [None, LoraConfig(2)], ids=["all weights", "adapter"])
def test_a_process_reward_model_remembers_what_stands_between_its_steps(lora: LoraConfig | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = load_scalar("tiny", "float32", lora)
    model.step_separator = "; "
    model.save(tmp_path)
    again = load_scalar(str(tmp_path), "float32")
    assert again.step_separator == "; "
    (ours,) = ProcessReader(model)([(*ASKED.messages, Message("assistant", "so; 3"))])
    theirs = judged(load_reward(f"process:{tmp_path}", "float32"), "so; 3")
    assert theirs.value == pytest.approx(ours.value) and theirs.parts == {"steps": 2}
    assert judged(load_reward(f"process:product:{tmp_path}", "float32"), "so; 3").value < theirs.value


def test_what_judges_steps_is_not_taken_for_what_judges_answers(tmp_path: Path) -> None:
    outcome, process = load_scalar("tiny", "float32"), load_scalar("tiny", "float32")
    process.step_separator = "\n"
    for name, model in (("outcome", outcome), ("process", process)):
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    with pytest.raises(UserError, match=f"single steps: say process:{tmp_path}/process"):
        load_reward(f"model:{tmp_path}/process")
    with pytest.raises(UserError, match=f"whole answers: say model:{tmp_path}/outcome"):
        load_reward(f"process:{tmp_path}/outcome")
    with pytest.raises(UserError, match="is no reward model"):
        load_reward("process:tiny")


# ---------------------------------------------------------------------------------------------------------- rules, and judges


def test_the_length_reward_by_hand() -> None:
    reward = load_reward("length:4")
    assert [judged(reward, "word " * n).value for n in (0, 2, 4, 5, 8, 20)] == [0, 0.5, 1, 0.75, 0, 0]


def test_the_format_reward_looks_at_the_whole_answer() -> None:
    reward = load_reward("format:[0-9]+")
    assert [judged(reward, text).value for text in ("42", " 42\n", "42!")] == [1, 1, 0]


def test_a_language_model_is_a_judge_by_its_name() -> None:
    score = judged(load_reward("judge:tiny", "float32"), "3")
    assert 0 < score.value < 1 and sum(score.parts.values()) == pytest.approx(1)


@pytest.mark.parametrize("spec", ["", "karma", "karma:5", "length:0", "length:-1", "length:two", "format:(", "model:"])
def test_a_reward_that_does_not_exist_is_named(spec: str) -> None:
    with pytest.raises(UserError, match="reward|length|format"):
        load_reward(spec)


def test_packing_does_not_change_what_is_read() -> None:
    model = scalar()
    texts = [last_token((1, 2, EOS), tuple(range(10, 10 + n))) for n in (1, 5, 17, 3)]
    apart = torch.cat([model.score([text]) for text in texts])
    assert torch.allclose(model.score(texts), apart, atol=1e-6) and len(pack(texts, 4096)) == 1


def test_a_sequence_needs_something_to_be_read_at() -> None:
    with pytest.raises(ValueError, match="prompt token"):
        TokenSequence((), (1,))
