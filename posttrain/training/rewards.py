"""Rewards by name: a learned model, a judge, or a rule."""

from __future__ import annotations

from collections.abc import Sequence

from posttrain.agents.chat import ChatAgent
from posttrain.batching import TokenSequence
from posttrain.engine.endpoint import Endpoint, is_remote, parse_address
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.scalar import ScalarModel, load_scalar
from posttrain.rewards.format import matches
from posttrain.rewards.judge import Judge, by_asking
from posttrain.renderer import Tools
from posttrain.rewards.learned import Learned
from posttrain.rewards.weighted import Reward
from posttrain.training.process import AGGREGATES, ProcessReader
from posttrain.training.texts import completion
from posttrain.types import Message, Rollout, Sampling, Score, UserError

KINDS = (
    "model:FOLDER (a reward model), process:FOLDER or process:AGGREGATE:FOLDER (one of steps; min, product or last of them),"
    " judge:MODEL (a language model, here or a server's, asked for a grade), pairwise:MODEL (asked which attempt at a problem is better),"
    " length:WORDS or format:REGEX"
)
PAIRWISE = "pairwise:"
"""What begins the name of a judge of siblings, which is no reward of single attempts."""


def load_reward(spec: str, dtype: str = "auto") -> Reward:
    """The reward that `KIND:ARGUMENT` names. Raises UserError for an unknown kind or a model that is none."""
    kind, _, argument = spec.partition(":")
    if not argument:
        raise UserError(f"there is no reward '{spec}': give {KINDS}")
    match kind:
        case "model":
            return Learned(ConversationReader(load_reward_model(argument, dtype)))
        case "process":
            return Learned(_process_reader(argument, dtype))
        case "judge":
            return load_judge(argument, dtype).grade
        case "pairwise":
            raise UserError(f"{spec} compares attempts with their siblings, and judges none alone: give it as the --reward of a training or of prefer, or say judge:{argument}")
        case "length":
            return near_length(_positive(argument))
        case "format":
            return matches(argument)
    raise UserError(f"there is no reward '{spec}': give {KINDS}")


def load_reward_model(name: str, dtype: str = "auto", judges_steps: bool = False) -> ScalarModel:
    """A trained reward model. Raises UserError for a language model, whose scalar head would be random, and for one that
    judges steps where whole answers are to be judged, or the other way round."""
    from posttrain.policy.loading import is_scalar_folder
    from posttrain.policy.models import resolve

    if not is_scalar_folder(resolve(name)):
        raise UserError(f"'{name}' is no reward model (it has no scalar head): train one with posttrain train reward-model, or ask it as judge:{name}")
    model = load_scalar(name, dtype)
    if judges_steps != (model.step_separator is not None):
        has, say = ("whole answers", "model") if judges_steps else ("single steps", "process")
        raise UserError(f"the reward model '{name}' has learned to judge {has}: say {say}:{name}")
    model.model.requires_grad_(False)
    return model


def aggregate_and_model(argument: str) -> tuple[str, str]:
    """What stands behind `process:`, which is FOLDER or AGGREGATE:FOLDER, in its two parts."""
    first, _, rest = argument.partition(":")
    return (first, rest) if first in AGGREGATES and rest else ("min", argument)


def _process_reader(argument: str, dtype: str) -> ProcessReader:
    aggregate, name = aggregate_and_model(argument)
    return ProcessReader(load_reward_model(name, dtype, judges_steps=True), aggregate)


def load_judge(model: str, dtype: str = "auto") -> Judge:
    """A language model as the judge: its probabilities are read where its tokens are known here, and a server's greedy replies elsewhere."""
    if is_remote(model):
        return Judge(by_asking(ChatAgent(Endpoint(parse_address(model)), Sampling(temperature=0.0, max_tokens=16))))
    return Judge(option_reader(load_policy(model, dtype)))


class ConversationReader:
    """A scalar model's number at the last token of each conversation."""

    def __init__(self, model: ScalarModel) -> None:
        self.model = model

    def __call__(self, conversations: Sequence[tuple[Message, ...]], tools: Sequence[Tools] = ()) -> list[float | str]:
        read = [self._read(messages, own) for messages, own in zip(conversations, tools or [()] * len(conversations), strict=True)]
        values = iter(self.model.score([s for s in read if isinstance(s, TokenSequence)]).tolist())
        return [next(values) if isinstance(s, TokenSequence) else s for s in read]

    def _read(self, messages: tuple[Message, ...], tools: Tools) -> TokenSequence | str:
        """The conversation's tokens, or why it cannot be read: what a model has sampled must not end a run."""
        try:
            sequence = self.tokens(messages, tools)
        except UserError as error:
            return str(error)
        fits = len(sequence.prompt) + len(sequence.tokens) <= self.model.max_context
        return sequence if fits else f"longer than the reward model's context of {self.model.max_context} tokens"

    def tokens(self, messages: tuple[Message, ...], tools: Tools = ()) -> TokenSequence:
        """The conversation in the reward model's own tokens, so that any tokenizer's policy can be judged; read where the last turn ends.

        There the model has been trained to be read, and not behind the newline that a template may write after it.
        """
        read = completion(self.model.renderer, messages[:-1], messages[-1:], tools)
        return last_token(read.prompt, read.tokens)


def last_token(prompt: Sequence[int], tokens: Sequence[int]) -> TokenSequence:
    """A text of which only the last token is read."""
    return TokenSequence(tuple(prompt), tuple(tokens), (False,) * (len(tokens) - 1) + (True,))


def option_reader(policy: Policy):
    """Log-probs of given answers as what the model says next."""

    async def read(messages: Sequence[Message], options: Sequence[str]) -> list[float]:
        prompt = policy.renderer.prompt(messages)
        scored = policy.score_tokens([(prompt, policy.renderer.encode(option)) for option in options])
        return [sum(logprobs) for logprobs, _ in scored]

    return read


def near_length(target: int) -> Reward:
    """1 for an answer of `target` words, falling to 0 at none and at twice as many: a reward that anyone can check."""

    async def reward(rollout: Rollout) -> Score:
        n = len(rollout.text.split())
        return Score(max(0.0, 1 - abs(n - target) / target))

    return reward


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"length:{text} is no length: give a number of words, such as length:20")
    return int(text)
