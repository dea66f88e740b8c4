"""Distillation: a student learns a teacher's distribution, token by token.

    on          whose answers are read                                            known as
    own         the student's own samples                                         on-policy distillation (GKD, 2306.13649; MiniLLM, 2306.08543)
    given       the answers in a file                                             word-level distillation (Hinton et al., 1503.02531)
    teacher     the teacher's samples, by likelihood alone                        sequence-level distillation (Kim and Rush, 1606.07947)

    divergence  what is made small at each token
    reverse_kl  KL(student ‖ teacher), over the whole vocabulary: seeks the teacher's modes
    forward_kl  KL(teacher ‖ student): covers them all
    jsd         the generalised Jensen–Shannon divergence with --jsd-beta (2306.13649, eq. 1)
    sampled     reverse KL from the sampled token alone: REINFORCE with log(teacher / sampler) as each token's advantage,
                which needs no vocabulary of the teacher's, only its log-probs (on own samples); its expected gradient is that of
                reverse_kl, which like it forgets that a token decides which tokens come after it

*Context distillation* (Askell et al., 2112.00861; Snell et al., 2209.15189): with `--teacher-system` the teacher reads a system
message that the student does not see; the student learns to behave as if it had. The teacher is then usually the model
itself as it was (`--teacher` empty).

Deviations: samples are fixed points of the gradient (none flows through the sampling), as in GKD; both distributions are
tempered alike; student and teacher must share a tokenizer, except on the teacher's samples, which are then read anew as
text; the vocabulary is never held for more than a few hundred tokens (policy/divergence.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from posttrain.batching import Batch, TokenSequence, pack, rollout_sequences
from posttrain.data.conversations import Conversation, load_conversations
from posttrain.losses.policy import reinforce
from posttrain.policy.divergence import divergences
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.renderer import Renderer, Tools
from posttrain.training.agents import make_agent, offered
from posttrain.training.job import Job
from posttrain.training.likelihood import likelihood_step
from posttrain.training.loop import StepResult, Trained
from posttrain.training.reference import Reference
from posttrain.training.rounds import Round, attempt, rollout_rows, summary
from posttrain.training.scored import answerable, prompt_files, scored_task
from posttrain.training.settings import Settings
from posttrain.training.stream import Stream
from posttrain.training.texts import WhenTooLong, completion, fit
from posttrain.types import Agent, Message, Problem, Rollout, Sampling, Task, UserError


@dataclass(frozen=True)
class Config(Settings):
    """Learn a teacher's distribution: of another model, of the same model with a longer prompt, or both."""

    teacher: str = ""
    """The teacher; empty takes --model as it is before training."""
    teacher_system: str = ""
    """A system message that only the teacher reads; @FILE takes a file's text."""
    task: str = ""
    """Prompts: a task (its score is then reported), or a .jsonl file of prompts."""
    data: str = ""
    """With --on given: a file of conversations, .jsonl or .jsonl.gz, of which the last answer is read."""
    out: Path = Path("runs/distill")
    """The run's folder; the same command again goes on where it stopped."""
    on: Literal["own", "given", "teacher"] = "own"
    """Whose answers are read."""
    divergence: Literal["reverse_kl", "forward_kl", "jsd", "sampled"] = "reverse_kl"
    """What is made small."""
    jsd_beta: float = 0.5
    """With jsd: the teacher's share in the mixture."""
    problems_per_step: int = 8
    """Prompts at each step."""
    group_size: int = 4
    """Answers to each prompt."""
    max_tokens: int = 64
    """Longest answer, in tokens; with --tools the longest turn."""
    tools: str = ""
    """With --on own: let student and teacher call tools: NAME[:key=value,…][,NAME…] of calculator, python, files, search, web, mcp; task
    takes those of --task."""
    tool_steps: int = 4
    """With --tools: turns of the model in one attempt, at most."""
    temperature: float = 1.0
    """Of sampling, and of both distributions."""
    when_bad: Literal["error", "drop"] = "error"
    """With --on given: refuse a file with an unusable conversation, or leave such out and count them."""
    when_too_long: WhenTooLong = "drop"
    """Leave out and count conversations that do not fit the context, or prompts that leave it no room for an answer; or refuse them."""
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=1e-5))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "problems_per_step", "group_size", "max_tokens", "tool_steps")
        if not self.temperature > 0:
            raise UserError("--temperature must be above 0")
        if not 0 < self.jsd_beta < 1:
            raise UserError("--jsd-beta must lie strictly between 0 and 1: at its ends it is 0 everywhere; say forward_kl or reverse_kl")
        if self.divergence == "sampled" and self.on != "own":
            raise UserError("--divergence sampled is for the student's own samples: say --on own")
        self._only_if(self.divergence == "jsd", "--divergence jsd", "jsd_beta")
        self._only_if(self.on != "teacher", "--on own or --on given", "divergence")
        self._only_if(self.on == "own", "--on own", "tools")
        self._only_if(bool(self.tools), "--tools", "tool_steps")
        self._only_if(self.on == "given", "--on given", "data", "when_bad")
        self._only_if(self.on != "given", "--on own or --on teacher", "task", "group_size", "max_tokens")


