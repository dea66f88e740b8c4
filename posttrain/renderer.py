"""Messages become the exact tokens that a model reads, and its tokens become messages again. Nothing else touches a tokenizer.

A renderer owns the chat template, says which tokens end a turn, and marks the tokens that the model itself has written
(or, in supervised data, should have): those alone may be trained on. It never guesses from text: what belongs to a
message is what its addition added, which holds because a template only ever appends (the *prefix property*, checked).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from posttrain.types import Message, UserError

Tools = Sequence[Mapping[str, Any]]
"""Descriptions of tools as JSON schemas, in the shape that chat templates take (OpenAI's)."""

PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | capitalize + ':' }}{% if m['content'][:1] | trim %}{{ ' ' }}{% endif %}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""For models that bring no chat template (base models): `User: …`, a blank line, `Assistant:`. The blank after the colon is
the model's to write, and is not written twice where it has."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens, with a mark on each token that the assistant wrote, its end of turn included."""

    token_ids: tuple[int, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True)
class Renderer:
    """Chat template and tokenizer of one model."""

    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def template(self) -> str:
        """The tokenizer's own; else the plain one, behind the token that opens every text of this tokenizer, if one does."""
        if self.tokenizer.chat_template:
            return self.tokenizer.get_chat_template()
        opened = self.tokenizer.encode("")[:1] == [self.tokenizer.bos_token_id]
        return "{{ bos_token }}" * opened + PLAIN_TEMPLATE

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest token id; a model may have rows of padding behind it."""
        return max(self.tokenizer.get_vocab().values()) + 1

    @cached_property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The tokens that end an assistant's turn: what the template writes after its words, and the end of text."""
        probe = (Message("user", "a"), Message("assistant", "b"))
        turn = self._encode(probe)[len(self._encode(probe[:1], generation=True)) :]
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        first = next((t for t in turn if t in special), None)
        eos = self.tokenizer.eos_token_id
        return tuple(dict.fromkeys(t for t in (first, eos) if t is not None))

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> tuple[int, ...]:
        """The tokens that the model reads before it answers, the opening of its own turn included."""
        if not messages:
            raise UserError("a prompt needs at least one message")
        return tuple(self._encode(messages, tools, generation=True))

    def parse(self, token_ids: Sequence[int]) -> Message:
        """The assistant's message that these sampled tokens spell, without its end of turn."""
        kept = [t for t in token_ids if t not in self.stop_token_ids]
        return Message("assistant", self.decode(kept))

    def render(self, messages: Sequence[Message], tools: Tools = ()) -> Rendered:
        """A whole conversation, with the assistant's own tokens marked.

        Raises UserError where a longer conversation does not begin with the tokens of the shorter one, and where the
        assistant speaks first: nothing then tells its words from what the template puts before them.
        """
        if messages and messages[0].role == "assistant":
            raise UserError("a conversation to be marked cannot begin with the assistant; put a user's or system message before it")
        done: tuple[int, ...] = ()
        trained: list[bool] = []
        for i, message in enumerate(messages):
            whole = tuple(self._encode(messages[: i + 1], tools))
            is_assistant = message.role == "assistant"
            start = self.prompt(messages[:i], tools) if is_assistant else done
            if whole[: len(start)] != start or start[: len(done)] != done:
                raise UserError(
                    f"this chat template rewrites earlier turns when message {i + 1} is added, so its tokens cannot be"
                    " marked one message at a time; give a template that only appends"
                )
            added = whole[len(start) :]
            trained += [False] * (len(start) - len(done))
            trained += self._own(added) if is_assistant else [False] * len(added)
            done = whole
        return Rendered(done, tuple(trained))

    def documents(self, messages: Sequence[Message], tools: Tools = ()) -> list[Rendered]:
        """The conversation as few texts as its chat template allows, in which every assistant's turn is marked exactly once.

        One, where the template only appends. A template that rewrites what came before (one that drops earlier thoughts,
        say) gets a text of its own for each such turn, which the model then reads as it will when it is to answer.
        """
        found: list[Rendered] = []
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            read, whole = self.prompt(messages[:i], tools), tuple(self._encode(messages[: i + 1], tools))
            if whole[: len(read)] != read:
                raise UserError(
                    f"this chat template writes message {i + 1} in another way than it opens the assistant's turn, so that its"
                    " tokens cannot be told from the prompt's; give a template that goes on from its own opening"
                )
            done = found.pop() if found and found[-1].token_ids == read[: len(found[-1].token_ids)] else Rendered((), ())
            marks = done.trained + (False,) * (len(read) - len(done.token_ids)) + tuple(self._own(whole[len(read) :]))
            found.append(Rendered(whole, marks))
        return found

    def encode(self, text: str) -> list[int]:
        """Plain text as tokens: no template, no special tokens added."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Each token's own text, for showing; a token that is part of a character shows a replacement mark."""
        return [self.decode([t]) for t in token_ids]

    def _own(self, added: Sequence[int]) -> list[bool]:
        """Marks up to the turn's end: what the template writes behind it (a newline, say) no model has to produce."""
        ends = [i for i, t in enumerate(added) if t in self.stop_token_ids]
        last = ends[-1] if ends else len(added) - 1
        return [i <= last for i in range(len(added))]

    def _encode(self, messages: Sequence[Message], tools: Tools = (), generation: bool = False) -> list[int]:
        """One pass through the template, one through the tokenizer, and no special token but the template's own."""
        try:
            text = self.tokenizer.apply_chat_template(
                [_turn(m) for m in messages], tools=[dict(t) for t in tools] or None, chat_template=self.template,
                add_generation_prompt=generation, tokenize=False,
            )  # fmt: skip
        except (TemplateError, TypeError) as error:
            raise UserError(f"this model's chat template refuses the conversation ({error}): change its roles or their order") from error
        return self.tokenizer.encode(text, add_special_tokens=False)


def _turn(message: Message) -> dict[str, Any]:
    """A message as chat templates read it; keys that say nothing are left out, for templates ask whether they are there."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}} | ({"id": call.id} if call.id else {})
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn
