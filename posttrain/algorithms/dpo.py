"""DPO and its family: learning from preferences without a reward model and without sampling, or with the policy's own samples.

    loss        what it makes of a pair                                                          paper
    dpo         the log-odds of the preference under the implicit rewards beta · log(π / π_ref)  2305.18290
                with --label-smoothing it is the conservative form (cDPO): a finite optimum
    robust      the same made unbiased under labels flipped at a known rate                      2403.00409
    ipo         the gap of the log-ratios is regressed on 1 / (2 beta)                           2310.12036
    kto         each answer alone, good or bad, against the KL as a reference point              2402.01306
    orpo        SFT on the chosen answer plus log-odds of means; no reference                    2403.07691
    simpo       means per token and a margin to be reached; no reference                         2405.14734

Pairs come from a file (`--data`), or are made as training goes (*online DPO*, 2402.04792: `--task`, `--reward`): the policy
answers each prompt `group_size` times, and the best answer is preferred to the worst by the reward; where all are equal
there is no pair. The samples' own tokens are trained on. KTO takes single answers, labelled good or bad; the rows of a file of
pairs are one of each, and learned from one by one.

Deviations: chosen and rejected share their prompt's computation; log-probs are summed over the answer's own tokens, its
end of turn included, and never cut; the KTO reference point is the mean log-ratio of answers shifted by one prompt
within the step (where that prompt is another one), as published, without a moving average; AdamW with a constant rate after warm-up.

Likelihood displacement (2410.08847) is watched: `pairs/displaced_frac` is the share of pairs whose *chosen* answer is now
less likely than under the reference. At the end `displacement.json` says where the mass went since the start (which is read then for a
few dozen pairs, also by the losses that have no reference), and a warning is given where most chosen answers have fallen, by more than chance.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from posttrain.batching import TokenSequence, rollout_sequences
from posttrain.data.loaded import split
from posttrain.data.pairs import load_labelled, load_pairs
from posttrain.evals.records import plain
from posttrain.losses import preference
from posttrain.policy.hf import Policy
from posttrain.policy.optim import AdamWConfig
from posttrain.runs.folder import write_atomically
from posttrain.statistics import mean_over_problems, rate_over_problems
from posttrain.training.agents import make_agent
from posttrain.training.displacement import Displacement, displacement
from posttrain.training.job import Job
from posttrain.training.loop import StepResult, Trained
from posttrain.training.pairs import AnswerLogprobs, LabelledTokens, PairTokens, answer_sums, answers_step, flat_labels, flat_sequences
from posttrain.training.reference import Reference, is_ancestor, kl_metrics
from posttrain.training.rounds import Round, attempt, require_scores, rollout_rows, summary
from posttrain.training.scored import answerable, prompt_files, scored_task
from posttrain.training.settings import Settings
from posttrain.training.stream import Stream
from posttrain.training.texts import WhenTooLong, fit
from posttrain.types import Rollout, Sampling, UserError

WITHOUT_REFERENCE = ("orpo", "simpo")
WATCHED = 32
"""How many pairs, or labelled answers, tell where the mass went."""


@dataclass(frozen=True)
class Config(Settings):
    """Learn from preferences: pairs from a file, or of the policy's own samples judged by a reward."""

    data: str = ""
    """A file, .jsonl or .jsonl.gz, of pairs (prompt, chosen, rejected); with kto also of single answers (prompt, completion, label)."""
    task: str = ""
    """Online: the task whose problems are answered, in place of --data."""
    reward: str = ""
    """Online: what judges, in place of the task's own score: model:FOLDER, process:FOLDER, judge:MODEL, pairwise:MODEL, length:WORDS or format:REGEX."""
    gold: str = ""
    """Online: a reward that is watched beside it and never learned from; empty watches the task's own score, if it has one."""
    out: Path = Path("runs/dpo")
    """The run's folder; the same command again goes on where it stopped."""
    reference: str = ""
    """What log-ratios are taken to: the model that the run begins with (empty), or one that it was trained from."""

    loss: Literal["dpo", "robust", "ipo", "kto", "orpo", "simpo"] = "dpo"
    """Which objective."""
    beta: float = 0.1
    """Reward per nat of log-ratio; with orpo the weight of the odds ratio, with simpo the scale of the reward."""
    label_smoothing: float = 0.0
    """With dpo: how often a label is taken to be wrong. With robust: how often it is."""
    gamma: float = 0.5
    """With simpo: the margin to be reached."""
    good_weight: float = 1.0
    """With kto: weight of good answers."""
    bad_weight: float = 1.0
    """With kto: weight of bad answers."""
    pairs_per_step: int = 16
    """Pairs learned from at each optimizer step (of a file with kto: twice as many single answers); online, problems attempted."""
    group_size: int = 2
    """Online: answers to each problem, of which the best and the worst make the pair."""
    max_tokens: int = 64
    """Online: longest answer, in tokens; with --tools the longest turn."""
    tools: str = ""
    """Online: let the model call tools: NAME[:key=value,…][,NAME…] of calculator, python, files, search, web, mcp; task takes those of --task."""
    tool_steps: int = 4
    """With --tools: turns of the model in one attempt, at most."""
    temperature: float = 1.0
    """Online: of sampling."""

    when_bad: Literal["error", "drop"] = "error"
    """Refuse a file with an unusable pair, or leave such out and count them."""
    when_too_long: WhenTooLong = "drop"
    """Leave out and count pairs that do not fit the context (online: prompts that leave it no room for an answer), or refuse them."""
    heldout_frac: float = 0.1
    """Share of the file's pairs that is never learned from, by content: accuracy is measured on them."""
    measure_every: int = 20
    """Steps between measurements on the held-out pairs; 0 measures only before and after."""
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=5e-6, warmup_steps=10))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "pairs_per_step", "max_tokens", "tool_steps")
        self._at_least(0, "label_smoothing", "gamma", "good_weight", "bad_weight", "heldout_frac", "measure_every")
        if not self.beta > 0:
            raise UserError("--beta must be above 0: it is the reward of a nat")
        if self.label_smoothing >= 0.5:
            raise UserError("--label-smoothing must be below 0.5: labels that are wrong half of the time say nothing")
        if self.heldout_frac >= 1:
            raise UserError("--heldout-frac must be below 1: something must be left to learn from")
        if self.group_size < 2:
            raise UserError("--group-size must be at least 2: a pair needs two answers")
        if not self.temperature > 0:
            raise UserError("--temperature must be above 0: a pair needs answers that differ")
        self._only_if(self.loss in ("dpo", "robust"), "--loss dpo or robust", "label_smoothing")
        self._only_if(self.loss == "simpo", "--loss simpo", "gamma")
        self._only_if(self.loss == "kto", "--loss kto", "good_weight", "bad_weight")
        self._only_if(self.needs_reference, f"a loss that has a reference, and {self.loss} has none", "reference")
        self._only_if(self.is_online, "--task, in place of --data", "gold", "group_size", "max_tokens", "temperature", "tools")
        self._only_if(bool(self.tools), "--tools", "tool_steps")

    @property
    def is_online(self) -> bool:
        return not self.data

    @property
    def needs_reference(self) -> bool:
        return self.loss not in WITHOUT_REFERENCE


