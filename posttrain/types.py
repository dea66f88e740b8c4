"""The nouns that every room speaks of. Imports nothing of ours, and no torch.

Two verbs carry the field: *attempt* a problem (an `Agent` makes `Rollout`s) and *score* the attempt (a `Task` makes a
`Score`). Everything here is frozen: what has been sampled, judged or measured does not change afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable


class UserError(Exception):
    """Bad input. Its text is one clear sentence that says what to do; the command line prints it and exits with 2."""


class ContextFull(UserError):
    """A prompt leaves no room in the model's context for a single token."""


class ToolError(Exception):
    """A tool's own complaint, in one sentence for the model, which may try again. Whatever else a tool raises ends the attempt."""


# ------------------------------------------------------------------------------------------- conversations and problems


@dataclass(frozen=True)
class ToolCall:
    """A model's request that a tool be run."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""
    """What the tool's answer refers to; empty where a chat format has no names for calls."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. A conversation is a tuple of messages, and only ever grows."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """What an assistant's turn asks to be run."""
    tool_call_id: str = ""
    """Which call a tool's turn answers."""


@dataclass(frozen=True)
class Problem:
    """One thing to answer: what the model reads (`messages`) and what the judge needs (`answer`, `data`)."""

    id: str
    messages: tuple[Message, ...]
    answer: str
    """The gold answer in the judge's own terms; `Task.solution` turns it into a text that scores 1."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the judge needs; must be JSON."""

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Descriptions of tools that the model reads before the messages: `data["tools"]`, in OpenAI's form. Nothing carries a call out."""
        return self.data.get("tools", ())


# ------------------------------------------------------------------------------------------------ sampling and attempts


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. With the defaults a completion is an exact draw from the model at temperature 1."""

    temperature: float = 1.0
    """Logits are divided by it before the softmax; 0 takes the most likely token (the lowest id among equals)."""
    max_tokens: int = 256
    """The longest completion, in tokens, the stop token included."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most likely tokens until their mass reaches p; 1 keeps all."""
    min_p: float = 0.0
    """Keep the tokens at least this fraction as likely as the most likely one; 0 keeps all."""
    seed: int = 0
    """With the sample's index and the token's position it fixes the token drawn, whatever else is in the batch."""

    @property
    def truncates(self) -> bool:
        """Whether some tokens cannot be drawn: log-probs are then over the kept tokens, and ratios to a full policy are biased."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0


StopReason = Literal["stop", "length"]
"""`stop`: the model ended its turn (the stop token is the last of `token_ids`); `length`: it ran into a limit."""


@dataclass(frozen=True)
class Completion:
    """The exact tokens that a model read and wrote. Tokens are the truth; text is a view."""

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    sampling_logprobs: tuple[float, ...]
    """Log-probability in nats of each of `token_ids`, under the distribution that it was drawn from."""
    stop_reason: StopReason
    sampling: Sampling = Sampling()
    sample: int = 0
    """Which of the siblings drawn from this prompt with this seed it is."""
    weight_version: int = 0
    """How many optimizer steps the weights that wrote it had seen."""


@dataclass(frozen=True)
class Source:
    """A passage that a model was shown, as it was shown: `text == document_text[start:end]`, in characters."""

    id: str
    document: str
    """The name of the document that it stands in."""
    start: int
    end: int
    text: str
    score: float
    """How well it fitted the query, on the retriever's own scale."""


@dataclass(frozen=True)
class Retrieval:
    """What was looked up for an attempt: what of it the model was shown, and what found no room."""

    query: str
    corpus_sha256: str
    """The hash of what was searched, as its index says it; empty where there is none."""
    shown: tuple[Source, ...]
    """In the order in which the model read them."""
    left_out: tuple[str, ...] = ()
    """The ids of the passages that were found and did not fit into the context, best first."""


