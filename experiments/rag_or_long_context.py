"""Retrieve, or put everything in? And where does each go wrong?

Invented facts (`tasks/invented.py`), so that nothing can be known beforehand, in worlds small enough that all documents fit into the
context: the long-context arm leaves nothing out, which is checked. One reader, one set of questions: closed book (a leak would show there),
RAG with TF-IDF's five best, everything in, and the hybrid that tries RAG and falls back (Self-Route, 2407.16833). RAG and long context once
more without the check that turns an answer nobody bears out into an abstention. Failures are told apart (`evals/rag.py`), the identity is
checked, tokens are counted. Then the retriever is made worse, by leaving a letter out of the town's name; and the right document is put at
each place among ten (2307.03172 found the middle worst; a reader of 135M weights need not agree). Two documents that say different things
of one town are put among five: which of them is copied, or is it abstained?

A control tells the retriever's failures from the reader's: the same model after a short SFT on reading, which is two to ten documents in any
order above a question, and the sentence that answers it with its number, or an abstention where none does. Its towns, names and questions are
of the other split, which shares none with the test's; what contradicts itself is never shown to it. It reads the same passages as before.

What would make this dishonest: facts that stood in pretraining; a long context cut in silence; counting an abstention as right where there
is an answer; a retriever tuned on the questions; naming accuracy without what was read for it; a reader trained on the test's towns, or on one place.

    python -m experiments.rag_or_long_context

Measured (2026-11-25, 10 min on 2 cores, seed 0):
- closed book, where there is an answer: 0.000 [0.000 0.125] (n 27)
- rag: accuracy 0.361 [0.225 0.524] (n 36); recall 0.48, accuracy given a hit 0.54, given a miss 0.00; tokens read
  214, written 21
- long context: accuracy 0.028 [0.005 0.142] (n 36); recall 1.00, accuracy given a hit 0.00, given a miss nan; tokens
  read 1584, written 19
- hybrid: accuracy 0.222 [0.117 0.381] (n 36); recall 0.59, accuracy given a hit 0.44, given a miss 0.00; tokens read
  831, written 29
- rag, unchecked: accuracy 0.222 [0.117 0.381] (n 36); recall 0.48, accuracy given a hit 0.62, given a miss 0.00;
  tokens read 214, written 21
- rag, trained: accuracy 0.472 [0.320 0.630] (n 36); recall 0.48, accuracy given a hit 0.62, given a miss 0.00; tokens
  read 214, written 13
- rag, unchecked, trained: accuracy 0.389 [0.248 0.551] (n 36); recall 0.48, accuracy given a hit 0.62, given a miss
  0.00; tokens read 214, written 13
- long context − rag, paired: -0.333 [-0.493 -0.177] (n 36)
- hybrid − rag, paired: -0.139 [-0.254 -0.025] (n 36)
- rag, trained − rag, paired: 0.111 [-0.016 0.231] (n 36)
- the identity is off by at most 0e+00
- rag: 13 right, 3 document absent, 5 wrong document, 9 more than fits, 6 reader
- long context: 1 right, 8 document absent, 27 reader
- hybrid: 8 right, 8 document absent, 4 wrong document, 7 more than fits, 9 reader
- rag, unchecked: 8 right, 9 document absent, 5 wrong document, 9 more than fits, 5 reader
- rag, trained: 17 right, 5 wrong document, 9 more than fits, 5 reader
- rag, unchecked, trained: 14 right, 3 document absent, 5 wrong document, 9 more than fits, 5 reader
- rag, unchecked: a value of another document named 0.50 [0.34 0.66] (n 36); abstains where nothing answers 0.00 [0.00
  0.30] (n 9), where something does 0.00 [0.00 0.12] (n 27)
- rag: a value of another document named 0.22 [0.12 0.38] (n 36); abstains where nothing answers 0.67 [0.35 0.88] (n
  9), where something does 0.30 [0.16 0.48] (n 27)
- rag, unchecked, trained: a value of another document named 0.11 [0.04 0.25] (n 36); abstains where nothing answers
  0.67 [0.35 0.88] (n 9), where something does 0.56 [0.37 0.72] (n 27)
- rag, trained: a value of another document named 0.03 [0.00 0.14] (n 36); abstains where nothing answers 1.00 [0.70
  1.00] (n 9), where something does 0.56 [0.37 0.72] (n 27)
- rag where names lack a letter in a share of questions: 0% recall 0.48, accuracy 0.361 [0.225 0.524] (n 36); 50%
  recall 0.41, accuracy 0.389 [0.248 0.551] (n 36); 100% recall 0.26, accuracy 0.250 [0.138 0.411] (n 36)
- reader as it came, right document at place of 10, unchecked: 1: 0.95 [0.83 0.99] (n 40); 4: 0.17 [0.09 0.32] (n 40);
  7: 0.23 [0.12 0.38] (n 40); 10: 0.50 [0.35 0.65] (n 40)
- reader as it came, middle − ends, paired: -0.525 [-0.611 -0.403] (n 40)
- reader trained, right document at place of 10, unchecked: 1: 1.00 [0.91 1.00] (n 40); 4: 0.85 [0.71 0.93] (n 40); 7:
  0.60 [0.45 0.74] (n 40); 10: 0.93 [0.80 0.97] (n 40)
- reader trained, middle − ends, paired: -0.237 [-0.355 -0.138] (n 40)
- places 2 and 4 of 5 contradict each other, named by the reader as it came: the first 0.25 [0.14 0.40] (n 40); the
  second 0.38 [0.24 0.53] (n 40); both 0.00 [0.00 0.09] (n 40); another document 0.33 [0.20 0.48] (n 40); neither 0.05
  [0.01 0.17] (n 40); abstains 0.00 [0.00 0.09] (n 40)
- places 2 and 4 of 5 contradict each other, named by the reader trained: the first 1.00 [0.91 1.00] (n 40); the
  second 0.00 [0.00 0.09] (n 40); both 0.00 [0.00 0.09] (n 40); another document 0.00 [0.00 0.09] (n 40); neither 0.00
  [0.00 0.09] (n 40); abstains 0.00 [0.00 0.09] (n 40)
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from experiments.common import record, spoken, write_jsonl
from posttrain.agents.loop import ModelAgent
from posttrain.agents.rag import Hybrid, LongContext, Rag, Reader, asked_of, question
from posttrain.algorithms import sft
from posttrain.engine.local import LocalEngine
from posttrain.evals.measure import Evaluation, evaluation, measure
from posttrain.evals.rag import Anatomy, anatomy
from posttrain.policy.hf import load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.retrieval.passages import Passage, Retriever
from posttrain.retrieval.tfidf import TfIdf
from posttrain.rewards.abstention import ABSTAINED, abstains
from posttrain.seeds import fold
from posttrain.statistics import paired_rate_difference, rate_over_problems
from posttrain.tasks.invented import Invented
from posttrain.types import Agent, Measurement, Problem, Rollout, Sampling, UserError

READING = ("one", "absent", "one", "two_hop")
"""The kinds of question that a reader is trained on, in turn."""
FATES = ("the first", "the second", "both", "another document", "neither", "abstains")
"""What becomes of a question that two documents answer differently."""


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    model: str = "smollm2"
    out: Path = Path("runs/experiments/rag_or_long_context")
    worlds: int = 3
    """How many corpora, each with questions of its own."""
    questions: int = 12
    """Of each world, the four kinds in equal numbers."""
    k: int = 5
    misspelt: tuple[float, ...] = (0.5, 1.0)
    """Shares of questions in which the town's name lacks a letter, beside none."""
    places: tuple[int, ...] = (0, 3, 6, 9)
    """Where among the documents shown the right one is put."""
    shown: int = 10
    place_questions: int = 40
    max_tokens: int = 40
    contradicting: tuple[int, int] = (1, 3)
    """Where among the k documents shown the two that contradict each other are put."""
    steps: int = 30
    """Optimizer steps of the reader that is trained."""
    readings_per_step: int = 8
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=1e-4, warmup_steps=4))
    seed: int = 0