def cdpo(config: Config = Config()) -> Config:
    """Conservative DPO: labels taken to be wrong one time in ten."""
    return replace(config, loss="dpo", label_smoothing=0.1)


def ipo(config: Config = Config()) -> Config:
    """IPO, with beta as its tau."""
    return replace(config, loss="ipo", beta=0.1)


def kto(config: Config = Config()) -> Config:
    """KTO: single answers labelled good or bad; a pair is one of each."""
    return replace(config, loss="kto", beta=0.1)


def orpo(config: Config = Config()) -> Config:
    """ORPO, with the weight of its paper."""
    return replace(config, loss="orpo", beta=0.1)


def simpo(config: Config = Config()) -> Config:
    """SimPO, with the scale and margin of its paper's instruct setting."""
    return replace(config, loss="simpo", beta=2.5, gamma=1.4)


PRESETS = {"cdpo": cdpo, "ipo": ipo, "kto": kto, "orpo": orpo, "simpo": simpo}


# ------------------------------------------------------------------------------------------------------------ the objective


def pair_loss(answers: AnswerLogprobs, config: Config) -> Tensor:
    """The loss of each pair; answers alternate between chosen and rejected."""
    chosen, rejected = answers.log_ratios[0::2], answers.log_ratios[1::2]
    match config.loss:
        case "dpo":
            return preference.dpo(chosen, rejected, config.beta, config.label_smoothing)
        case "robust":
            return preference.robust_dpo(chosen, rejected, config.beta, config.label_smoothing)
        case "ipo":
            return preference.ipo(chosen, rejected, config.beta)
        case "orpo":
            return preference.orpo(answers.means[0::2], answers.means[1::2], config.beta)
        case "simpo":
            return preference.simpo(answers.means[0::2], answers.means[1::2], config.beta, config.gamma)
    raise ValueError(f"{config.loss} is no loss of pairs")