@dataclass(frozen=True)
class Reading:
    """A possible answer that a model did not write but was asked the likelihood of: the exact tokens it read, and their log-probs."""

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Log-probability in nats of each of `token_ids`, over the full vocabulary at temperature 1."""


Outcome = Literal["terminated", "truncated", "error"]
"""`terminated`: the attempt came to its own end; `truncated`: a budget ran out; `error`: the machinery failed, not the model."""


@dataclass(frozen=True)
class Usage:
    """How many tokens a server says it has read and written, where it does not say which."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Rollout:
    """One finished attempt at a problem."""

    problem: Problem
    messages: tuple[Message, ...]
    """What followed the problem's own messages: the attempt as text."""
    completions: tuple[Completion, ...] = ()
    """What was sampled, turn by turn; empty for an attempt that was not sampled (a gold answer, say)."""
    outcome: Outcome = "terminated"
    sample: int = 0
    error: str = ""
    """What failed, or which budget ran out, in a sentence; empty where there is nothing to say."""
    usage: Usage | None = None
    """What a server counted, for an attempt without completions because its tokens are not known."""
    retrievals: tuple[Retrieval, ...] = ()
    """What was looked up for it, in order; empty for an attempt without sources."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the world that it was attempted in has come to, for the judge; must be JSON. Empty where the conversation is all."""
    readings: tuple[Reading, ...] = ()
    """Of every option, where the answer is the likeliest of several and was not written."""

    @property
    def text(self) -> str:
        """The last thing the assistant said, or nothing."""
        return next((m.content for m in reversed(self.messages) if m.role == "assistant"), "")

    @property
    def n_tokens(self) -> int:
        """How many tokens were sampled."""
        counted = self.usage.completion_tokens if self.usage and not self.completions else 0
        return sum(len(c.token_ids) for c in self.completions) + counted


def answered(problem: Problem, text: str) -> Rollout:
    """The attempt that says just `text`: what a judge is tried on before any model is."""
    return Rollout(problem, (Message("assistant", text),))


@dataclass(frozen=True)
class Score:
    """The judgement of one rollout. `nan` means *could not judge*, which is neither right nor wrong."""

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)
    explanation: str = ""

    @property
    def is_unscored(self) -> bool:
        return math.isnan(self.value)


def unscored(reason: str) -> Score:
    """The score of what could not be judged, with the reason."""
    return Score(math.nan, {}, reason)


# ------------------------------------------------------------------------------------------------------------- measures

Better = Literal["higher", "lower"] | None
"""Which way is good; None where that depends on what one is after."""


@dataclass(frozen=True)
class Aspect:
    """What a task wants reported beside accuracy, made of the parts of its scores; a problem whose score lacks a part says nothing.

    Of a `part` alone, its mean over problems. With `per`, the ratio of the sums of two parts: instructions followed per
    instruction given. The last two speak of problems in twos of one `pair`, of which one has the first part and the other the
    second: with `versus`, the mean difference of the two; with `given`, the mean of the first where the second is 1.
    """

    part: str
    title: str
    better: Better = None
    per: str = ""
    versus: str = ""
    given: str = ""
    signed: bool = False
    """Whether the part may lie below 0 or above 1."""

    @property
    def name(self) -> str:
        """What its measurement is called."""
        others = (("per", self.per), ("versus", self.versus), ("given", self.given))
        return "aspect/" + next((f"{self.part}_{word}_{other}" for word, other in others if other), self.part)


@dataclass(frozen=True)
class Measurement:
    """A number that carries its doubt."""

    value: float
    stderr: float
    """Standard error over problems, not over repeats of one problem; nan where n is too small for one."""
    low: float
    high: float
    """The 95% interval."""
    n: int
    """How many independent units (problems, texts) the value rests on."""
    n_unscored: int = 0
    """How many attempts could not be judged; they are in neither value nor n."""
    unit: str = ""


# ------------------------------------------------------------------------------------------------------------ contracts