@dataclass(frozen=True)
class Placed:
    """A retriever that knows the right document of each question and puts it at one place, among what another retriever finds."""

    gold: Mapping[str, Passage]
    others: Retriever
    place: int

    def search(self, query: str, k: int) -> list[Passage]:
        """k passages, the right one at its place."""
        gold = self.gold[query]
        wrong = [passage for passage in self.others.search(query, k) if passage.id != gold.id][: k - 1]
        return [*wrong[: self.place], gold, *wrong[self.place :]]


async def run(config: Config) -> None:
    """Train a reader; measure all arms, the retriever made worse, both readers' places and what contradicts itself; record."""
    started = time.perf_counter()
    reader = reader_of(config.model, config)
    readers = {"as it came": reader, "trained": await trained(config)}
    bare = ModelAgent(reader.engine, reader.renderer, reader.sampling)
    worlds = [Invented(n_test=config.questions, seed=config.seed + i) for i in range(config.worlds)]
    closed = await over(worlds, lambda task: bare, config)
    arms = {name: anatomy(found, config.k) for name, found in (await arms_over(worlds, reader, config)).items()}
    worse = {share: await misspelt(worlds, share, reader, config) for share in config.misspelt}
    arms |= {f"{name}, trained": anatomy(found, config.k) for name, found in (await rags_over(worlds, readers["trained"], config)).items()}
    places = {name: await placed(by, config) for name, by in readers.items()}
    fates = {name: await contradicted(by, config) for name, by in readers.items()}
    found = {"closed_book": _answerable(closed), "arms": {n: a.quantities for n, a in arms.items()}, "counts": {n: a.counts for n, a in arms.items()},
             "kinds": {n: a.kinds for n, a in arms.items()}, "residual": {n: a.residual for n, a in arms.items()},
             "misspelt": {str(s): a.quantities for s, a in worse.items()}, "contradicted": fates,
             "places": {name: {str(p): e["accuracy"] for p, e in by.items()} for name, by in places.items()}}  # fmt: skip
    lines = [*arm_lines(closed, arms), *failure_lines(arms), *worse_lines({0.0: arms["rag"]} | worse)]
    lines += [line for name, by in places.items() for line in place_lines(name, by, config)]
    record(__file__, config.out, config, found, [*lines, *fate_lines(fates, config)], started)