def implicit_rewards(policy_sums: Tensor, ref_sums: Tensor, lengths: Tensor, config: Config) -> Tensor:
    """What the objective takes as each answer's reward: its sign decides whether a pair is ranked right."""
    match config.loss:
        case "orpo":
            return policy_sums / lengths
        case "simpo":
            return config.beta * policy_sums / lengths
    return preference.implicit_reward(policy_sums, ref_sums, config.beta)


def reference_point(policy: Policy, reference: Reference, sequences: Sequence[TokenSequence], by: int = 2) -> float:
    """KTO's z0: the mean log-ratio, in nats, of answers that were given to another prompt of the step; at least 0.

    Every prompt gets the answer `by` places further on (2 for pairs, whose answers stand side by side); not where that is an
    answer to the same prompt, or longer than the context holds. 0 where no prompt is left.
    """
    others = zip(sequences, [*sequences[by:], *sequences[:by]], strict=True)
    shifted = [TokenSequence(s.prompt, t.tokens, t.predicted) for s, t in others if s.prompt != t.prompt]
    shifted = [s for s in shifted if len(s.prompt) + len(s.tokens) <= policy.max_context]
    if not shifted:
        return 0.0
    ours = answer_sums(policy.score(shifted)[0], shifted)
    theirs = answer_sums(torch.cat(reference.logprobs(shifted)), shifted)
    return max(0.0, (ours - theirs).mean().item())


# --------------------------------------------------------------------------------------------------------------- the step


Examples = Sequence[PairTokens] | Sequence[LabelledTokens]


@dataclass
class Learner:
    """Everything a step needs."""

    trained: Trained
    reference: Reference | None
    take: Callable[[], Awaitable[tuple[Examples, Round | None]]]
    """The next examples, and the round that they were made of, if they were."""
    heldout: Examples
    config: Config


async def step(learner: Learner, number: int) -> StepResult:
    """Take pairs (or labelled answers), read them with the reference, descend."""
    config, started = learner.config, time.perf_counter()
    metrics = {name.replace("heldout", "heldout_before"): x for name, x in heldout_metrics(learner).items()} if number == 1 else {}
    examples, round = await learner.take()
    taken_s = time.perf_counter() - started
    if round is not None:
        watched = kl_metrics(learner.reference.gaps(round.rollouts).view(-1, config.group_size).tolist()) if learner.reference else {}
        metrics |= summary(round) | watched | {"pairs/n": len(examples), "pairs/without_signal_frac": 1 - len(examples) / len(round.problems_P)}
    if examples:
        metrics |= descend(learner, examples)
    seconds = time.perf_counter() - started
    if number == config.steps or (config.measure_every and number % config.measure_every == 0):
        metrics |= heldout_metrics(learner)
    timings = {"time/step_s": seconds, "time/sample_s": taken_s, "time/tokens_per_s": metrics.get("data/tokens", 0.0) / seconds}
    rows = rollout_rows(round, round.values_PG - round.values_PG.nanmean(1, keepdim=True)) if round is not None else []
    return StepResult(metrics, timings, rows, _note(metrics))


