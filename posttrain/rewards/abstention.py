"""Whether a text declines to answer: what a reader of sources should do where they say nothing, and only there."""

from __future__ import annotations

import re

ABSTAINED = "The sources do not say."
"""How an agent says that nothing supports an answer."""

_DECLINES = re.compile(
    r"\b(?:(?:do|does|did|is|are|was|were|can|could)(?: not|n['’]t)|cannot|unable to|no) +(?:\w+ +){0,3}?"
    r"(?:say|state|stated|mention|mentioned|mention of|give|given|provide|provided|specify|specified|contain|know|known|tell|answer|determine"
    r"|determined|find|found|information|record|listed|available)\b"
    r"|\bunknown\b|\bnot (?:stated|mentioned|given|provided|specified|known|found|available)\b",
    re.IGNORECASE,
)


def abstains(text: str) -> bool:
    """Whether the text declines to answer, in any of the usual English ways ("I do not know", "… is not mentioned"); no text does not.

    A pattern and no judge: a text that declines and then answers all the same ("I do not know, perhaps 1482") declines; who judges answers
    must look for one first.
    """
    return bool(_DECLINES.search(text))