def reader_of(model: str, config: Config) -> Reader:
    """A model as a reader that takes its likeliest answer."""
    policy = load_policy(model)
    return Reader(LocalEngine(policy), policy.renderer, policy.max_context, Sampling(0.0, config.max_tokens))


async def arms_over(worlds: Sequence[Invented], reader: Reader, config: Config) -> dict[str, Evaluation]:
    """Every arm on every world."""
    whole = await over(worlds, lambda task: LongContext(reader, task.passages("test")), config)
    for each in whole.records:
        if any(retrieval.left_out for attempt in each.attempts for retrieval in attempt.rollout.retrievals):
            raise UserError("the documents of a world do not fit into the context: ask fewer --questions")
    rags = await rags_over(worlds, reader, config)
    hybrid = await over(worlds, lambda task: Hybrid(rag(task, reader, config), LongContext(reader, task.passages("test"))), config)
    return {"rag": rags["rag"], "long context": whole, "hybrid": hybrid, "rag, unchecked": rags["rag, unchecked"]}


async def rags_over(worlds: Sequence[Invented], reader: Reader, config: Config) -> dict[str, Evaluation]:
    """One reader with the passages found, with the check of what it says and without."""
    readers = {"rag": reader, "rag, unchecked": replace(reader, checks=False)}
    return {name: await over(worlds, lambda task, by=by: rag(task, by, config), config) for name, by in readers.items()}


def rag(task: Invented, reader: Reader, config: Config) -> Rag:
    """A reader of TF-IDF's best."""
    return Rag(reader, TfIdf(task.passages("test")), config.k)


async def over(worlds: Sequence[Invented], agent_for, config: Config) -> Evaluation:
    """One arm on the questions of all worlds, as one evaluation."""
    records = []
    for task in worlds:
        agent: Agent = agent_for(task)
        records += (await measure(agent, task, task.problems("test"), 1, config.seed)).records
    return evaluation("invented", 1, config.seed, records)


