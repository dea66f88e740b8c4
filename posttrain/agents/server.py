"""A model behind a server that takes messages, as a speaker. What it says is as exact as `chat` makes it: tokens where the server tells
them, else words and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from posttrain.agents.chat import Reply, replies
from posttrain.agents.conversation import Spoken, Transcript, turn_sampling
from posttrain.batching import row_begun
from posttrain.engine.endpoint import Endpoint
from posttrain.engine.remote import forgotten
from posttrain.tool_calls import read_tags
from posttrain.types import Message, Sampling


@dataclass(frozen=True)
class ServerSpeaker:
    """Asks a server for the assistant's turns.

    Calls that the server has not told from the words are read there, between the tags of Hermes and Qwen. `posttrain serve` is sent the
    tokens that it read and wrote along with the messages, and goes on from them: its attempts are those of `LocalSpeaker`, token
    for token. Any other server renders the whole conversation anew at each turn: even where it tells its tokens (vLLM), a later turn
    need not go on from them, and is then learned as a row of its own; where it tells none, attempts can be scored and not trained on.
    Give such an address a tokenizer (`LocalSpeaker` over a `RemoteEngine`) where exact tokens matter.
    """

    endpoint: Endpoint
    sampling: Sampling = Sampling()
    """Of each turn; its `max_tokens` is a turn's longest."""

    async def speak(self, transcript: Transcript, n: int, seed: int, max_tokens: int) -> list[Spoken]:
        """`n` turns. Raises Unavailable where the server fails, again and again, and UserError where it refuses."""
        sampling = turn_sampling(self.sampling, transcript, seed, max_tokens)
        ours = (await self.endpoint.card()).remembers
        messages = transcript.messages if ours else _sendable(transcript.messages)
        said = await replies(self.endpoint, messages, n, sampling, tuple(transcript.tools), *_seen(transcript))
        return [_spoken(reply, bool(transcript.tools)) for reply in said]

    async def ended(self, transcript: Transcript) -> None:
        """The attempt will not go on: a server of ours that remembers it need not."""
        seen, _ = _seen(transcript)
        if seen:
            await forgotten(self.endpoint, seen)


def _seen(transcript: Transcript) -> tuple[tuple[int, ...] | None, int]:
    """The tokens up to the end of the last turn, and how many of them began its row; None where those of a turn are not known."""
    completions = transcript.completions
    if len(completions) < len(transcript.turns):
        return None, 0
    seen = completions[-1].prompt_token_ids + completions[-1].token_ids if completions else ()
    return seen, row_begun(completions, seen)


def _sendable(messages: Sequence[Message]) -> list[Message]:
    """The messages; a complaint that answers no call is the user's, for servers refuse a tool's answer to nothing."""
    return [replace(m, role="user") if m.role == "tool" and not m.tool_call_id else m for m in messages]


def _spoken(reply: Reply, offered: bool) -> Spoken:
    read = read_tags(reply.message.content) if offered else None
    calls = reply.message.tool_calls + (read.calls if read else ())
    message = replace(reply.message, content=read.content if read else reply.message.content, tool_calls=calls)
    return Spoken(message, reply.completion, reply.ended == "stop", read.complaints if read else (), reply.usage)
