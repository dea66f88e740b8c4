"""Which part of a reply is the program."""

from __future__ import annotations

import pytest

from posttrain.rewards.code_answer import preamble, program_in

PROMPT = 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef area(r):\n    """ The area of a circle. """\n'
PREAMBLE = "import math\n\n\ndef helper(x):\n    return x\n\n\n"
AREA = "def area(r):\n    return math.pi * r * r\n"
BODY = "    return math.pi * r * r\n"


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        (f"Here it is:\n```python\n{AREA}```\nIt works.", PREAMBLE + AREA),
        (f"```\n{AREA}```", PREAMBLE + AREA),
        (f"~~~~ py title=x\n{AREA}~~~~", PREAMBLE + AREA),
        (f"```python\r\n{AREA}```".replace("\n", "\r\n"), PREAMBLE + AREA),
        (f"```python\n{AREA}", PREAMBLE + AREA),  # cut off
        (f"First:\n```python\ndef area(r): return 0\n```\nNo:\n```python\n{AREA}```", PREAMBLE + AREA),
        (f"```python\n{AREA}```\nUse it so:\n```python\nprint(area(2))\n```", PREAMBLE + AREA),
        (f"```bash\npython area.py\n```\n```python\n{AREA}```\n```text\n3.14\n```", PREAMBLE + AREA),
        (f"```python\n{BODY}```", PROMPT + BODY),
        ("```python\nprint(1)\n```", PREAMBLE + "print(1)\n"),
    ],
)
def test_of_fenced_blocks_the_last_that_defines_the_function_counts(reply: str, program: str):
    assert program_in(reply, PROMPT, "area") == program


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        (AREA, PREAMBLE + AREA),
        (f"Sure, here is the function.\n\nimport cmath\n{AREA}", PREAMBLE + "import cmath\n" + AREA),
        (BODY, PROMPT + BODY),
        (f"\n{BODY}", PROMPT + BODY),
        (BODY.lstrip(), PROMPT + BODY),
        (f"{BODY}\n\ndef other():\n    pass\n", PROMPT + BODY + "\n\n"),
        (f"{BODY}# the end\nprint(area(1))", PROMPT + BODY),
        ("    return [\n        r\n]\nprint(1)", PROMPT + "    return [\n        r\n]\n"),
        ("return 1", PROMPT + "    return 1"),
        ("I do not know.", PROMPT + "    I do not know."),
    ],
)
def test_without_a_block_a_reply_is_a_program_or_goes_on_where_the_prompt_stopped(reply: str, program: str):
    assert program_in(reply, PROMPT, "area") == program


@pytest.mark.parametrize(("reply", "prompt"), [("", PROMPT), (" \n", PROMPT), ("I do not know.", "")])
def test_where_there_is_none_it_is_empty(reply: str, prompt: str):
    assert program_in(reply, prompt, "area") == ""


def test_without_an_entry_point_any_definition_will_do():
    assert program_in("```python\ndef f(): pass\n```\n```python\nf()\n```") == "def f(): pass\n"
    assert program_in("def f(): pass") == "def f(): pass"


def test_a_name_that_only_begins_like_the_entry_point_is_another():
    reply = "```python\ndef area(r): return 1\n```\n```python\ndef area_of(r): return 2\n```"
    assert program_in(reply, "", "area") == "def area(r): return 1\n"
    assert preamble("def area_of(r): pass\n", "area") == "def area_of(r): pass\n"


def test_a_long_reply_of_nothing_but_fences_is_read_in_no_time():
    assert program_in("```python\n" * 20_000, "", "f") is not None