async def misspelt(worlds: Sequence[Invented], share: float, reader: Reader, config: Config) -> Anatomy:
    """RAG where a share of the questions lacks a letter of the town's name."""
    tasks = [replace(task, misspelt=share) for task in worlds]
    return anatomy(await over(tasks, lambda task: Rag(reader, TfIdf(task.passages("test")), config.k), config), config.k)


async def placed(reader: Reader, config: Config) -> dict[int, Evaluation]:
    """The same questions, the right document at each place; without the check, which would hide what the reader makes of it."""
    task = Invented(kinds=("one",), n_test=config.place_questions, seed=config.seed)
    passages = {passage.source: passage for passage in task.passages("test")}
    gold = {problem.messages[-1].content: passages[problem.data["gold"][0]] for problem in task.problems("test")}
    others, unchecked = TfIdf(list(passages.values())), replace(reader, checks=False)
    return {place: await over([task], lambda _, place=place: Rag(unchecked, Placed(gold, others, place), config.shown), config) for place in config.places}


async def contradicted(reader: Reader, config: Config) -> dict[str, Measurement]:
    """Two documents that differ in the value alone, put among those that are found: the share of questions with each of `FATES`."""
    task, other = (Invented(kinds=("one",), n_test=config.place_questions, seed=config.seed + shift) for shift in (0, 1))
    passages = {passage.source: passage for passage in task.passages("test")}
    first, second, values = {}, {}, {}
    for problem, rival in zip(task.problems("test"), other.problems("test"), strict=True):  # asked of the same kinds of value, in turn
        gold = passages[problem.data["gold"][0]]
        first[question(problem)], values[problem.id] = gold, (problem.answer, rival.answer)
        second[question(problem)] = replace(gold, id=f"other-{gold.id}", source=f"other-{gold.id}", text=gold.text.replace(problem.answer, rival.answer))
    found = Placed(second, Placed(first, TfIdf(list(passages.values())), config.contradicting[0]), config.contradicting[1])
    read = await over([task], lambda _: Rag(replace(reader, checks=False), found, config.k), config)
    fates = [fate(record.completed[0].rollout, values[record.problem.id]) for record in read.records if record.completed]
    return {name: rate_over_problems([float(name == each) for each in fates]) for name in FATES}


def fate(rollout: Rollout, values: tuple[str, str]) -> str:
    """Which of two values an answer names; if none, whether it abstains, or has a word that only another document shown has."""
    named = [value in rollout.text for value in values]
    if any(named):
        return "both" if all(named) else FATES[named.index(True)]
    if abstains(rollout.text):
        return "abstains"
    (retrieval,) = rollout.retrievals
    ours = [source.text for source in retrieval.shown if any(value in source.text for value in values)]
    others = [source.text for source in retrieval.shown if source.text not in ours]
    strange = _words(rollout.text) - _words(" ".join([retrieval.query, *ours]))
    return "another document" if strange & _words(" ".join(others)) else "neither"


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


# ---------------------------------------------------------------------------------------------------------- a trained reader