@dataclass(frozen=True)
class Lesson:
    """The same tokens, behind what the student reads and behind what the teacher reads."""

    student: TokenSequence
    teacher: TokenSequence
    sampling_logprobs: Tensor
    """Of the predicted tokens, where the student has sampled them; empty elsewhere."""


# --------------------------------------------------------------------------------------------------------------- the step


@dataclass
class Learner:
    """Everything a step needs."""

    trained: Trained
    teacher: Reference
    agent: Agent
    """Who answers: the student, or the teacher with its own prompt."""
    task: Task | None
    problems: Sequence[Problem]
    given: Sequence[Lesson]
    system: tuple[Message, ...]
    """What the teacher reads first."""
    config: Config
    tools: Tools = ()
    """What student and teacher may call."""


async def step(learner: Learner) -> StepResult:
    """Get answers, read them with the teacher, descend."""
    config, trained, started = learner.config, learner.trained, time.perf_counter()
    round: Round | None = None
    if config.on == "given":
        stream = Stream(learner.given, config.seed, trained.position)
        lessons, _ = stream.take(config.problems_per_step)
    else:
        stream = Stream(learner.problems, config.seed, trained.position)
        round = await _round(learner, *stream.take(config.problems_per_step))
        lessons = [lesson for rollout in round.rollouts for lesson in _lessons(learner, rollout)]
    trained.position = stream.position
    sampled_s = time.perf_counter() - started
    if config.on == "teacher":
        metrics = likelihood_step(trained.policy, trained.optimizer, [x.student for x in lessons], config.tokens_per_batch)
    else:
        metrics = descend(learner, lessons)
    total_s = time.perf_counter() - started
    metrics |= (summary(round) if round is not None and learner.task is not None else {}) | {"policy/skipped_updates": trained.optimizer.n_skipped}
    saved = sum(len(x.teacher.prompt) - len(x.student.prompt) for x in lessons)
    metrics["distill/prompt_tokens_saved"] = saved / max(1, len(lessons))
    timings = {"time/step_s": total_s, "time/sample_s": sampled_s, "time/train_s": total_s - sampled_s}
    rows = rollout_rows(round, torch.zeros_like(round.values_PG)) if round is not None else []
    return StepResult(metrics, timings, rows, _note(metrics, total_s))


def descend(learner: Learner, lessons: Sequence[Lesson]) -> dict[str, float]:
    """One optimizer step on the mean divergence over all answer tokens of the step; the metrics are those before it, means over tokens."""
    policy = learner.trained.policy
    students = [lesson.student for lesson in lessons]
    n = sum(s.n_predicted for s in students)
    if not n:
        return {}
    row = _sampled_row(learner, lessons) if learner.config.divergence == "sampled" else _whole_row(learner, lessons)
    sums: dict[str, float] = {}
    for batch in pack(students, learner.config.tokens_per_batch):
        loss, seen = row(batch)
        (loss / n).backward()
        sums = {name: sums.get(name, 0.0) + value for name, value in seen.items()}
    norm = learner.trained.optimizer.step()
    policy.version += 1
    return {name: total / n for name, total in sums.items()} | {"policy/grad_norm": norm, "data/trained_tokens": n}