def descend(learner: Learner, examples: Examples) -> dict[str, float]:
    """One optimizer step on these examples, and what it saw: all of it as it was before the step."""
    config, policy = learner.config, learner.trained.policy
    sequences, ref_sums = flat_sequences(examples), _reference_sums(learner, examples)
    extra: dict[str, float] = {}
    if config.loss == "kto":
        z0 = reference_point(policy, learner.reference, sequences, by=len(examples[0].sequences))
        extra["kto/reference_point_nats"] = z0
        loss = partial(_kto_loss, is_good=flat_labels(examples), z0=z0, config=config)
    else:
        loss = lambda answers, which: pair_loss(answers, config)  # noqa: E731
    together = 1 if config.loss == "kto" else 2
    sums, metrics = answers_step(policy, learner.trained.optimizer, sequences, ref_sums, loss, config.tokens_per_batch, together)
    metrics["policy/skipped_updates"] = learner.trained.optimizer.n_skipped
    return metrics | extra | example_metrics("pairs", examples, sums, ref_sums, config)


def _kto_loss(answers: AnswerLogprobs, which: Tensor, is_good: Tensor, z0: float, config: Config) -> Tensor:
    return preference.kto(answers.log_ratios, is_good[which], z0, config.beta, config.good_weight, config.bad_weight)


def _reference_sums(learner: Learner, examples: Examples) -> Tensor:
    """The reference's log-prob of each answer, in nats; 0 where the loss has no reference."""
    sequences = flat_sequences(examples)
    return answer_sums(torch.cat(learner.reference.logprobs(sequences)), sequences) if learner.reference else torch.zeros(len(sequences))


def example_metrics(family: str, examples: Examples, sums: Tensor, ref_sums: Tensor, config: Config) -> dict[str, float]:
    """`pair_metrics` of pairs, `label_metrics` of single answers."""
    if isinstance(examples[0], LabelledTokens):
        return label_metrics(family, sums, ref_sums, flat_labels(examples), config)
    return pair_metrics(family, sums, ref_sums, torch.tensor([s.n_predicted for s in flat_sequences(examples)]), config)


def label_metrics(family: str, sums: Tensor, ref_sums: Tensor, is_good: Tensor, config: Config) -> dict[str, float]:
    """Accuracy is the share of answers whose likelihood has moved the way of their label (½ where it has not moved), the margin
    the difference of the mean implicit rewards of good and of bad answers; nan without both."""
    changes = sums - ref_sums
    towards = torch.where(is_good, changes, -changes).tolist()
    accuracy = rate_over_problems([float(x > 0) if x else 0.5 for x in towards])
    good, bad = changes[is_good], changes[~is_good]
    return {
        f"{family}/accuracy": accuracy.value, f"{family}/accuracy_low": accuracy.low, f"{family}/accuracy_high": accuracy.high,
        f"{family}/n": len(towards), f"{family}/margin": config.beta * (good.mean() - bad.mean()).item(),
        f"{family}/chosen_change_nats": good.mean().item(), f"{family}/rejected_change_nats": bad.mean().item(),
        f"{family}/displaced_frac": (good < 0).float().mean().item(),
    }  # fmt: skip


