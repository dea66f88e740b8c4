"""The 25 verifiable instructions of IFEval, each with an exact checker (Zhou et al. 2023, arXiv 2311.07911).

`CHECKERS` maps an instruction's id, as in the published prompts, to a function of the reply and the instruction's arguments: True, False,
or None where it cannot be told. What counts is what the published checkers count; deviations, none of which needs a download:

- sentences end at `.`, `!` or `?` before a space or the end, but for initials, single letters and a few abbreviations (there: NLTK's punkt);
- words in capitals are runs of letters and digits, joined by hyphens, apostrophes and points within (there: NLTK's tokens);
- languages are told by the optional package `langdetect`, with a fixed seed. Without it, by what is certain: a language that has a script
  to itself, or a reply in the wrong script, or in English where that is not the language; the rest is None. A reply too short for a
  language to be told is None as well (there: followed);
- keywords are taken literally and not as regular expressions.

*Strict* looks at the reply as it stands. *Loose* lets an instruction be followed by the reply without its first line, last line or both,
each with and without its asterisks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

Verdict = bool | None


@dataclass(frozen=True)
class Instruction:
    """One instruction of a prompt."""

    id: str
    arguments: Mapping[str, Any]

    def followed(self, text: str) -> Verdict:
        """Strictly; a reply that says nothing follows none."""
        return CHECKERS[self.id](text, **self.arguments) if text.strip() else False

    def loosely_followed(self, text: str) -> Verdict:
        """By any of the reply's loose variants; None where none follows it and one cannot be told."""
        verdicts = [self.followed(variant) for variant in loose_variants(text)]
        return True if True in verdicts else None if None in verdicts else False


def loose_variants(text: str) -> list[str]:
    """The reply, and without its first line, its last, and both; then the same without asterisks. Those that say nothing are left out."""
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [variant for variant in [*cut, *(each.replace("*", "") for each in cut)] if variant.strip()]


# ----------------------------------------------------------------------------------------------------------------- counting


def _holds(count: int, relation: str, limit: int) -> bool:
    """The two relations of the published prompts."""
    if relation not in ("at least", "less than"):
        raise ValueError(f"a relation is 'at least' or 'less than', not {relation!r}")
    return count >= limit if relation == "at least" else count < limit


_ABBREVIATIONS = frozenset("mr mrs ms dr prof st sr jr vs etc e.g i.e a.m p.m inc ltd co no fig approx dept est gen col lt sgt capt rev hon".split())
_END = re.compile(r"[.!?]+[\"')\]*_”’]*(?=\s|$)")


def count_sentences(text: str) -> int:
    """Sentences by the rule above; a last one need not have an end, and one without a letter or digit is none."""
    found, start = 0, 0
    for end in _END.finditer(text):
        word = text[start : end.start()].split()[-1:] or [""]
        bare = word[0].lstrip("(\"'“*_").lower()
        is_initial = len(bare) == 1 and bare.isalpha() and bare != "i"
        if end[0] == "." and (bare in _ABBREVIATIONS or is_initial) and end.end() < len(text.rstrip()):
            continue
        found += any(character.isalnum() for character in text[start : end.start()])
        start = end.end()
    return found + any(character.isalnum() for character in text[start:])


def count_words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def _paragraphs(text: str) -> int | None:
    """Paragraphs between lines of three asterisks; None where one in the middle is empty."""
    parts = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", text)]
    return sum(parts) if all(parts[1:-1]) else None


def _first_word_of(text: str, paragraphs: int, nth: int, word: str) -> bool:
    """Whether there are so many paragraphs between blank lines, and the nth begins with the word, up to its first punctuation mark."""
    parts = text.split("\n\n")
    if sum(bool(part.strip()) for part in parts) != paragraphs or nth > paragraphs or not parts[nth - 1].strip():
        return False
    first = parts[nth - 1].split()[0].lstrip("'").lstrip('"').lower()
    return re.split(r"[.,?!'\"]", first)[0] == word.lower()