class Engine(Protocol):
    """Samples tokens. Knows nothing of tools, tasks or chat formats."""

    async def sample(
        self, prompt_token_ids: Sequence[int], n: int, sampling: Sampling, stop_token_ids: Sequence[int] = (), begun: int = 0
    ) -> list[Completion]:
        """`n` completions of one prompt. Concurrent callers share batches; siblings share the prompt's work.

        `begun`: how many of its tokens were the first prompt of a conversation that is going on, for engines that remember one from
        turn to turn; 0 where none is.
        """
        ...


class Agent(Protocol):
    """Attempts problems: a bare model, a model with tools, or a search over another agent."""

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` attempts, in order. The same (problem, n, seed) gives the same attempts from the same weights."""
        ...


@dataclass(frozen=True)
class Reply:
    """What comes back to a turn of the model."""

    messages: tuple[Message, ...] = ()
    """What it is told; nothing where the attempt is over."""
    done: bool = False
    """The attempt is over: nothing is asked of the model any more."""


class Env(Protocol):
    """A conversation partner for a single attempt: tools, a person, or a world that changes. There is no reset."""

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """What the model may call, as JSON schemas in OpenAI's shape; the same throughout the attempt."""
        ...

    async def reply(self, message: Message) -> Reply:
        """The answer to what the model said, its calls run. An exception ends the attempt: the machinery has failed."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What a judge has to know of it, as JSON; empty where the conversation says everything."""
        ...


class World(Protocol):
    """Where attempts take place: gives each a partner of its own."""

    def open(self, problem: Problem, seed: int) -> AbstractAsyncContextManager[Env]:
        """A fresh partner for one attempt; what it has started ends with the context, however the attempt ended."""
        ...


class Task(Protocol):
    """A named set of problems and the one function that scores an answer, in training and evaluation alike.

    A task may say more of itself. In the `data` of its problems: under `cluster` what several share, such as the text they ask
    about, which then is what intervals count; under `pair` what two share that ask the same in two ways; under `no_gold` that no
    text is known that scores 1. In the parts of its scores: under `parsed` whether an answer was found at all, 1 or 0; under
    `unavailable` 1 where the score is nan for want of an optional package. And in attributes, none of which has to be there:
    `chance`, what guessing scores (else 0); `aspects`, a sequence of `Aspect`s, what else its scores tell; `beside`, the name of the
    task that this is in other circumstances, and next to which it is shown; `depends_on`, a mapping of what its attempts depend on
    beside the problem and the model; `judged_by`, a mapping of who scores them, where it may take another judge; and two methods: `through(agent)`, which makes of the bare model's agent the one that attempts
    it; and `final_answer(text)`, which says what a reply's answer is, in one way of writing, so that equal answers can be counted,
    or None where it holds none.
    """

    @property
    def name(self) -> str: ...

    def problems(self, split: str) -> Sequence[Problem]:
        """The problems of `train` or `test`, in a fixed order; the two never share a problem."""
        ...

    async def score(self, rollout: Rollout) -> Score:
        """1 for right, 0 for wrong, in between where a task has degrees, nan where it could not be judged."""
        ...

    def solution(self, problem: Problem) -> str:
        """A text that scores 1."""
        ...


@dataclass(frozen=True)
class Choice:
    """What a problem offers to choose from, where the problem's own messages list the options by letter."""

    messages: tuple[Message, ...]
    """The question without its options: what stands before an option's own text."""
    options: tuple[str, ...]
    right: tuple[int, ...]
    """Which of them count as right: one, as a rule."""


@runtime_checkable
class ChoiceTask(Task, Protocol):
    """A task whose problems list options by letter, so that it can be answered by what a model finds likeliest as well as in writing.

    The text that it scores is a letter. Guessing scores, on each problem, the share of the options that are right.
    """

    def choice(self, problem: Problem) -> Choice:
        """The options of one of its problems."""
        ...
