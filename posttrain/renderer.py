"""Messages become the exact tokens that a model reads, and its tokens become messages again. Nothing else touches a tokenizer.

A renderer owns the chat template, says which tokens end a turn, and marks the tokens that the model itself has written
(or, in supervised data, should have): those alone may be trained on. It never guesses from text: what belongs to a
message is what its addition added, which holds because a template only ever appends (the *prefix property*, checked).

What is read before an answer keeps its tokens when the answer stands behind it, even where the tokenizer would join the
two (a newline with the blanks of indented code): in training, and in the next prompt, the model sees what it saw when it spoke.

Deviations from the templates as published: one that asks for today's date is told a fixed one, or the same run would read
other tokens tomorrow; one that knows no tools gets them in words (`tool_words.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os.path import commonprefix
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from posttrain import tool_words
from posttrain.tool_calls import READERS, Read
from posttrain.types import Message, ToolCall, UserError

Tools = Sequence[Mapping[str, Any]]
"""Descriptions of tools as JSON schemas, in the shape that chat templates take (OpenAI's)."""

PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | capitalize + ':' }}{% if m['content'][:1] | trim %}{{ ' ' }}{% endif %}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""For models that bring no chat template (base models): `User: …`, a blank line, `Assistant:`. The blank after the colon is
the model's to write, and is not written twice where it has."""

STILL_CLOCK = (
    "{% macro strftime_now(form) %}{{ form | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') }}{% endmacro %}\n"
)
"""Stands before a template that asks for today's date: 26 July 2024, which Llama's own take where they have no clock."""

THOUGHT_TAG = re.compile("</?think>")
"""Around what the assistant thinks, where messages have it: at the beginning of their content. Templates that want it apart get it so."""

END_OF_CALL = "<|eom_id|>"
"""Llama 3 ends a turn with it that calls a tool, where its template would write the end of any turn."""

PROBE = "w0rds"
"""Said to a template to see what it makes of it."""

Known = dict[str, tuple[int, ...]]
"""The tokens of texts that have been read before."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens, with a mark on each token that the assistant wrote, its end of turn included."""

    token_ids: tuple[int, ...]
    trained: tuple[bool, ...]

    @property
    def n_settled(self) -> int:
        """Tokens up to the last marked one; the template's blanks behind it may be other tokens when the conversation goes on."""
        return max((i + 1 for i, mark in enumerate(self.trained) if mark), default=0)

    def followed_by(self, token_ids: tuple[int, ...], own: Sequence[bool] = ()) -> Rendered | None:
        """These tokens, the last of which have the marks `own`, as this conversation going on; None if they do not go on from it."""
        n = self.n_settled
        if token_ids[:n] != self.token_ids[:n]:
            return None
        return Rendered(token_ids, (*self.trained[:n], *(False,) * (len(token_ids) - n - len(own)), *own))


