"""Log-likelihood of plain text that no task here trains on: what a model may forget while it learns something else.

The text is *In the Year 2889* by Jules and Michel Verne (1889, public domain; Project Gutenberg 19362), which comes with the
`reasoning_gym` package. Base models may well have read it: this measures what training changed, not how well a model
generalises. A few `reasoning_gym` generators draw their words from it (letter_counting, word_sorting and others); after
training on one of those it is held out no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from posttrain import statistics
from posttrain.evals import quantities
from posttrain.evals.quantities import Quantity
from posttrain.evals.scorer import TokenScorer
from posttrain.types import UserError

Tokenize = Callable[[str], list[int]]
"""Text to token ids, without any special tokens."""

PARAGRAPH = "\n\n"
"""What a model has read before each document, so that a document's first token is predicted from something."""


@dataclass(frozen=True)
class Likelihood:
    """How likely a model found each document."""

    logprobs: tuple[float, ...]
    """Of whole documents, in nats."""
    n_tokens: tuple[int, ...]
    n_bytes: tuple[int, ...]

    def per_token(self) -> Quantity:
        """Nats per token: comparable only between models with one tokenizer."""
        return self._quantity("token", self.n_tokens)

    def per_byte(self) -> Quantity:
        """Nats per byte of UTF-8: comparable between any two models."""
        return self._quantity("byte", self.n_bytes)

    def _quantity(self, unit: str, sizes: Sequence[int]) -> Quantity:
        contributions = statistics.ratio_contributions(self.logprobs, sizes)
        return quantities.mean(f"heldout_logprob_per_{unit}", f"held-out log-prob per {unit}", "higher", contributions, "nats")


def verne() -> str:
    """The novella, from its first sentence to its last, without the publisher's notes around it."""
    spec = find_spec("reasoning_gym")
    path = Path(spec.origin).parent / "data" / "in_the_year_2889.txt" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UserError("the held-out text comes with the package reasoning-gym: install it, or give texts of your own")
    text = path.read_text("utf-8")
    return text[text.index("Little though they seem") : text.rindex("Jules Verne.")].strip()


def documents(tokenize: Tokenize, n_tokens: int = 256, text: str | None = None) -> tuple[str, ...]:
    """The text in documents of whole paragraphs, each of at least `n_tokens` tokens; a shorter rest is dropped.

    Without `text` it is the novella. Raises UserError for a text that is too short for one document.
    """
    found: list[str] = []
    kept: list[str] = []
    size = 0
    for paragraph in (verne() if text is None else text).split(PARAGRAPH):
        kept.append(paragraph.strip())
        size += len(tokenize(paragraph))
        if size >= n_tokens:
            found.append(PARAGRAPH.join(kept))
            kept, size = [], 0
    if not found:
        raise UserError(f"the held-out text is shorter than one document of {n_tokens} tokens: ask for shorter documents")
    return tuple(found)


def log_likelihood(texts: Sequence[str], tokenize: Tokenize, scorer: TokenScorer) -> Likelihood:
    """How likely the scorer finds each text after a paragraph break, all in one call."""
    context = tokenize(PARAGRAPH)
    token_ids = [tokenize(text) for text in texts]
    scored = scorer.score_tokens([(context, ids) for ids in token_ids])
    return Likelihood(
        logprobs=tuple(sum(logprobs) for logprobs, _ in scored),
        n_tokens=tuple(map(len, token_ids)),
        n_bytes=tuple(len(text.encode()) for text in texts),
    )
