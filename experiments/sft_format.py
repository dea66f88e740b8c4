"""Does SFT teach a format, and leave knowledge as it was?

The format is a reply inside <answer> tags and nothing else. It is taught twice, with as many conversations: by sums alone, and by
sums and requests about other things in equal parts, these answered with the model's own first sentence, so that nothing new is to be known.
Then each model is asked new sums, and common facts that no conversation was about. Compliance is the share of replies that are
one pair of tags and nothing else, judged by a regular expression. Knowledge is read twice: from what is said (accuracy on `facts`; an
answer counts wherever it stands) and from what is likely (which of four cities is a country's capital, by the log-prob of the city's
name per byte inside the format that the model speaks), beside the log-likelihood of a novella. LIMA's claim (2305.11206) is that
alignment teaches a format, that the knowledge is there already, and that diverse examples teach it better; here at the scale of one
format and 135M weights.

What would make this dishonest: judging compliance by an instruction that stands in the prompt (none does); measuring
knowledge only on the format's own task; an accuracy on facts that rises because short answers are easier to get right (it counts
an answer anywhere, so that short replies can only lose); leaving out the arm that loses knowledge. One seed: the intervals are over problems, of
one training in either arm, so that a small difference of the arms (the novella's, say) may be the trainings' luck and not the data's.

    python -m experiments.sft_format

Measured (2026-11-25, 5 min on 2 cores, seed 0): the format is learned nearly whole where it was shown and for two replies in three where it was
not. What the model knows stays: the likeliest capital is right as often as before. What it says does not: sampled at temperature 1, one tagged
phrase names the right answer less often than 32 tokens of talk did. Diverse examples bought neither a wider format nor better
answers than sums alone, and cost a little of the novella: against LIMA's claim on diversity, as far as one seed goes.

- compliance on sums: 0.000 [0.000 0.059] (n 64) before; sums alone: 0.973 [0.938 0.988] (n 64), change 0.973 [0.904
  0.988] (n 64); sums and requests: 0.988 [0.957 0.997] (n 64), change 0.988 [0.922 0.997] (n 64)
- compliance on facts: 0.000 [0.000 0.059] (n 64) before; sums alone: 0.684 [0.619 0.742] (n 64), change 0.684 [0.596
  0.742] (n 64); sums and requests: 0.672 [0.600 0.736] (n 64), change 0.672 [0.579 0.736] (n 64)
- accuracy on facts: 0.316 [0.251 0.390] (n 64) before; sums alone: 0.184 [0.127 0.258] (n 64), change -0.133 [-0.218
  -0.043] (n 64); sums and requests: 0.188 [0.136 0.253] (n 64), change -0.129 [-0.206 -0.050] (n 64)
- capitals by likelihood: 0.859 [0.740 0.929] (n 32) before; sums alone: 0.922 [0.801 0.972] (n 32), change 0.062
  [-0.060 0.179] (n 32); sums and requests: 0.891 [0.776 0.950] (n 32), change 0.031 [-0.084 0.148] (n 32)
- log-likelihood of the novella, nats per token, change: sums alone 0.0036 [0.0006 0.0065] (n 23); sums and requests
  -0.0118 [-0.0162 -0.0073] (n 23)
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from experiments.common import TEMPLATES, THINGS, record, spoken, write_jsonl
from posttrain.agents.loop import ModelAgent
from posttrain.algorithms import sft
from posttrain.engine.local import LocalEngine
from posttrain.evals import heldout
from posttrain.evals.measure import judge
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.rewards.format import matches
from posttrain.seeds import fold
from posttrain.statistics import paired_difference, paired_rate_difference, rate_over_problems
from posttrain.tasks import load
from posttrain.tasks.capitals import Capitals
from posttrain.types import Measurement, Message, Problem, Rollout, Sampling, Task

TAGGED = r"<answer>[^<>]*</answer>"
RATES = ("compliance on sums", "compliance on facts", "accuracy on facts", "capitals by likelihood")


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    model: str = "smollm2"
    out: Path = Path("runs/experiments/sft_format")
    steps: int = 30
    conversations: int = 480
    problems: int = 64
    samples: int = 4
    max_tokens: int = 32
    seed: int = 0
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=2e-5, warmup_steps=5))


async def run(config: Config) -> None:
    """Train twice, measure three models, record."""
    started = time.perf_counter()
    config.out.mkdir(parents=True, exist_ok=True)
    sums, facts = load(f"arithmetic:n_train={config.conversations}"), load("facts")
    narrow = [_row(p.messages[-1].content, sums.solution(p)) for p in sums.problems("train")]
    half = config.conversations // 2
    diverse = [row for pair in zip(narrow[:half], await own_sentences(half, config), strict=True) for row in pair]
    models = {"before": config.model}
    for name, rows in (("sums alone", narrow), ("sums and requests", diverse)):
        data, out = config.out / f"{name.replace(' ', '_')}.jsonl", config.out / name.replace(" ", "_")
        write_jsonl(data, rows)
        await sft.train(sft.Config(model=config.model, data=str(data), out=out, steps=config.steps, seed=config.seed, optim=config.optim))
        models[name] = str(out)
    read = {name: await measured(model, name != "before", sums, facts, config) for name, model in models.items()}
    found = {name: figures(read["before"], values) for name, values in read.items()}
    record(__file__, config.out, config, found, lines_of(found), started)


def figures(before: dict[str, list[float]], now: dict[str, list[float]]) -> dict[str, dict[str, Measurement]]:
    """Each quantity of one model, with its paired change since before."""
    rates = {name: {"value": rate_over_problems(now[name]), "change": paired_rate_difference(before[name], now[name])} for name in RATES}
    return rates | {"novella": {"change": paired_difference(before["novella"], now["novella"], "nats")}}


def lines_of(found: dict[str, dict[str, dict[str, Measurement]]]) -> list[str]:
    """One line for each quantity: before, and after each of the two trainings."""
    arms = [name for name in found if name != "before"]
    lines = [
        f"{name}: {spoken(found['before'][name]['value'])} before"
        + "".join(f"; {arm}: {spoken(found[arm][name]['value'])}, change {spoken(found[arm][name]['change'])}" for arm in arms)
        for name in RATES
    ]
    novella = "; ".join(f"{arm} {spoken(found[arm]['novella']['change'], 4)}" for arm in arms)
    return [*lines, f"log-likelihood of the novella, nats per token, change: {novella}"]


async def own_sentences(n: int, config: Config) -> list[dict]:
    """Requests about things, each answered by the first sentence of an answer of the model itself."""
    policy = load_policy(config.model)
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(0.7, config.max_tokens))
    requests = [Problem(text, (Message("user", text),), "") for text in (t.format(thing) for thing in THINGS for t in TEMPLATES)]
    groups = await asyncio.gather(*(agent.attempt(p, 1 + -(-n // len(requests)), fold(config.seed, "sentences")) for p in requests))
    rows = [_row(p.id, first) for p, group in zip(requests, groups, strict=True) for r in group if (first := _first_sentence(r.text))]
    if len(rows) < n:
        raise ValueError(f"only {len(rows)} of {n} answers have a first sentence: raise max_tokens")
    return rows[:n]


def _first_sentence(text: str) -> str:
    """Up to the first full stop; empty where there is none, or markup in it."""
    head, stop, _ = text.strip().partition(".")
    return head + stop if stop and not set("<>\n") & set(head) else ""


def _row(request: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": request}, {"role": "assistant", "content": f"<answer>{answer}</answer>"}]}


async def measured(model: str, is_tagged: bool, sums: Task, facts: Task, config: Config) -> dict[str, list[float]]:
    """Per problem: compliance on both tasks and accuracy on facts; per country: whether its capital is the likeliest city; per document
    of the novella: log-likelihood per token."""
    policy = load_policy(model)
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(1.0, config.max_tokens))
    tagged = matches(TAGGED)
    found: dict[str, list[float]] = {}
    for name, task in (("sums", sums), ("facts", facts)):
        problems = list(task.problems("test"))[: config.problems]
        groups = await asyncio.gather(*(agent.attempt(p, config.samples, fold(config.seed, "measure")) for p in problems))
        found[f"compliance on {name}"] = [await _mean(tagged, group) for group in groups]
        if name == "facts":
            found["accuracy on facts"] = [await _accuracy(task, group) for group in groups]
    found["capitals by likelihood"] = _capitals(policy, "<answer>" if is_tagged else "")
    texts = heldout.documents(policy.renderer.encode)
    likelihood = heldout.log_likelihood(texts, policy.renderer.encode, policy)
    return found | {"novella": [a / b for a, b in zip(likelihood.logprobs, likelihood.n_tokens, strict=True)]}


def _capitals(policy: Policy, opening: str) -> list[float]:
    """For each country, how often its capital is the likeliest of four cities per byte, behind what a reply begins with."""
    task, encode = Capitals(), policy.renderer.encode
    problems = task.problems("test")
    choices = [task.choice(problem) for problem in problems]
    asked = [((*policy.renderer.prompt(choice.messages), *encode(opening)), encode(option)) for choice in choices for option in choice.options]
    scored = iter(policy.score_tokens(asked))
    by_country: dict[str, list[float]] = {}
    for problem, choice in zip(problems, choices, strict=True):
        per_byte = [sum(next(scored)[0]) / len(option.encode()) for option in choice.options]
        by_country.setdefault(problem.data["cluster"], []).append(float(per_byte.index(max(per_byte)) in choice.right))
    return [sum(hits) / len(hits) for hits in by_country.values()]


async def _mean(reward, group: list[Rollout]) -> float:
    scores = await asyncio.gather(*(reward(rollout) for rollout in group))
    return sum(s.value for s in scores) / len(scores)


async def _accuracy(task: Task, group: list[Rollout]) -> float:
    scores = await asyncio.gather(*(judge(task, rollout) for rollout in group))
    return sum(s.value for s in scores) / len(scores)


def main() -> None:
    import tyro

    asyncio.run(run(tyro.cli(Config)))


if __name__ == "__main__":
    main()