async def trained(config: Config) -> Reader:
    """The model after SFT on reading documents of the other split."""
    data, out = config.out / "reading.jsonl", config.out / "reader"
    config.out.mkdir(parents=True, exist_ok=True)
    write_jsonl(data, readings(config))
    await sft.train(sft.Config(
        model=config.model, data=str(data), out=out, steps=config.steps, conversations_per_step=config.readings_per_step, measure_every=0,
        checkpoint_every=max(1, config.steps // 3), seed=config.seed, optim=config.optim,
    ))  # fmt: skip
    return reader_of(str(out), config)


def readings(config: Config) -> list[dict]:
    """Conversations to learn reading from: 2 to `shown` of the passages that are found, in any order, a question, and what they say of it."""
    task = Invented(kinds=READING, n_train=config.steps * config.readings_per_step, seed=config.seed)
    retriever, rows = TfIdf(task.passages("train")), []
    for problem in task.problems("train"):
        random = Random(fold(config.seed, "reading", problem.id))
        shown = retriever.search(question(problem), random.randint(2, config.shown))
        random.shuffle(shown)
        answer = {"role": "assistant", "content": told(problem, shown)}
        rows.append({"messages": [*({"role": m.role, "content": m.content} for m in asked_of(problem, shown)), answer]})
    return rows


def told(problem: Problem, shown: Sequence[Passage]) -> str:
    """The sentence that has the answer and its number, where all that the answer takes is shown; else an abstention."""
    numbers = {passage.source: number for number, passage in enumerate(shown, 1)}
    gold = problem.data["gold"]
    if not gold or not all(source in numbers for source in gold):
        return ABSTAINED
    last = numbers[gold[-1]]
    return f"{shown[last - 1].text.removesuffix('.')} [{last}]."


# -------------------------------------------------------------------------------------------------------------- what is said


def _answerable(found: Evaluation):
    return evaluation("invented", 1, 0, [r for r in found.records if r.problem.data["gold"]])["accuracy"]


def arm_lines(closed: Evaluation, arms: Mapping[str, Anatomy]) -> list[str]:
    """Accuracy, tokens and paired differences of the arms."""
    lines = [f"closed book, where there is an answer: {spoken(_answerable(closed))}"]
    for name, found in arms.items():
        lines.append(
            f"{name}: accuracy {spoken(found['accuracy'])}; recall {found['recall'].value:.2f}, accuracy given a hit {found['accuracy_hit'].value:.2f},"
            f" given a miss {found['accuracy_miss'].value:.2f}; tokens read {found['read_tokens'].value:.0f}, written {found['written_tokens'].value:.0f}"
        )
    columns = {name: next(q.per_problem for q in found.quantities if q.name == "accuracy") for name, found in arms.items()}
    for name in ("long context", "hybrid", "rag, trained"):
        lines.append(f"{name} − rag, paired: {spoken(paired_rate_difference(columns['rag'], columns[name]))}")
    lines.append(f"the identity is off by at most {max(found.residual for found in arms.values()):.0e}")
    return lines


def failure_lines(arms: Mapping[str, Anatomy]) -> list[str]:
    """What became of the attempts, what was copied and where it was abstained."""
    lines = [f"{name}: {', '.join(f'{n} {verdict}' for verdict, n in found.counts.items() if n)}" for name, found in arms.items()]
    for name in ("rag, unchecked", "rag", "rag, unchecked, trained", "rag, trained"):
        found = arms[name]
        lines.append(
            f"{name}: a value of another document named {spoken(found['copied'], 2)}; abstains where nothing answers {spoken(found['accuracy_absent'], 2)},"
            f" where something does {spoken(found['abstained_wrongly'], 2)}"
        )
    return lines


def worse_lines(by_share: Mapping[float, Anatomy]) -> list[str]:
    """RAG as the retriever gets worse."""
    cells = [f"{share:.0%} recall {found['recall'].value:.2f}, accuracy {spoken(found['accuracy'])}" for share, found in by_share.items()]
    return [f"rag where names lack a letter in a share of questions: {'; '.join(cells)}"]


def place_lines(reader: str, places: Mapping[int, Evaluation], config: Config) -> list[str]:
    """Accuracy by the place of the right document, and the ends against the middle."""
    cells = [f"{place + 1}: {spoken(found['accuracy'], 2)}" for place, found in places.items()]
    ends = [places[place].quantity("accuracy").per_problem for place in (config.places[0], config.places[-1])]
    middle = [places[place].quantity("accuracy").per_problem for place in config.places[1:-1]]
    mean = lambda columns: [sum(values) / len(values) for values in zip(*columns, strict=True)]  # noqa: E731
    lines = [f"reader {reader}, right document at place of {config.shown}, unchecked: {'; '.join(cells)}"]
    if middle:
        lines.append(f"reader {reader}, middle − ends, paired: {spoken(paired_rate_difference(mean(ends), mean(middle)))}")
    return lines


def fate_lines(fates: Mapping[str, Mapping[str, Measurement]], config: Config) -> list[str]:
    """What each reader makes of two documents that contradict each other."""
    first, second = (place + 1 for place in config.contradicting)
    head = f"places {first} and {second} of {config.k} contradict each other, named by the reader"
    return [f"{head} {name}: {'; '.join(f'{fate} {spoken(share, 2)}' for fate, share in by.items())}" for name, by in fates.items()]


def main() -> None:
    import tyro

    asyncio.run(run(tyro.cli(Config)))


if __name__ == "__main__":
    main()