def pair_metrics(family: str, sums: Tensor, ref_sums: Tensor, lengths: Tensor, config: Config) -> dict[str, float]:
    """Accuracy and margin of the implicit rewards, and how far either side has moved from the reference, over pairs."""
    rewards = implicit_rewards(sums, ref_sums, lengths, config)
    margins = (rewards[0::2] - rewards[1::2]).tolist()
    accuracy = rate_over_problems([float(m > 0) if m else 0.5 for m in margins])
    metrics = {
        f"{family}/accuracy": accuracy.value, f"{family}/accuracy_low": accuracy.low, f"{family}/accuracy_high": accuracy.high,
        f"{family}/n": len(margins), f"{family}/margin": mean_over_problems(margins).value,
    }  # fmt: skip
    if config.needs_reference:
        changes = sums - ref_sums
        metrics |= {
            f"{family}/chosen_change_nats": changes[0::2].mean().item(), f"{family}/rejected_change_nats": changes[1::2].mean().item(),
            f"{family}/displaced_frac": (changes[0::2] < 0).float().mean().item(),
        }  # fmt: skip
    return metrics


def heldout_metrics(learner: Learner) -> dict[str, float]:
    """`example_metrics` of what is held out; nothing where nothing is."""
    if not learner.heldout:
        return {}
    sequences = flat_sequences(learner.heldout)
    sums = answer_sums(learner.trained.policy.score(sequences)[0], sequences)
    return example_metrics("heldout", learner.heldout, sums, _reference_sums(learner, learner.heldout), learner.config)


def _note(metrics: dict[str, float]) -> str:
    if "pairs/accuracy" not in metrics:
        return "no pair: all answers equal"
    reward = f"reward {metrics['reward/mean']:.2f}  " if "reward/mean" in metrics else ""
    return f"{reward}loss {metrics['loss/mean']:.3f}  right {metrics['pairs/accuracy']:.0%}  margin {metrics['pairs/margin']:.2f}"


# ---------------------------------------------------------------------------------------------------------------- the run


async def train(config: Config) -> Path:
    """Run, or take up, a whole training; returns the last checkpoint.

    Raises UserError for a file that cannot be used (naming the line), a folder of another run, a reference that is not what
    the policy starts from, and where there is nothing to learn from.
    """
    if bool(config.data) == bool(config.task):
        raise UserError("DPO needs either pairs (--data FILE.jsonl) or a task to make them on (--task NAME, and --reward if not its own)")
    if config.reward and config.data:
        raise UserError("--reward judges the policy's own samples: give it with --task, not with --data")
    job = Job.open(config, "dpo", [config.data] if config.data else prompt_files(config.task))
    trained = job.trained(job.load_policy())
    policy = trained.policy
    reference = _reference(config, policy, job) if config.needs_reference else None
    if config.is_online:
        learner = Learner(trained, reference, await _own_samples(config, trained, job), [], config)
    else:
        learned, heldout = _examples(config, policy, job)
        learner = Learner(trained, reference, _from_file(config, trained, learned), heldout, config)
    watched = [] if config.is_online else (heldout or learned)[:WATCHED]
    checkpoint = await job.run_steps(trained, lambda number: step(learner, number))
    if watched:
        start = reference if reference and not config.reference else Reference.of(policy, config.model, config.dtype, bool(config.lora_rank))
        _say_where_the_mass_went(displacement(policy, start, watched), config.out)
    return checkpoint


def _reference(config: Config, policy: Policy, job: Job) -> Reference:
    """The reference: what the policy starts from, or what that was trained from (log-ratios then do not begin at 0, as in a second round
    of preferences against the first model). To anything else they would tell of a difference that no training made."""
    reference = Reference.of(policy, config.reference or config.model, config.dtype, bool(config.lora_rank) and not config.reference)
    if config.reference and job.state is None:
        probe = [TokenSequence((i,), tuple(range(i + 1, i + 9))) for i in range(3, 60, 9)]
        gap = (policy.score(probe)[0] - torch.cat(reference.logprobs(probe))).abs().mean().item()
        if gap > 0.05 and not is_ancestor(config.reference, config.model):
            raise UserError(
                f"the reference '{config.reference}' is not the model that training starts from ('{config.model}': their log-probs differ by"
                f" {gap:.2g} nats a token), nor one that it was trained from, so that preferences would be judged by a difference that training did"
                " not make; leave --reference out"
            )
    return reference


