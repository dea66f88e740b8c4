"""lm-eval's requests through our forward: the same numbers as our own, and as lm-eval's own class on the same checkpoint."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from posttrain.evals.lm_eval_adapter import PosttrainLM
from posttrain.types import Sampling, UserError
from tests.small_models import write_model

PAIRS = [
    ("The sky is", " blue"), ("The sky is", " green as grass"), ("naïve 日本 ", "x"), ("", "no context"), ("a" * 200, " cut from its left"),
    ("<|im_start|>user\nhi<|im_end|>\n", "yo"),
]  # fmt: skip
TEXTS = ["short", "naïve 日本語 text. " * 30, ""]
GENERATE: list[tuple[str, dict[str, Any]]] = [
    ("The sky is", {"until": ["\n"], "max_gen_toks": 12}), ("Two and two", {"until": ["e", "a"], "max_gen_toks": 20}), ("b" * 200, {"max_gen_toks": 8}),
]  # fmt: skip


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {} if request.param == "llama" else {"n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return write_model(tmp_path_factory.mktemp(request.param), request.param, **sizes)


@pytest.fixture(scope="module")
def ours(folder: Path) -> PosttrainLM:
    return PosttrainLM(str(folder), "float32")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> HFLM:
    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=2)


def requests(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=each, idx=i) for i, each in enumerate(arguments)]


def test_log_likelihoods_are_those_of_lm_evals_own_class(ours: PosttrainLM, theirs: HFLM) -> None:
    asked = requests("loglikelihood", PAIRS)
    for (value, greedy), (expected, expected_greedy) in zip(ours.loglikelihood(asked), theirs.loglikelihood(asked), strict=True):
        assert value == pytest.approx(expected, abs=1e-4) and greedy == expected_greedy


def test_log_likelihoods_are_our_own_scores_of_the_same_tokens(ours: PosttrainLM) -> None:
    found = ours.loglikelihood(requests("loglikelihood", PAIRS[:3]))
    pairs = [ours._encode_pair(*pair) for pair in PAIRS[:3]]
    expected = [sum(logprobs) for logprobs, _ in ours.policy.score_tokens(pairs)]
    assert [value for value, _ in found] == pytest.approx(expected, abs=1e-4)


def test_what_greedy_decoding_says_is_greedy_and_nothing_else(ours: PosttrainLM) -> None:
    prompt = ours.tok_encode("The sky")
    (said,) = asyncio.run(ours.engine.sample(prompt, 1, Sampling(0, 6)))
    other = [*said.token_ids[:-1], (said.token_ids[-1] + 1) % 256]
    found = ours._loglikelihood_tokens([(None, prompt, list(said.token_ids)), (None, prompt, other)])
    assert [greedy for _, greedy in found] == [True, False]


def test_whole_texts_are_read_in_windows_that_predict_every_token_once(ours: PosttrainLM, theirs: HFLM) -> None:
    asked = requests("loglikelihood_rolling", [(text,) for text in TEXTS[:2]])
    assert ours.loglikelihood_rolling(asked) == pytest.approx(theirs.loglikelihood_rolling(asked), abs=1e-3)
    assert ours.loglikelihood_rolling(requests("loglikelihood_rolling", [("",)])) == [0]


def test_texts_are_those_of_lm_evals_own_class(ours: PosttrainLM, theirs: HFLM) -> None:
    asked = requests("generate_until", GENERATE)
    assert ours.generate_until(asked) == theirs.generate_until(asked)


def test_sampled_texts_depend_on_the_seed_and_repeats_differ(folder: Path, ours: PosttrainLM) -> None:
    asked = requests("generate_until", [("hi", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 12})] * 2)
    first, second = ours.generate_until(asked)
    assert first != second and ours.generate_until(asked) == [first, second]
    assert PosttrainLM(ours.policy, seed=1).generate_until(asked) != [first, second]


def test_chats_are_written_with_our_template(ours: PosttrainLM, theirs: HFLM) -> None:
    history = [{"role": "user", "content": "hi"}]
    assert ours.apply_chat_template(history) == theirs.apply_chat_template(history)
    opened = [*history, {"role": "assistant", "content": "The answer is"}]
    assert ours.apply_chat_template(opened, add_generation_prompt=False).endswith("The answer is")


def test_what_does_not_fit_is_said_in_a_sentence(ours: PosttrainLM) -> None:
    with pytest.raises(UserError, match="continuation has 200 tokens"):
        ours.loglikelihood(requests("loglikelihood", [("a", "b" * 200)]))
    with pytest.raises(UserError, match="generates up to 200 tokens"):
        ours.generate_until(requests("generate_until", [("a", {"max_gen_toks": 200})]))


# ---------------------------------------------------------------------------------------------------------- whole tasks

TASK = """\
task: letters
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "Which follows {{letter}}? "
doc_to_choice: ["b", "c", "d e"]
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tasks")
    rows = [{"letter": letter, "answer": i % 3} for i, letter in enumerate("abcdefghijkl")]
    (path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (path / "letters.yaml").write_text(TASK.replace("FILE", str(path / "rows.jsonl")))
    return path


def test_a_whole_task_ends_in_the_same_results_and_the_same_samples(ours: PosttrainLM, theirs: HFLM, task: Path) -> None:
    measured = [
        simple_evaluate(model, tasks=["letters"], task_manager=TaskManager(include_path=str(task), include_defaults=False), bootstrap_iters=0)
        for model in (ours, theirs)
    ]
    mine, others = (found["results"]["letters"] for found in measured)
    assert mine["acc,none"] == others["acc,none"] and mine["acc_norm,none"] == others["acc_norm,none"]
    for own, other in zip(*(found["samples"]["letters"] for found in measured), strict=True):
        assert [float(x) for x, _ in own["filtered_resps"]] == pytest.approx([float(x) for x, _ in other["filtered_resps"]], abs=1e-4)


@pytest.mark.slow
def test_lm_evals_own_command_line_knows_our_model(task: Path, tmp_path: Path) -> None:
    argv = ["run", "--model", "posttrain", "--model_args", "model=tiny,dtype=float32", "--tasks", "letters", "--include_path", str(task)]
    ended = subprocess.run(
        [sys.executable, "-m", "posttrain.evals.lm_eval_adapter", *argv, "--output_path", str(tmp_path)], capture_output=True, text=True
    )
    assert ended.returncode == 0 and "letters" in ended.stdout, ended.stderr
    assert list(tmp_path.rglob("results_*.json"))
