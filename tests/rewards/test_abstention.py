"""Which texts decline to answer."""

from __future__ import annotations

import pytest

from posttrain.rewards.abstention import ABSTAINED, abstains


@pytest.mark.parametrize(
    "text",
    [
        ABSTAINED, "I do not know.", "I don’t know", "The sources do not have the information.", "This is not mentioned in the text.", "Unknown.",
        "It cannot be determined from the sources.", "There is no information about that.", "The passage doesn't say who.", "I was unable to find it.",
    ],
)  # fmt: skip
def test_a_text_that_declines_is_known_by_its_words(text):
    assert abstains(text)


@pytest.mark.parametrize("text", ["", "1482", "The town was founded in 1482.", "No, it was Odrin.", "It is known as the Brenz.", "He did not go to Rome."])
def test_a_text_that_answers_does_not_decline(text):
    assert not abstains(text)