def _examples(config: Config, policy: Policy, job: Job) -> tuple[Examples, Examples]:
    """The file's pairs as tokens, or with KTO its single answers: those to learn from, and those held out."""
    is_kto = config.loss == "kto"
    loaded = (load_labelled if is_kto else load_pairs)(config.data, config.when_bad)
    make = partial(LabelledTokens.of if is_kto else PairTokens.of, policy.renderer)
    data = fit(loaded.items, make, lambda example: example.sequences, policy.max_context, config.when_too_long, when_bad=config.when_bad)
    learned, heldout = split(list(zip(data.items, data.made, strict=True)), config.heldout_frac, lambda both: both[0].prompt)
    job.describe(**{"answers" if is_kto else "pairs": len(learned)}, held_out=len(heldout), left_out=loaded.dropped | data.dropped)
    if is_kto and len(labels := {item.is_good for item, _ in learned}) == 1:
        raise UserError(f"all {len(learned)} answers to learn from are labelled {str(labels.pop()).lower()}: KTO needs good and bad ones")
    return [made for _, made in learned], [made for _, made in heldout]


def _from_file(config: Config, trained: Trained, examples: Examples):
    n = config.pairs_per_step * (2 if config.loss == "kto" else 1)

    async def take() -> tuple[Examples, None]:
        stream = Stream(examples, config.seed, trained.position)
        taken, _ = stream.take(n)
        trained.position = stream.position
        return taken, None

    return take


async def _own_samples(config: Config, trained: Trained, job: Job):
    task = await scored_task(config.task, config.reward, config.dtype, gold=config.gold)
    policy = trained.policy
    agent = make_agent(policy, Sampling(config.temperature, config.max_tokens), config.tools, config.tool_steps, config.task)
    problems = await answerable(job, task, policy, agent, config.when_too_long)

    async def take() -> tuple[list[PairTokens], Round]:
        stream = Stream(problems, config.seed, trained.position)
        round = await attempt(agent, task, *stream.take(config.pairs_per_step), config.group_size)
        require_scores(round)
        trained.position = stream.position
        return best_against_worst(round), round

    return take


def best_against_worst(round: Round) -> list[PairTokens]:
    """The best and the worst attempt at each problem, as they were sampled; none where the scored ones are all equal."""
    pairs = []
    for rollouts, values in zip(round.rollouts_PG, round.values_PG.tolist(), strict=True):
        scored = [(value, rollout) for value, rollout in zip(values, rollouts, strict=True) if value == value]
        if len(scored) < 2:
            continue
        (high, best), (low, worst) = max(scored, key=lambda x: x[0]), min(scored, key=lambda x: x[0])
        if high > low:
            pairs.append(PairTokens(*(_one_sequence(rollout) for rollout in (best, worst)), high - low))
    return pairs


def _one_sequence(rollout: Rollout) -> TokenSequence:
    sequence, *others = rollout_sequences(rollout)
    if others:
        raise UserError("pairs of attempts of several turns need a chat template that only appends: this one rewrites earlier turns of an attempt")
    return TokenSequence(sequence.prompt, sequence.tokens, sequence.predicted)  # at temperature 1: the policy that is kept


def _say_where_the_mass_went(found: Displacement, out: Path) -> None:
    """Write `displacement.json`; say it aloud where most chosen answers have become less likely."""
    write_atomically(out / "displacement.json", json.dumps(plain(asdict(found)), indent=1))
    if found.is_likely:
        print(f"dpo: warning: {found}", file=sys.stderr)