def _highlights(text: str) -> int:
    """Parts of a line between asterisks, single or double, that hold something."""
    single = sum(bool(found.strip("*").strip()) for found in re.findall(r"\*[^\n*]*\*", text))
    return single + sum(bool(found.strip("*").strip()) for found in re.findall(r"\*\*[^\n*]*\*\*", text))


def _bullets(text: str) -> int:
    return len(re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE))


def _capital_words(text: str) -> int:
    return sum(word.isupper() for word in re.findall(r"[^\W_]+(?:[-'.][^\W_]+)*", text))


def _sections(text: str, splitter: str) -> int:
    return len(re.split(rf"\s?{re.escape(splitter)}\s?\d+\s?", text)) - 1


# -------------------------------------------------------------------------------------------------------------------- form


def _postscript(text: str, marker: str) -> bool:
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _is_json(text: str) -> bool:
    bare = re.sub(r"^```(?:json|Json|JSON)?", "", text.strip()).removesuffix("```").strip()
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _two_responses(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    said = [part for part in parts if part]
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def _title(text: str) -> bool:
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


def _quoted(text: str) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _ends_with(text: str, phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(phrase.strip().lower())


CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

# ------------------------------------------------------------------------------------------------------------------ language

_SCRIPTS = {
    "ar": r"\u0600-\u06ff", "bn": r"\u0980-\u09ff", "el": r"\u0370-\u03ff", "gu": r"\u0a80-\u0aff", "he": r"\u0590-\u05ff",
    "hi": r"\u0900-\u097f", "ja": r"\u3040-\u30ff\u4e00-\u9fff", "kn": r"\u0c80-\u0cff", "ko": r"\uac00-\ud7af", "ml": r"\u0d00-\u0d7f",
    "pa": r"\u0a00-\u0a7f", "ru": r"\u0400-\u04ff", "ta": r"\u0b80-\u0bff", "te": r"\u0c00-\u0c7f", "th": r"\u0e00-\u0e7f",
}  # fmt: skip
_SHARED = {"fa": "ar", "ur": "ar", "mr": "hi", "ne": "hi", "bg": "ru", "uk": "ru", "mk": "ru", "zh-cn": "ja", "zh-tw": "ja"}
"""Languages that are written in the script of another."""

_ENGLISH = frozenset(
    "the of and to in is that it was for on are as with his they at be this have from or by not but what all were we when your can"
    " there an which their if will how about then them would so these her him has more my i you he she a".split()
)


def in_language(text: str, language: str) -> Verdict:
    """Whether the text is in the language of this code (ISO 639-1, as `langdetect` has them); None where that cannot be told."""
    detect = _detector()
    if detect is None:
        return certainly_in(text, language)
    found = detect(text)
    return None if found is None else found == language


def certainly_in(text: str, language: str) -> Verdict:
    """The same without a package: by the script that the text is in, and by the commonest words of English."""
    if language == "en":
        return True if _is_english(text) else False if _share(text, "a-zA-Z\u00c0-\u024f") < 0.5 else None
    script = _SHARED.get(language, language)
    if script in _SCRIPTS:
        in_script = _share(text, _SCRIPTS[script]) > 0.5
        alone = script == language and script not in _SHARED.values()
        return False if not in_script else True if alone else None
    return False if _is_english(text) or _share(text, "a-zA-Z\u00c0-\u024f\u1e00-\u1eff") < 0.5 else None


def can_tell_languages() -> bool:
    """Whether the optional package is there."""
    return _detector() is not None


@cache
def _detector() -> Callable[[str], str | None] | None:
    """`langdetect` with a fixed seed, for it draws at random; None without it."""
    try:
        import langdetect
    except ImportError:
        return None
    langdetect.DetectorFactory.seed = 0

    def detect(text: str) -> str | None:
        try:
            return langdetect.detect(text)
        except langdetect.LangDetectException:
            return None

    return detect


def _share(text: str, characters: str) -> float:
    """How many of the letters (and the marks that belong to them) are among the characters."""
    letters = [c for c in text if c.isalpha()]
    return len(re.findall(f"[{characters}]", "".join(letters))) / len(letters) if letters else 0.0


def _is_english(text: str) -> bool:
    """Certainly so: at least five words, of which a fifth are among English's commonest."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return len(words) >= 5 and sum(word in _ENGLISH for word in words) >= len(words) / 5


def _cased(text: str, is_cased: bool) -> Verdict:
    """English in one case: not without that case, whatever the language."""
    return in_language(text, "en") if is_cased else False


# ------------------------------------------------------------------------------------------------------------------ the 25

CHECKERS: Mapping[str, Callable[..., Verdict]] = {
    "keywords:existence": lambda text, keywords: all(word.lower() in text.lower() for word in keywords),
    "keywords:frequency": lambda text, keyword, frequency, relation: _holds(text.lower().count(keyword.strip().lower()), relation, frequency),
    "keywords:forbidden_words": lambda text, forbidden_words: not any(
        re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words
    ),
    "keywords:letter_frequency": lambda text, letter, let_frequency, let_relation: _holds(
        text.lower().count(letter.strip().lower()), let_relation, let_frequency
    ),
    "language:response_language": lambda text, language: in_language(text, language),
    "length_constraints:number_sentences": lambda text, num_sentences, relation: _holds(count_sentences(text), relation, num_sentences),
    "length_constraints:number_paragraphs": lambda text, num_paragraphs: _paragraphs(text) == num_paragraphs,
    "length_constraints:number_words": lambda text, num_words, relation: _holds(count_words(text), relation, num_words),
    "length_constraints:nth_paragraph_first_word": lambda text, num_paragraphs, nth_paragraph, first_word: _first_word_of(
        text, num_paragraphs, nth_paragraph, first_word
    ),
    "detectable_content:number_placeholders": lambda text, num_placeholders: len(re.findall(r"\[.*?\]", text)) >= num_placeholders,
    "detectable_content:postscript": lambda text, postscript_marker: _postscript(text, postscript_marker.strip()),
    "detectable_format:number_bullet_lists": lambda text, num_bullets: _bullets(text) == num_bullets,
    "detectable_format:constrained_response": lambda text: any(option in text for option in CONSTRAINED),
    "detectable_format:number_highlighted_sections": lambda text, num_highlights: _highlights(text) >= num_highlights,
    "detectable_format:multiple_sections": lambda text, section_spliter, num_sections: _sections(text, section_spliter.strip()) >= num_sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda text, prompt_to_repeat: text.strip().lower().startswith(prompt_to_repeat.strip().lower()),
    "startend:end_checker": lambda text, end_phrase: _ends_with(text, end_phrase),
    "change_case:capital_word_frequency": lambda text, capital_frequency, capital_relation: _holds(
        _capital_words(text), capital_relation, capital_frequency
    ),
    "change_case:english_capital": lambda text: _cased(text, text.isupper()),
    "change_case:english_lowercase": lambda text: _cased(text, text.islower()),
    "punctuation:no_comma": lambda text: "," not in text,
    "startend:quotation": _quoted,
}


def instructions_of(ids: Sequence[str], arguments: Sequence[Mapping[str, Any] | None]) -> list[Instruction]:
    """The instructions of one prompt; arguments that are null are left out. Raises ValueError for an unknown one or too few arguments."""
    unknown = next((id for id in ids if id not in CHECKERS), None)
    if unknown is not None:
        raise ValueError(f"there is no instruction {unknown!r}")
    pairs = zip(ids, arguments, strict=True)
    return [Instruction(id, {key: value for key, value in (held or {}).items() if value is not None}) for id, held in pairs]
