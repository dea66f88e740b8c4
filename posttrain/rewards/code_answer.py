"""The program in a model's reply: a fenced block, a whole program, or the bare continuation of a prompt.

The rules, first that fits:

1. Fenced blocks (three or more backticks or tildes; one never closed reaches to the end). Those of another language than Python
   are passed over. Of the others the last that defines the entry point counts, else the last.
2. Without a block, text that defines the entry point is a program from its first line of Python at the margin on.
3. Anything else continues the prompt, and ends before its first line at the margin, where the function has ended. A model's
   first line has often lost its indentation; it gets that of the prompt's last line back.

A block whose first line is indented continues the prompt as well. Everything else follows the prompt's preamble: what stands
before the definition of the entry point, imports and helpers, which models seldom repeat. Nothing is parsed here: the reply
is a stranger's, and Python's parser can be brought down by one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_FENCE = re.compile(
    r"^[ \t]*(?P<marks>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n]*\n(?P<code>.*?)(?:^[ \t]*(?P=marks)[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
_PYTHON = {"", "python", "python3", "py"}
_PROGRAM_LINE = re.compile(r"^(?:import|from|def|async def|class|@)", re.MULTILINE)
_AT_THE_MARGIN = re.compile(r"^[^\s)\]}]", re.MULTILINE)


def program_in(reply: str, prompt: str = "", entry_point: str = "") -> str:
    """The program to be judged, empty where the reply holds none. Without an `entry_point` any function or class will do."""
    reply = reply.replace("\r\n", "\n")
    blocks = [fence["code"] for fence in _FENCE.finditer(reply) if fence["language"].lower() in _PYTHON]
    if blocks:
        return _with_prompt(_chosen(blocks, entry_point), prompt, entry_point)
    if _defines(reply, entry_point):
        return preamble(prompt, entry_point) + reply[_PROGRAM_LINE.search(reply).start() :]
    return prompt + _continuation(reply, prompt) if prompt and reply.strip() else ""


def preamble(prompt: str, entry_point: str) -> str:
    """What stands before the definition of the entry point; all of the prompt if it is not there."""
    definition = _definition(entry_point).search(prompt)
    return prompt[: definition.start()] if definition else prompt


def _definition(entry_point: str) -> re.Pattern[str]:
    name = re.escape(entry_point) if entry_point else r"\w+"
    return re.compile(rf"^(?:(?:async[ ]+)?def|class)[ ]+{name}\b|^{name}[ ]*=[^=]", re.MULTILINE)


def _defines(code: str, entry_point: str) -> bool:
    return bool(_definition(entry_point).search(code) and _PROGRAM_LINE.search(code))


def _chosen(blocks: Sequence[str], entry_point: str) -> str:
    defining = [block for block in blocks if _defines(block, entry_point)]
    return (defining or blocks)[-1]


def _with_prompt(block: str, prompt: str, entry_point: str) -> str:
    if prompt and block[:1] in (" ", "\t") and not _defines(block, entry_point):
        return prompt + _continuation(block, prompt)
    return preamble(prompt, entry_point) + block


def _continuation(text: str, prompt: str) -> str:
    """The text up to where the function ends, with the first line indented as the prompt's last."""
    text = text.lstrip("\n")
    if text[:1] not in (" ", "\t"):
        last = prompt.rstrip("\n").rpartition("\n")[2]
        text = last[: len(last) - len(last.lstrip())] + text
    beyond = _AT_THE_MARGIN.search(text, text.find("\n") + 1) if "\n" in text else None
    return text[: beyond.start()] if beyond else text