Row = Callable[[Batch], tuple[Tensor, dict[str, float]]]
"""A packed row of the student's → its loss and what is to be known of it, both summed over its tokens."""


def _sampled_row(learner: Learner, lessons: Sequence[Lesson]) -> Row:
    """REINFORCE with log(teacher / sampler) of each sampled token."""
    head, sampled = learner.trained.policy.head, torch.cat([lesson.sampling_logprobs for lesson in lessons])
    teacher_logprobs = torch.cat(learner.teacher.logprobs([lesson.teacher for lesson in lessons]))

    def row(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        logprobs, entropies = head.logprobs(learner.trained.policy.states(batch), batch.targets, batch.temperatures)
        theirs = teacher_logprobs[batch.index]
        advantages = theirs - sampled[batch.index]
        seen = {"distill/divergence_nats": -advantages, "distill/teacher_logprob_nats": theirs, "policy/entropy_nats": entropies.detach()}
        return reinforce(logprobs, advantages).sum(), {name: values.sum().item() for name, values in seen.items()}

    return row


def _whole_row(learner: Learner, lessons: Sequence[Lesson]) -> Row:
    """The divergence over the whole vocabulary; the teacher reads each row once, for it and for the log-probs of the tokens."""
    config, head = learner.config, learner.trained.policy.head
    owners = torch.arange(len(lessons)).repeat_interleave(torch.tensor([lesson.student.n_predicted for lesson in lessons]))

    def row(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        states = learner.trained.policy.states(batch)
        which = owners[batch.index].unique().tolist()
        teacher, teacher_states = learner.teacher.states([lessons[i].teacher for i in which])
        teacher_states = teacher_states[batch.index.argsort().argsort()]  # they come in the order of the sequences
        found = divergences(head, states, teacher, teacher_states, batch.temperatures, config.divergence, config.jsd_beta).sum()
        with torch.no_grad():
            theirs = teacher.logprobs(teacher_states, batch.targets, batch.temperatures)[0].sum().item()
        return found, {"distill/divergence_nats": found.item(), "distill/teacher_logprob_nats": theirs}

    return row


async def _round(learner: Learner, problems: Sequence[Problem], seeds: Sequence[int]) -> Round:
    """Answers of the student, or of the teacher behind its own system message; scored if there is a judge."""
    config = learner.config
    if config.on == "own":
        return await attempt(learner.agent, learner.task, problems, seeds, config.group_size)
    longer = [replace(p, messages=with_system(learner.system, p.messages)) for p in problems]
    with learner.teacher.itself():
        round = await attempt(learner.agent, learner.task, longer, seeds, config.group_size)
    asked = [[replace(r, problem=p) for r in group] for p, group in zip(problems, round.rollouts_PG, strict=True)]
    return Round(list(problems), asked, round.scores_PG)


def _lessons(learner: Learner, rollout: Rollout) -> list[Lesson]:
    if learner.config.on == "teacher":
        return [_from_teacher(learner, rollout)] if rollout.outcome == "terminated" else []
    stretches = rollout_sequences(rollout)
    if learner.system and len(stretches) > 1:
        raise UserError("--teacher-system needs a chat template that only appends: this one rewrites earlier turns of an attempt")
    prompt = learner.trained.policy.renderer.prompt(with_system(learner.system, rollout.problem.messages), rollout.problem.tools or learner.tools)
    logprobs = torch.tensor([x for c in rollout.completions for x in c.sampling_logprobs]).split([s.n_predicted for s in stretches])
    teachers = [TokenSequence(prompt, s.tokens, s.predicted, s.temperature) if i == 0 else s for i, s in enumerate(stretches)]
    found = [Lesson(*each) for each in zip(stretches, teachers, logprobs, strict=True)]
    longest, context = max((len(s.prompt) + len(s.tokens) for s in teachers), default=0), learner.teacher.policy.max_context
    if longest > context:
        raise UserError(f"the teacher would read {longest} tokens, and its context holds {context}: shorten --teacher-system or --max-tokens")
    return found


def _from_teacher(learner: Learner, rollout: Rollout) -> Lesson:
    """The teacher's answer as the student's: the text that it wrote, in the student's own tokens, behind the student's prompt."""
    student = completion(learner.trained.policy.renderer, rollout.problem.messages, rollout.messages, rollout.problem.tools)
    return Lesson(student, rollout_sequences(rollout)[0], torch.empty(0))


def with_system(system: tuple[Message, ...], messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages behind the teacher's system message; one of their own follows it within the same message."""
    if system and messages[0].role == "system":
        return (Message("system", f"{system[0].content}\n\n{messages[0].content}"), *messages[1:])
    return (*system, *messages)


def _note(metrics: dict[str, float], seconds: float) -> str:
    score = f"reward {metrics['reward/mean']:.2f}  " if metrics.get("reward/n") else ""
    if "policy/grad_norm" not in metrics:
        return f"{score}nothing learned: no answer came to its end"
    loss = f"divergence {metrics['distill/divergence_nats']:.3f} nats" if "distill/divergence_nats" in metrics else f"nll {metrics.get('loss/nll_nats', 0):.3f}"
    return f"{score}{loss}  {seconds:.1f} s"


# ---------------------------------------------------------------------------------------------------------------- the run


async def train(config: Config) -> Path:
    """Run, or take up, a whole training; returns the last checkpoint.

    Raises UserError for a folder of another run, a teacher of another tokenizer, and where there are no prompts or answers.
    """
    if config.on == "given" and not config.data:
        raise UserError("--on given reads the answers of a file: give --data FILE.jsonl")
    if config.on != "given" and not config.task:
        raise UserError("distillation needs prompts: --task NAME, or --task FILE.jsonl")
    if not config.teacher and not config.teacher_system and config.on != "teacher":
        raise UserError("the teacher would be the student itself, and teach nothing: give --teacher MODEL, --teacher-system TEXT, or both")
    job = Job.open(config, "distill", [config.data] if config.data else prompt_files(config.task))
    trained = job.trained(job.load_policy())
    policy = trained.policy
    teacher = _teacher(config, policy)
    system = (Message("system", _text(config.teacher_system)),) if config.teacher_system else ()
    task = await scored_task(config.task, judged=False) if config.on != "given" else None
    speaker = policy if config.on == "own" else teacher.policy
    agent = make_agent(speaker, Sampling(config.temperature, config.max_tokens), config.tools, config.tool_steps, config.task)
    given = _given(config, policy, teacher, system, job) if config.on == "given" else []
    problems = await answerable(job, task, speaker, agent, config.when_too_long) if task else []
    tools = await offered(agent, *problems[:1])
    learner = Learner(trained, teacher, agent, task, problems, given, system, config, tools)
    return await job.run_steps(trained, lambda _: step(learner))


def _teacher(config: Config, policy: Policy) -> Reference:
    """The teacher, frozen; where it only writes, it may have another tokenizer than the student."""
    if config.on != "teacher" or not config.teacher:
        return Reference.of(policy, config.teacher or config.model, config.dtype, bool(config.lora_rank) and not config.teacher)
    teacher = load_policy(config.teacher, config.dtype)
    teacher.model.requires_grad_(False)
    return Reference(teacher, False)


def _given(config: Config, policy: Policy, teacher: Reference, system: tuple[Message, ...], job: Job) -> list[Lesson]:
    loaded = load_conversations(config.data, config.when_bad)
    make = lambda conversation: _lesson(policy.renderer, conversation, system)  # noqa: E731
    context = min(policy.max_context, teacher.policy.max_context)
    data = fit(loaded.items, make, lambda lesson: (lesson.student, lesson.teacher), context, config.when_too_long, when_bad=config.when_bad)
    job.describe(conversations=len(data.made), left_out=loaded.dropped | data.dropped)
    return data.made


def _lesson(renderer: Renderer, conversation: Conversation, system: tuple[Message, ...]) -> Lesson:
    prompt, answer = conversation.messages[:-1], conversation.messages[-1:]
    student = completion(renderer, prompt, answer, conversation.tools)
    teacher = renderer.prompt(with_system(system, prompt), conversation.tools)
    return Lesson(student, TokenSequence(teacher, student.tokens, student.predicted), torch.empty(0))


def _text(given: str) -> str:
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{given[1:]}' cannot be read ({error}): --teacher-system takes a text, or @FILE") from None
