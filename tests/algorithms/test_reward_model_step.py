"""A reward model's step: its gradient by hand and under any split, and what is measured on rows held out."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification

from posttrain.algorithms.reward_model import Config, Learner, Read, descend, heldout_metrics
from posttrain.batching import TokenSequence
from posttrain.policy.scalar import ScalarModel, load_scalar
from posttrain.training.loop import Trained
from posttrain.training.rewards import last_token
from tests.algorithms.gradient import CLOSE
from tests.algorithms.toy import difference
from tests.training.steps import ONE_ROW, ROW_TOKENS, collected, sequences, still

OUTCOME = Config(data="-", tokens_per_batch=ONE_ROW)
VARIANTS = {
    "preferences": OUTCOME,
    "without margins": replace(OUTCOME, use_margins=False),
    "centred": replace(OUTCOME, centering=0.3),
    "steps": replace(OUTCOME, kind="process"),
}
every_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)


@cache
def model() -> ScalarModel:
    torch.manual_seed(1)
    made = load_scalar("tiny", "float32")
    with torch.no_grad():
        made.base.score.weight *= 5
    return made


def rows(config: Config) -> list[Read]:
    """Pairs with a margin each, or answers of which some steps end at a labelled token."""
    attempts = sequences()
    if config.kind == "outcome":
        read = [last_token(s.prompt, s.tokens) for s in attempts]
        return [Read((a, b), margin=0.1 * i) for i, (a, b) in enumerate(zip(read[0::2], read[1::2], strict=True))]
    found = []
    for i, s in enumerate(attempts):
        marks = tuple(t % 3 == i % 3 or t + 1 == len(s.tokens) for t in range(len(s.tokens)))
        found.append(Read((TokenSequence(s.prompt, s.tokens, marks),), labels=tuple(float((i + t) % 2) for t in range(sum(marks)))))
    return found


def step(config: Config) -> tuple[list[Tensor], dict[str, float]]:
    learner = Learner(Trained(model(), still(model())), [], [], config)
    found: dict[str, float] = {}
    return collected(model(), lambda: found.update(descend(learner, rows(config)))), found


def by_hand(config: Config) -> tuple[Tensor, list[Tensor]]:
    """The loss, and the weights of transformers' own classifier in float64, each text read alone."""
    base = model().base
    twin = AutoModelForSequenceClassification.from_config(copy.deepcopy(base.config), attn_implementation="eager").double()
    twin.load_state_dict(base.state_dict())
    twin.model.embed_tokens.padding_idx = None  # the product trains that row like any other

    def read(s: TokenSequence) -> Tensor:
        hidden = twin.model(input_ids=torch.tensor([s.prompt + s.tokens]), use_cache=False).last_hidden_state[0, len(s.prompt) :]
        return twin.score(hidden[torch.tensor(s.predicted)])[:, 0]

    total, n = torch.zeros((), dtype=torch.float64), 0
    for row in rows(config):
        if config.kind == "outcome":
            chosen, rejected = (read(s)[0] for s in row.sequences)
            gap = chosen - rejected - (row.margin if config.use_margins else 0.0)
            total, n = total - logsigmoid(gap) + config.centering * (chosen + rejected) ** 2, n + 1
        else:
            for logit, label in zip(read(row.sequences[0]), row.labels, strict=True):
                total, n = total - (logsigmoid(logit) if label else logsigmoid(-logit)), n + 1
    return total / n, list(twin.parameters())


@every_variant
def test_the_gradient_is_that_of_the_formula_on_texts_read_alone(config: Config) -> None:
    gradient, metrics = step(config)
    loss, parameters = by_hand(config)
    assert metrics["loss/mean"] == pytest.approx(loss.item(), rel=1e-4)
    assert difference(gradient, torch.autograd.grad(loss, parameters)) < CLOSE


@every_variant
def test_any_split_into_rows_gives_the_same_gradient(config: Config) -> None:
    whole, metrics = step(config)
    for tokens in ROW_TOKENS:
        cut, cut_metrics = step(replace(config, tokens_per_batch=tokens))
        assert difference(cut, whole) < CLOSE
        assert cut_metrics == pytest.approx(metrics, rel=1e-3)


def test_held_out_accuracy_margin_and_confidence_by_hand() -> None:
    pairs = [replace(pair, sequences=pair.sequences[::-1]) if i % 3 == 0 else pair for i, pair in enumerate(rows(OUTCOME))]
    found = heldout_metrics(Learner(Trained(model(), still(model())), [], pairs, OUTCOME))
    values = [model().score(list(pair.sequences)).tolist() for pair in pairs]
    gaps = [a - b for a, b in values]
    assert found["heldout/accuracy"] == pytest.approx(sum(g > 0 for g in gaps) / len(gaps)) and found["heldout/n"] == len(gaps) == 8
    assert 0 < found["heldout/accuracy"] < 1 and found["heldout/accuracy_low"] < found["heldout/accuracy"] < found["heldout/accuracy_high"]
    assert found["heldout/margin"] == pytest.approx(sum(gaps) / len(gaps), abs=1e-5)
    bins: dict[int, list[float]] = {}
    for gap in gaps:
        confidence = 1 / (1 + math.exp(-abs(gap)))
        bins.setdefault(min(14, int(confidence * 15)), []).append((gap > 0) - confidence)
    assert found["heldout/ece"] == pytest.approx(sum(abs(sum(b)) for b in bins.values()) / len(gaps), abs=1e-5)
    assert 0 < found["heldout/ece_by_chance"] < found["heldout/ece_by_chance_high"] and found["heldout/ece_low"] <= found["heldout/ece"] <= found["heldout/ece_high"]


def test_a_steps_accuracy_is_over_steps_and_its_interval_over_answers() -> None:
    config = VARIANTS["steps"]
    answers = rows(config)
    found = heldout_metrics(Learner(Trained(model(), still(model())), [], answers, config))
    assert found["heldout/n"] == len(answers) == 16
    shares = []
    for row in answers:
        logits = model().score(list(row.sequences)).tolist()
        shares.append(sum((x > 0) == (y > 0.5) for x, y in zip(logits, row.labels, strict=True)) / len(logits))
    assert found["heldout/accuracy"] == pytest.approx(sum(shares) / len(shares))
