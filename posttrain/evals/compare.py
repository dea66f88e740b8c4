"""What training changed: two models on the same problems with the same seeds, every number as a paired difference."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from posttrain import statistics
from posttrain.evals import heldout, quantities
from posttrain.evals.comparison import Change, Comparison, Example, Matched, Named, PassAtK, ProblemChange, Row, TokenText
from posttrain.evals.confidence import Confidences
from posttrain.evals.findings import crossover_sentence, matched_sentence
from posttrain.evals.measure import Evaluation, measure
from posttrain.evals.quantities import Quantity
from posttrain.evals.records import Attempt, Keeper, Record, prompt_text
from posttrain.evals.calibrated import form_changes, form_rows
from posttrain.evals.scorer import TokenScorer
from posttrain.types import Agent, Better, Measurement, Problem, Task

SIGNIFICANCE = 0.05
"""The share of false discoveries allowed among the problems named as changed."""


@dataclass(frozen=True)
class Subject:
    """One of the two models: what attempts, and what else can be asked of it."""

    label: str
    model_path: str
    agent: Agent
    scorer: TokenScorer | None = None
    """Without it there is no entropy, no KL and no held-out likelihood."""
    tokenize: heldout.Tokenize | None = None
    """Text to token ids without special tokens; needed for held-out likelihood."""
    decode: Callable[[Sequence[int]], str] | None = None
    """Token ids to text; without it examples show whole turns in place of tokens."""
    keeper: Keeper | None = None
    """Where its records are kept, so that a comparison that was cut off goes on."""
    confide: Callable[[Task, Sequence[Record]], Awaitable[tuple[Confidences, ...]]] | None = None
    """Asks how sure it is of what it answered; without it there is no calibration."""


async def compare(
    base: Subject,
    trained: Subject,
    task: Task,
    problems: Sequence[Problem],
    samples: int,
    seed: int = 0,
    *,
    split: str = "test",
    untouched_task: Task | None = None,
    untouched_problems: Sequence[Problem] = (),
    untouched_samples: int = 4,
    untouched_by: Sequence[Subject] = (),
    scorer_samples: int = 4,
    heldout_tokens: int = 256,
    n_examples: int = 8,
    example_attempts: int = 4,
    final_answer: Callable[[str], str] = str.strip,
    on_attempt: Callable[[Attempt], None] | None = None,
    unscored_ok: bool = False,
    matched: Callable[[Evaluation, Evaluation], Awaitable[Matched]] | None = None,
    on_measured: Callable[[Evaluation, Evaluation], None] | None = None,
) -> Comparison:
    """Measures both models on the same problems with the same seeds, one model after the other, and pairs the results.

    `problems` are those of `split`, whose name is only written down. `untouched_task` is one that was not trained on: the
    loss of accuracy there is the alignment tax; without `untouched_problems` it is measured on as many of its problems of
    `split`, `untouched_samples` times each: its doubt is one over problems, which more attempts hardly lessen. `untouched_by` are
    the two as they attempt that one, where `task` is attempted in a way of its own. Entropy and
    KL rest on the first `scorer_samples` attempts at each problem, held-out likelihood on documents of `heldout_tokens`
    tokens (counted by the base's tokenizer; 0 leaves it out). Where more than 5% of either model's attempts could not be
    scored there is no headline, unless `unscored_ok`. `matched` sets the trained model against the base at another temperature
    (`evals/matched.py`), given both evaluations, which `on_measured` is told of too. Raises what `measure` raises.
    """

    async def evaluated(subject: Subject, task: Task, problems: Sequence[Problem], samples: int, scorer: TokenScorer | None) -> Evaluation:
        return await measure(
            subject.agent,
            task,
            problems,
            samples,
            seed,
            scorer=scorer,
            scorer_samples=scorer_samples,
            final_answer=final_answer,
            on_attempt=on_attempt,
            keeper=subject.keeper,
        )

    before, after = [await evaluated(s, task, problems, samples, s.scorer) for s in (base, trained)]
    before, after = [await _confided(s, task, found) for s, found in ((base, before), (trained, after))]
    if on_measured is not None:
        on_measured(before, after)
    rows = [*measured_rows(before, after), *changed_rows(before, after), *_kl_rows(base, trained, before, after)]
    if heldout_tokens:
        rows += _heldout_rows(base, trained, heldout_tokens)
    if untouched_task is not None:
        asked = untouched_problems or untouched_task.problems(split)[: len(problems)]
        was, now = [await evaluated(s, untouched_task, asked, untouched_samples, None) for s in untouched_by or (base, trained)]
        rows.append(_untouched_row(untouched_task, was, now))
    named = [Named(subject.label, subject.model_path) for subject in (base, trained)]
    texts = examples(base.decode, trained.decode, before, after, n_examples, example_attempts)
    comparison = assembled(*named, split, before, after, rows, texts, unscored_ok)
    if matched is None:
        return comparison
    found = await matched(before, after)
    return replace(comparison, matched=found, findings=(*comparison.findings, matched_sentence(found)))


async def _confided(subject: Subject, task: Task, found: Evaluation) -> Evaluation:
    return found if subject.confide is None else replace(found, confidences=await subject.confide(task, found.records))


def assembled(
    base: Named,
    trained: Named,
    split: str,
    before: Evaluation,
    after: Evaluation,
    rows: Sequence[Row],
    examples: tuple[Example, ...] = (),
    unscored_ok: bool = False,
    paired: bool = True,
) -> Comparison:
    """The rows with all that a reader needs beside them; the verdict is on accuracy."""
    ks = tuple(k for k in before.ks if k in after.ks)
    accuracy = next(row for row in rows if row.name == "accuracy")
    assert accuracy.difference is not None and accuracy.p_value is not None, "both models have one"
    calibration = form_changes(before.confidences, after.confidences, before.seed)
    crossover = _crossover(before, after) if paired else None
    return Comparison(
        base=base,
        trained=trained,
        task=before.task,
        split=split,
        samples=before.samples,
        n_problems=min(len(before.records), len(after.records)),
        seed=before.seed,
        sampling=before.sampling,
        rows=(*rows, *form_rows(calibration)),
        pass_at_k=PassAtK(ks, *(tuple(e[f"pass@{k}"] for k in ks) for e in (before, after))),
        problems=tuple(map(problem_change, before.records, after.records)) if paired else (),
        examples=examples,
        verdict=statistics.verdict(accuracy.difference, p_value=accuracy.p_value),
        withheld="" if unscored_ok else _both((before, after), lambda evaluation: [evaluation.withheld]),
        paired=paired,
        crossover=crossover,
        findings=(crossover_sentence(crossover),) if crossover else (),
        calibration=calibration,
    )


def _crossover(before: Evaluation, after: Evaluation) -> statistics.Crossover | None:
    counts = [[(record.n_scored, record.n_right) for record in e.records] for e in (before, after)]
    return statistics.crossover(*(column for side in counts for column in zip(*side, strict=True)), quantities.clusters_of(before.records))


# ---------------------------------------------------------------------------------------------------------------- rows


def paired_row(before: Quantity, after: Quantity, same_attempts: bool = False, note: str = "") -> Row:
    """One quantity of both models, with the difference over the problems that have both, and its sign-flip test.

    Two models that wrote the very same attempts are one model so far as anything here can tell: their difference is 0
    and has no error, where rates that merely agree on n problems may yet differ on others.
    """
    pair = statistics.paired_rate_difference if before.is_rate and not same_attempts else statistics.paired_difference
    n_unscored = before.measurement.n_unscored + after.measurement.n_unscored
    difference = pair(before.per_problem, after.per_problem, before.measurement.unit, n_unscored, before.clusters)
    p_value = statistics.sign_flip_p_value(before.per_problem, after.per_problem, clusters=before.clusters)
    note = listed((note, few_note(difference)))
    return Row(before.name, before.title, before.better, before.measurement, after.measurement, difference, p_value, note)


def measured_rows(before: Evaluation, after: Evaluation) -> Iterator[Row]:
    same = same_attempts(before, after)
    for was in before.quantities:
        now = next((quantity for quantity in after.quantities if quantity.name == was.name), None)
        # pass@1 is accuracy, or close to it where scores have degrees; the curve of pass@k still begins with it.
        if now is not None and was.name != "pass@1":
            yield paired_row(was, now, same, cautions(before, after) if was.name == "accuracy" else "")
    if quantities.uses_tools(before.records) != quantities.uses_tools(after.records):
        yield from map(paired_row, quantities.tool_use(before.records), quantities.tool_use(after.records))


def same_attempts(before: Evaluation, after: Evaluation) -> bool:
    """Whether two models did the very same thing, and were judged alike."""
    return _attempts(before) == _attempts(after)


def _attempts(evaluation: Evaluation) -> list[list[Any]]:
    return [[(a.rollout.messages, a.rollout.readings, a.rollout.outcome, a.score.value) for a in record.attempts] for record in evaluation.records]


def changed_rows(before: Evaluation, after: Evaluation) -> Iterator[Row]:
    """Shares of problems that were gained and lost, by a single right attempt and by Fisher's test."""
    changes = [problem_change(was, now).change for was, now in zip(before.records, after.records, strict=True)]
    n_before, n_after = ([record.n_scored for record in e.records] for e in (before, after))
    right_before, right_after = ([record.n_right for record in e.records] for e in (before, after))
    significant = statistics.significant_changes(right_before, n_before, right_after, n_after, SIGNIFICANCE)
    gains = statistics.changes_by_chance(right_before, n_before, right_after, n_after)
    losses = statistics.changes_by_chance(right_after, n_after, right_before, n_before)
    once = f"solved: right in at least one of {before.samples} attempts; were the two models one, chance alone would gain"
    once += f" {gains.expected:.1f} problems and lose {losses.expected:.1f}, and p is of as many or more"
    fisher = f"Fisher's exact test on each problem, {SIGNIFICANCE:.0%} false discoveries allowed (Benjamini–Hochberg)"

    def row(name: str, title: str, better: Better, hits: Iterable[bool], note: str) -> Row:
        known = [float(hit) if was and now else math.nan for hit, was, now in zip(hits, n_before, n_after, strict=True)]
        return _change_row(quantities.rate(name, title, better, known, clusters=quantities.clusters_of(before.records)), note)

    solved = row("newly_solved", "problems newly solved", "higher", (c == "newly_solved" for c in changes), once)
    lost = row("newly_lost", "problems newly lost", "lower", (c == "newly_lost" for c in changes), once)
    yield from (replace(solved, p_value=gains.p_value), replace(lost, p_value=losses.p_value))
    yield row("significantly_better", "problems significantly better", "higher", significant > 0, fisher)
    yield row("significantly_worse", "problems significantly worse", "lower", significant < 0, fisher)


def _kl_rows(base: Subject, trained: Subject, before: Evaluation, after: Evaluation) -> Iterator[Row]:
    """How far the two have drifted apart, each judged on its own samples."""
    if base.scorer is None or trained.scorer is None or not (before.sampling and after.sampling):
        return
    obstacle = _kl_obstacle(before, after)
    for name, title, evaluation, other in (
        ("kl_trained_base", "KL(trained ‖ base)", after, base.scorer),
        ("kl_base_trained", "KL(base ‖ trained)", before, trained.scorer),
    ):
        if obstacle:
            yield Row(f"{name}_per_token", f"{title} per token", None, None, None, None, note=obstacle)
        else:
            yield from (_change_row(quantity) for quantity in quantities.kl(evaluation.records, other, name, title))


def _kl_obstacle(before: Evaluation, after: Evaluation) -> str:
    """Why KL cannot be had from these samples, or nothing."""
    if not (quantities.are_exact(before.records) and quantities.are_exact(after.records)):
        return "KL needs samples drawn at temperature 1 from the full vocabulary"
    if _prompts(before) != _prompts(after):
        return "KL needs two models that read the same prompt tokens: these tokenize or render differently"
    return ""


def _prompts(evaluation: Evaluation) -> list[Sequence[int]]:
    """The tokens each problem opens with."""
    turns = ((a.rollout.completions[0] for a in r.attempts if a.rollout.completions) for r in evaluation.records)
    return [next((first.prompt_token_ids for first in firsts), ()) for firsts in turns]


def _heldout_rows(base: Subject, trained: Subject, n_tokens: int) -> Iterator[Row]:
    """Likelihood of plain text; per token only where one tokenizer serves both."""
    if not (base.scorer and base.tokenize and trained.scorer and trained.tokenize):
        return
    texts = heldout.documents(base.tokenize, n_tokens)
    was = heldout.log_likelihood(texts, base.tokenize, base.scorer)
    now = heldout.log_likelihood(texts, trained.tokenize, trained.scorer)
    if was.n_tokens == now.n_tokens:
        yield paired_row(was.per_token(), now.per_token())
    yield paired_row(was.per_byte(), now.per_byte())


def _untouched_row(task: Task, before: Evaluation, after: Evaluation) -> Row:
    was, now = (
        quantities.accuracy(e.records, "untouched_accuracy", f"accuracy on {task.name}, not trained on") for e in (before, after)
    )
    return paired_row(was, now, same_attempts(before, after), cautions(before, after))


def _change_row(quantity: Quantity, note: str = "") -> Row:
    """A row for what has no value for one model alone."""
    found = quantity.measurement
    return Row(quantity.name, quantity.title, quantity.better, None, None, found, note=listed((note, few_note(found))))


def cautions(before: Evaluation, after: Evaluation) -> str:
    unlike = "the two were sampled differently" if before.sampling != after.sampling else ""
    return listed((_both((before, after), lambda evaluation: evaluation.notes), unlike))


def _both(evaluations: tuple[Evaluation, Evaluation], notes: Callable[[Evaluation], Sequence[str]]) -> str:
    """The notes on both models, each after whose it is; what holds for both is said once."""
    before, after = map(notes, evaluations)
    shared = [f"both: {note}" for note in before if note and note in after]
    each = [f"{who}: {n}" for who, own, other in (("base", before, after), ("trained", after, before)) for n in own if n and n not in other]
    return listed((*shared, *each))


def few_note(difference: Measurement) -> str:
    return "" if difference.n > 1 else f"n = {difference.n}: too few for an interval"


def listed(notes: Iterable[str]) -> str:
    return "; ".join(note for note in notes if note)


# ------------------------------------------------------------------------------------------------------------- problems


def problem_change(before: Record, after: Record) -> ProblemChange:
    """One problem before and after."""
    was, now = before.n_right > 0, after.n_right > 0
    known = before.n_scored > 0 and after.n_scored > 0
    change: Change = "both" if was and now else "newly_solved" if now else "newly_lost" if was else "neither"
    return ProblemChange(
        id=before.problem.id,
        prompt=prompt_text(before.problem),
        answer=before.problem.answer,
        base_rate=before.rate,
        trained_rate=after.rate,
        n_base=before.n_scored,
        n_trained=after.n_scored,
        change=change if known else "neither",
    )


Decode = Callable[[Sequence[int]], str] | None


def examples(base: Decode, trained: Decode, before: Evaluation, after: Evaluation, n: int, attempts: int) -> tuple[Example, ...]:
    """Taken in turn from the problems gained, lost, kept and still unsolved, in their order: not the most flattering ones."""
    pairs = list(zip(before.records, after.records, strict=True))
    kinds: dict[Change, list[tuple[Record, Record]]] = {"newly_solved": [], "newly_lost": [], "both": [], "neither": []}
    for was, now in pairs:
        kinds[problem_change(was, now).change].append((was, now))
    in_turn = [pair for turn in zip_longest(*kinds.values()) for pair in turn if pair is not None]
    return tuple(
        Example(
            problem_id=was.problem.id,
            prompt=prompt_text(was.problem),
            answer=was.problem.answer,
            base=tuple(_token_text(attempt, base) for attempt in was.attempts[:attempts]),
            trained=tuple(_token_text(attempt, trained) for attempt in now.attempts[:attempts]),
        )
        for was, now in in_turn[:n]
    )


def _token_text(attempt: Attempt, decode: Decode) -> TokenText:
    rollout = attempt.rollout
    if decode is None or not rollout.completions:
        tokens, logprobs = [rollout.text], [math.nan]
    else:
        tokens = [piece for c in rollout.completions for piece in pieces(c.token_ids, decode)]
        logprobs = [value for c in rollout.completions for value in c.sampling_logprobs]
    return TokenText(tuple(tokens), tuple(logprobs), attempt.score.value, rollout.outcome, attempt.score.explanation)


def pieces(token_ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[str]:
    """The text that each token adds; joined they are the text of all.

    A character that several tokens make up belongs to the last of them, and the others add nothing. Each token is decoded
    behind the one before it, for some tokenizers drop a space at the start of a text.
    """
    found: list[str] = []
    context = start = 0
    for end in range(1, len(token_ids) + 1):
        text = decode(token_ids[context:end])
        if text.endswith("\N{REPLACEMENT CHARACTER}") and end < len(token_ids):
            found.append("")
            continue
        found.append(text[len(decode(token_ids[context:start])) :])
        context, start = start, end
    return found