@dataclass(frozen=True)
class Renderer:
    """Chat template and tokenizer of one model."""

    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def template(self) -> str:
        """The tokenizer's own; else the plain one, behind the token that opens every text of this tokenizer, if one does."""
        if self.tokenizer.chat_template:
            own = self.tokenizer.get_chat_template()
            return STILL_CLOCK + own if "strftime_now" in own else own
        opened = self.tokenizer.encode("")[:1] == [self.tokenizer.bos_token_id]
        return "{{ bos_token }}" * opened + PLAIN_TEMPLATE

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest token id; a model may have rows of padding behind it."""
        return max(self.tokenizer.get_vocab().values()) + 1

    @cached_property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The tokens that end an assistant's turn: what the template writes behind its words, the end of text, and that of a call."""
        behind = self._text((Message("user", "a"), Message("assistant", PROBE))).partition(PROBE)[2]
        special = {i: token.content for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        first = next((t for t in self.encode(behind) if t in special), None)
        ends_call = next((i for i, content in special.items() if content == END_OF_CALL), None)
        return tuple(dict.fromkeys(t for t in (first, self.tokenizer.eos_token_id, ends_call) if t is not None))

    @cached_property
    def writes_tools(self) -> bool:
        """Whether the chat template writes the descriptions of tools, calls and their answers; if not, they are put into words."""
        call = ToolCall(f"{PROBE}1", {}, "a23456789")  # as short as Mistral's templates want it
        messages = (Message("user", "a"), Message("assistant", "", (call,)), Message("tool", f"{PROBE}2", (), call.id))
        function = {"name": f"{PROBE}3", "description": "", "parameters": {"type": "object", "properties": {}}}
        try:
            text = self._applied(messages, ({"type": "function", "function": function},), generation=True)
        except UserError:
            return False
        return all(f"{PROBE}{i}" in text for i in (1, 2, 3))

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> tuple[int, ...]:
        """The tokens that the model reads before it answers, the opening of its own turn included."""
        if not messages:
            raise UserError("a prompt needs at least one message")
        return self._read(self._text(messages, tools, generation=True), self._turns(messages, tools), {})

    def prompt_after(self, seen: Sequence[int], before: Sequence[Message], said: Message, then: Sequence[Message], tools: Tools = ()) -> tuple[int, ...]:
        """What the model reads when `then` has followed what it `said`: the tokens that it has read and written, and what is new.

        `seen` ends with the end of its turn. What it wrote is not spelled anew: its tokens stay as it drew them, whatever form
        the template would give them. Only where the template rewrites the conversation when it goes on (one that drops earlier
        thoughts, say) is the whole of it read anew, as `prompt` has it.
        """
        messages = (*before, said, *then)
        added = self._added(self._text(messages, tools, generation=True), before, said, tools)
        return self.prompt(messages, tools) if added is None else (*seen, *self.encode(added))

    @cached_property
    def reads_calls(self) -> Callable[[str], Read]:
        """How this model's calls of tools are read: as its template writes them, or as `tool_words` does where it knows none.

        Raises UserError for a template that writes them in a form that is not known here.
        """
        call = ToolCall(f"{PROBE}1", {f"{PROBE}2": [1, "b"]}, "a23456789")
        rendered = self.documents((Message("user", "a"), Message("assistant", "", (call,))))[-1]
        written = self._words([t for t, mark in zip(rendered.token_ids, rendered.trained, strict=True) if mark])
        for reader in READERS.values():
            if [(c.name, c.arguments) for c in reader(written).calls] == [(call.name, call.arguments)]:
                return reader
        raise UserError(f"this chat template writes calls of tools in a form that cannot be read back ({written!r}): give another template")

    def parse(self, token_ids: Sequence[int], tools: Tools = ()) -> Message:
        """The assistant's message that these sampled tokens spell, without its end of turn.

        With `tools` its calls are told from its words; one that cannot be read stays among them (`read` says what is wrong with it).
        """
        read = self.read(token_ids, tools)
        return Message("assistant", read.content, read.calls)

    def read(self, token_ids: Sequence[int], tools: Tools = ()) -> Read:
        """The same, with complaints of calls that cannot be read. Raises UserError as `reads_calls`."""
        words = self._words(token_ids)
        return self.reads_calls(words) if tools else Read(words)

    def render(self, messages: Sequence[Message], tools: Tools = ()) -> Rendered:
        """A whole conversation as one text, with the assistant's own tokens marked.

        Raises UserError where a longer conversation does not begin with the tokens of the shorter one, and as `documents`.
        """
        *earlier, last = self.documents(messages, tools) or [Rendered((), ())]
        if messages and messages[-1].role != "assistant":
            last = last.followed_by(self._read(self._text(messages, tools), self._turns(messages, tools), {}))
        if earlier or last is None:
            raise UserError(
                "this chat template rewrites earlier turns when a conversation goes on, so that it cannot be marked as one text;"
                " give a template that only appends"
            )
        return last

    def documents(self, messages: Sequence[Message], tools: Tools = (), answers: Container[int] | None = None) -> list[Rendered]:
        """The conversation as few texts as its chat template allows, in which every assistant's turn is marked exactly once.

        One, where the template only appends. A template that rewrites what came before (one that drops earlier thoughts,
        say) gets a text of its own for each such turn, which the model then reads as it will when it is to answer.
        `answers`: the places of the messages to be marked; None is all of the assistant's. An empty thought that the template
        puts before an answer by itself is read and not marked; one that the assistant has written is.

        Raises UserError where the assistant speaks first (nothing then tells its words from what the template puts before
        them), or where the template does not go on from its own opening, or leaves out part of what is to be learned.
        """
        if messages and messages[0].role == "assistant":
            raise UserError("a conversation to be marked cannot begin with the assistant; put a user's or system message before it")
        turns: list[list[str]] = []
        known: Known = {}
        found: list[Rendered] = []
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            turns.append(self._openings(messages[:i], message, tools))
            if answers is not None and i not in answers:
                continue
            whole = self._text(messages[: i + 1], tools)
            opening = self._checked_opening(whole, turns[-1], i, messages, tools)
            ids = self._read(whole, turns, known)
            own = self._own(ids[len(self._read(opening, turns, known)) :])
            longer = found[-1].followed_by(ids, own) if found else None
            found = [*found[:-1], longer] if longer else [*found, Rendered((), ()).followed_by(ids, own)]
        return found

    def defused(self, text: str) -> str:
        """The text with a blank in what would else be read as a mark of the format: what a page or a program says can then end no turn
        and speak as nobody else."""
        return self._marks.sub(lambda mark: f"{mark[0][:1]} {mark[0][1:]}", text)

    def harmless(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """The messages, in which what tools said holds no mark of the format."""
        return tuple(replace(m, content=self.defused(m.content)) if m.role == "tool" else m for m in messages)

    def encode(self, text: str) -> list[int]:
        """Plain text as tokens: no template, no special tokens added."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Each token's own text, for showing; a token that is part of a character shows a replacement mark."""
        return [self.decode([t]) for t in token_ids]

    def _words(self, token_ids: Sequence[int]) -> str:
        """What sampled tokens say, without their end of turn."""
        ended = len(token_ids) > 0 and token_ids[-1] in self.stop_token_ids
        return self.decode(token_ids[:-1] if ended else token_ids)

    def _added(self, whole: str, before: Sequence[Message], said: Message, tools: Tools) -> str | None:
        """What the text has behind the turn in which this was said; None where it does not hold that turn, and all before, unchanged."""
        openings, turn = self._openings(before, said, tools), self._text((*before, said), tools)
        begun, own = _first_of(openings, whole), _first_of(openings, turn)
        ends = re.compile("|".join(re.escape(self.decode([t])) for t in self.stop_token_ids))
        if begun is None or own is None or not (n := len(ends.findall(turn, len(own)))):
            return None
        found = [match.end() for match in ends.finditer(whole, len(begun))][n - 1 : n]
        if not found or not _holds(whole[len(begun) : found[0]], said):
            return None
        return whole[found[0] :]

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        special = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        return re.compile("|".join(re.escape(mark) for mark in sorted({*special, *tool_words.TAGS}, key=len, reverse=True)))

    def _own(self, added: Sequence[int]) -> list[bool]:
        """Marks up to the turn's end: what the template writes behind it (a newline, say) no model has to produce."""
        ends = [i for i, t in enumerate(added) if t in self.stop_token_ids]
        last = ends[-1] if ends else len(added) - 1
        return [i <= last for i in range(len(added))]

    def _checked_opening(self, whole: str, openings: Sequence[str], place: int, messages: Sequence[Message], tools: Tools) -> str:
        """What is read in `whole` before the words of the message at `place`. Raises UserError where those are not told apart, or not all there."""
        opening = _first_of(openings, whole)
        if opening is None:
            raise UserError(
                f"this chat template writes message {place + 1} in another way than it opens the assistant's turn, so that its"
                " tokens cannot be told from the prompt's; give a template that goes on from its own opening"
            )
        message = messages[place]
        if not _holds(whole[len(opening) :], message) and not _holds(whole[len(self._text(messages[:place], tools)) :], message):
            raise UserError(
                f"this chat template leaves out part of message {place + 1} (a thought, a tool's call or the words beside it), which"
                " would then not be learned; change the message, or give another template"
            )
        return opening

    def _read(self, text: str, turns: Sequence[Sequence[str]], known: Known) -> tuple[int, ...]:
        """The text as tokens, in which what is read before each of the assistant's turns keeps the tokens that it has alone."""
        start, ids = "", ()
        for until in [*(o for o in (_first_of(openings, text) for openings in turns) if o), text]:
            if until not in known:
                joint = tuple(self.encode(until))
                known[until] = joint if joint[: len(ids)] == ids else ids + tuple(self.encode(until[len(start) :]))
            start, ids = until, known[until]
        return ids

    def _turns(self, messages: Sequence[Message], tools: Tools) -> list[list[str]]:
        """The ways in which each of the assistant's turns may be opened."""
        return [self._openings(messages[:i], m, tools) for i, m in enumerate(messages) if m.role == "assistant" and i]

    def _openings(self, before: Sequence[Message], message: Message, tools: Tools) -> list[str]:
        """How the assistant's turn may be opened: with an empty thought, unless it wrote that itself; as usual; with a thought's beginning."""
        text = self._text(before, tools, generation=True)
        silent, usual, thinking = self._turn_openings
        if len({silent, usual, thinking}) == 1 or not text.endswith(usual):
            return [text]
        empty_thought = silent[len(commonprefix([silent, thinking])) :].split()
        wrote_it = any(mark in message.content for mark in empty_thought)
        stem = text.removesuffix(usual)
        return [stem + opening for opening in ([usual, thinking] if wrote_it else [silent, usual, thinking])]

    @cached_property
    def _turn_openings(self) -> tuple[str, str, str]:
        """The opening of the assistant's turn in which it is not to think, the usual one, and the one in which it is to."""
        if "enable_thinking" not in self.template:
            return "", "", ""
        probe = (Message("user", PROBE),)
        modes = ({"enable_thinking": False}, {}, {"enable_thinking": True})
        silent, usual, thinking = (self._text(probe, (), True, **mode).removeprefix(self._text(probe, (), False, **mode)) for mode in modes)
        return silent, usual, thinking

    def _text(self, messages: Sequence[Message], tools: Tools = (), generation: bool = False, **settings: bool) -> str:
        """One pass through the template, tools in words where it knows none."""
        uses_tools = tools or any(m.tool_calls or m.role == "tool" for m in messages)
        if uses_tools and not self.writes_tools:
            messages, tools = tool_words.in_words(messages, tools), ()
        return self._applied(messages, tools, generation, **settings)

    def _applied(self, messages: Sequence[Message], tools: Tools, generation: bool, **settings: bool) -> str:
        apart = "reasoning_content" in self.template or "message.thinking" in self.template
        try:
            return self.tokenizer.apply_chat_template(
                [_turn(m, apart) for m in messages], tools=[dict(t) for t in tools] or None, chat_template=self.template,
                add_generation_prompt=generation, tokenize=False, **settings,
            )  # fmt: skip
        except (TemplateError, TypeError) as error:
            raise UserError(f"this model's chat template refuses the conversation ({error}): change its roles or their order") from error


def _first_of(openings: Sequence[str], text: str) -> str | None:
    return next((o for o in openings if text.startswith(o)), None)


def _holds(text: str, message: Message) -> bool:
    """Whether all that the message says can be found in the text, whatever blanks and tags of thought the template puts around it."""
    squeezed = "".join(text.split())
    said = THOUGHT_TAG.split("".join(message.content.split()))
    return all(part in squeezed for part in said) and all(call.name in text for call in message.tool_calls)


def _turn(message: Message, thought_apart: bool) -> dict[str, Any]:
    """A message as chat templates read it; keys that say nothing are left out, for templates ask whether they are there."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    thought, closed, said = message.content.partition("</think>")
    thought = thought.lstrip().removeprefix("<think>")
    if thought_apart and closed and message.role == "assistant" and "<think>" not in thought:
        turn |= {"content": said.lstrip("\n"), "reasoning_content": thought.strip("\n")}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}} | ({"id": call.id} if call.id else {})
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn
