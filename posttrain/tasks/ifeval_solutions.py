"""A text that follows given instructions: dull, and as short as they allow. It shows that the checkers can be satisfied together.

Every instruction contributes a piece that would satisfy it alone (a title, so many bullets, a keyword so many times); the pieces are put
in one order that all of them can live with, padded to the least number of words and sentences, cased, and wrapped. It is then for the
checkers to say whether the whole still follows everything: where instructions get into each other's way, it does not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from posttrain.rewards.instructions import CONSTRAINED, Instruction, count_sentences, count_words

FREE = {
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.", "bg": "Всички хора се раждат свободни и равни по достойнство и права.",
    "bn": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।", "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos.", "fa": "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.", "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "gu": "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે.", "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।", "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。", "kn": "ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಹುಟ್ಟಿದ್ದಾರೆ ಹಾಗೂ ಘನತೆ ಮತ್ತು ಹಕ್ಕುಗಳಲ್ಲಿ ಸಮಾನರಾಗಿದ್ದಾರೆ.",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.", "ml": "മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും സ്വാതന്ത്ര്യത്തോടുംകൂടി ജനിച്ചവരാണ്.",
    "mr": "सर्व मानवी व्यक्ती जन्मतःच स्वतंत्र आहेत व त्यांना समान प्रतिष्ठा व समान अधिकार आहेत.", "ne": "सबै व्यक्तिहरू जन्मजात स्वतन्त्र हुन् ती सबैको समान अधिकार र महत्व छ।",
    "pa": "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ ਸ਼ਾਨ ਅਤੇ ਹੱਕਾਂ ਦੇ ਪੱਖੋਂ ਜਨਮ ਤੋਂ ਹੀ ਆਜ਼ਾਦ ਹੈ.", "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos.", "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "sw": "Watu wote wamezaliwa huru na hadhi na haki zao ni sawa.", "ta": "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர் அவர்கள் மதிப்பிலும் உரிமைகளிலும் சமமானவர்கள்.",
    "te": "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు.", "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах.", "ur": "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
}  # fmt: skip
"""The first sentence of the Universal Declaration of Human Rights, by language."""

FILLERS = ("it is what we do for you and all of them", "so we do it", "we do", "so", "you", "we", "ha", "it", "yes", "buzz", "my")
"""What padding is made of: the first that uses no letter and no word that is to be rare. The longest is English enough to be told."""


def composed(instructions: Sequence[Instruction]) -> str:
    """A text that tries to follow all the instructions; whether it does is for the checkers to say."""
    return _Composer(instructions).text()


class _Composer:
    """The pieces of one text."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.asked = {each.id: each.arguments for each in instructions}
        self.all = instructions
        self.language = self.get("language:response_language", "language", "en")
        self.filler = self._filler()

    def get(self, id: str, key: str, default: Any = 0) -> Any:
        return self.asked.get(id, {}).get(key, default)

    def limit(self, id: str, key: str, relation: str) -> int:
        """The largest number that something must at least reach, or the smallest that it must stay below; 0 for none. One may be asked twice."""
        held = [each.arguments for each in self.all if each.id == id]
        limits = [h[key] for h in held if relation in (h.get("relation"), h.get("capital_relation"))]
        return (max if relation == "at least" else min)(limits, default=0)

    def text(self) -> str:
        """The pieces in their order, padded, cased and wrapped."""
        opening = self.get("combination:repeat_prompt", "prompt_to_repeat", "").strip()
        body = self._body()
        if "combination:two_responses" in self.asked:
            body = f"{body}\n******\n{body} {self.filler}"
        ending = self.get("startend:end_checker", "end_phrase", "").strip()
        text = "\n\n".join(part for part in (opening, self._cased(body.strip("\n"))) if part)
        text = f"{text}\n{ending}" if ending and not text.endswith(ending) else text
        if "punctuation:no_comma" in self.asked:
            text = text.replace(",", "")
        text = self._cased_wholly(text)
        if "startend:quotation" in self.asked and "detectable_format:json_format" not in self.asked:
            text = f'"{text}"'
        return json.dumps({"text": text}, ensure_ascii=False) if "detectable_format:json_format" in self.asked else text

    def _body(self) -> str:
        """What the text says between its opening and its end."""
        sections = self.get("detectable_format:multiple_sections", "num_sections")
        name = self.get("detectable_format:multiple_sections", "section_spliter", "").strip()
        lines = ["<<" + self.filler.split()[0] + ">>"] if "detectable_format:title" in self.asked else []
        lines += [CONSTRAINED[0]] if "detectable_format:constrained_response" in self.asked else []
        lines += [f"{name} {i + 1}\n{self.filler}." for i in range(sections)]
        if self.language in FREE and "combination:repeat_prompt" in self.asked:
            lines += [f"{self.filler}."] * 20  # more than the prompt, which is in another language
        if {"change_case:english_capital", "change_case:english_lowercase"} & set(self.asked) and not self._is_short():
            lines += [f"{self.filler}."] * 4  # so that single letters and keywords do not hide what language it is
        lines += self._counted()
        lines = self._padded(lines)
        if "length_constraints:nth_paragraph_first_word" in self.asked:
            lines = self._in_paragraphs(lines)
        n = self.get("length_constraints:number_paragraphs", "num_paragraphs")
        parted = [f"{self.filler}.\n***"] * (n - 1)
        after = self.get("detectable_content:postscript", "postscript_marker", "")
        return "\n".join([*parted, *lines, *([f"{after} {self.filler}."] if after else [])])

    def _counted(self) -> list[str]:
        """Pieces that are needed a number of times."""
        bullets = self.get("detectable_format:number_bullet_lists", "num_bullets")
        lit = self.get("detectable_format:number_highlighted_sections", "num_highlights")
        blanks = self.get("detectable_content:number_placeholders", "num_placeholders")
        word = self.filler.split()[0]
        lines = [f"{self.filler}." if not bullets or lit or blanks or "startend:quotation" in self.asked else ""]
        lines += [" ".join([f"so *{word}*"] * lit)] * bool(lit) + [" ".join([f"[{word}]"] * blanks)] * bool(blanks)
        lines += [*self.get("keywords:existence", "keywords", ())]
        for each in self.all:
            held = each.arguments
            if each.id == "keywords:frequency" and held["relation"] == "at least":
                lines += [" ".join([held["keyword"].strip()] * held["frequency"])]
            if each.id == "keywords:letter_frequency" and held["let_relation"] == "at least":
                lines += [" ".join([held["letter"]] * held["let_frequency"])]
        capitals = self.limit("change_case:capital_word_frequency", "capital_frequency", "at least")
        lines += [" ".join(["OK"] * capitals)] * bool(capitals)
        lines += [f"* {self.filler}"] * bullets
        return [line for line in lines if line]

    def _padded(self, lines: list[str]) -> list[str]:
        """With enough words, and with enough sentences, of the filler; the padding first, where bullets do not count it."""
        short = max(0, self.limit("length_constraints:number_words", "num_words", "at least") - count_words("\n".join(lines)))
        lines = [" ".join([self.filler] * -(-short // count_words(self.filler)))] * bool(short) + lines
        short = max(0, self.limit("length_constraints:number_sentences", "num_sentences", "at least") - count_sentences("\n".join(lines)))
        return [" ".join([f"{self.filler}."] * short)] * bool(short) + lines

    def _in_paragraphs(self, lines: list[str]) -> list[str]:
        """So many paragraphs between blank lines, the one that is named beginning with its word."""
        held = self.asked["length_constraints:nth_paragraph_first_word"]
        parts = [f"{self.filler}." for _ in range(held["num_paragraphs"])]
        parts[held["nth_paragraph"] - 1] = f"{held['first_word']} {self.filler}."
        parts[-1 if held["nth_paragraph"] < len(parts) or len(parts) == 1 else 0] += "\n" + "\n".join(lines)
        return ["\n\n".join(parts)]

    def _is_short(self) -> bool:
        """Whether the text must stay below some number of words or sentences."""
        return any("less than" in each.arguments.values() for each in self.all if each.id.startswith("length_constraints:number_"))

    def _cased(self, text: str) -> str:
        """In small letters where few words may be capital."""
        few = self.limit("change_case:capital_word_frequency", "capital_frequency", "less than")
        return text.lower() if few and not self.limit("change_case:capital_word_frequency", "capital_frequency", "at least") else text

    def _cased_wholly(self, text: str) -> str:
        if "change_case:english_capital" in self.asked:
            return text.upper()
        return text.lower() if "change_case:english_lowercase" in self.asked else text

    def _filler(self) -> str:
        """The first of the fillers whose letters and words may all be said often; a short one where sentences are many and words are few."""
        if self.language in FREE:
            return FREE[self.language].rstrip(".।")
        rare = [each.arguments["letter"].lower() for each in self.all if each.id.endswith("letter_frequency") and each.arguments["let_relation"] == "less than"]
        words = {word.lower() for word in self.get("keywords:forbidden_words", "forbidden_words", ())}
        words |= {each.arguments["keyword"].lower() for each in self.all if each.id == "keywords:frequency"}
        fit = [f for f in FILLERS if not set(rare) & set(f) and not words & set(re.findall(r"\w+", f)) and not any(w in f for w in words)]
        brief = self.limit("length_constraints:number_words", "num_words", "less than")
        long = max(1, self.limit("length_constraints:number_sentences", "num_sentences", "at least")) * count_words((fit or FILLERS)[0]) > brief > 0
        return (fit or FILLERS)[1 if long and len(fit) > 1 else 0]
