"""What every way of training is given wrong: one clear sentence, exit code 2, and nothing trained in silence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain import cli
from posttrain.policy.scalar import load_scalar
from posttrain.training.scored import Prompts
from tests.small_models import write_model

PAIR = {"prompt": "1+1?", "chosen": "2", "rejected": "3"}
TALK = {"prompt": "1+1?", "completion": "2"}
LABELLED = {"prompt": "1+1?", "completion": "2", "label": True}
STEPS = {"prompt": "1+1?", "completions": ["add", "2"], "labels": [True, False]}
SAMPLED = ("--steps", 1, "--max-tokens", 4, "--problems-per-step", 2, "--group-size", 2)
RULE = ("--reward", "length:3")


@dataclass(frozen=True)
class Ended:
    code: int
    said: str
    run: Path

    @property
    def trained(self) -> bool:
        """Whether a checkpoint was left behind."""
        return any(self.run.glob("checkpoints/step_*"))


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a training of `tiny` for a step or so, each in a folder of its own."""
    folders = (tmp_path / f"run {i}" for i in count())

    def run(*argv: object) -> Ended:
        out = next(folders)
        capsys.readouterr()
        model = () if "--model" in argv else ("--model", "tiny")
        code = cli.run(["train", *(str(word) for word in argv), *model, "--dtype", "float32", "--out", str(out)])
        return Ended(code, capsys.readouterr().err, out)

    return run


def refused(ended: Ended, *words: object) -> None:
    """Code 2, nothing trained, one sentence that holds the words."""
    assert (ended.code, ended.trained) == (cli.USAGE, False), ended.said
    lines = [line for line in ended.said.splitlines() if line.startswith("posttrain: ")]
    assert len(lines) == 1 and "Traceback" not in ended.said, ended.said
    for word in words:
        assert str(word) in lines[0]


def written(path: Path, rows: Sequence[dict[str, Any] | str]) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


# ------------------------------------------------------------------------------------------------------- rows of a file

TURNS = {"u": {"role": "user", "content": "x"}, "a": {"role": "assistant", "content": "y"}, "s": {"role": "system", "content": "z"}}


def turns(roles: str) -> list[dict[str, str]]:
    return [TURNS[role] for role in roles]


BAD_PAIRS = {
    "no chosen answer": ({"prompt": "x", "rejected": "b"}, "has no chosen answer"),
    "rejected is null": ({**PAIR, "rejected": None}, "has no rejected answer"),
    "chosen is empty": ({**PAIR, "chosen": ""}, "has an empty chosen answer"),
    "rejected is blank": ({**PAIR, "rejected": "  "}, "has an empty rejected answer"),
    "chosen is a number": ({**PAIR, "chosen": 4}, "neither text nor messages"),
    "both the same": ({**PAIR, "rejected": "2"}, "the same answer as chosen and rejected"),
    "an answer ends with the user": ({**PAIR, "chosen": turns("au")}, "ends in a turn of the user"),
    "a prompt ends with the assistant": ({**PAIR, "prompt": turns("ua")}, "ends in a turn of the assistant"),
    "two users in a row": ({**PAIR, "prompt": turns("uu")}, "two turns of the user in a row"),
    "a system message that comes late": ({**PAIR, "prompt": turns("us")}, "system message that is not the first"),
    "no prompt": ({"chosen": "a", "rejected": "b"}, "has no prompt"),
    "a margin of nan": ('{"prompt": "x", "chosen": "a", "rejected": "b", "margin": NaN}', "not a finite number"),
    "a torn line": ('{"prompt": "x", "chosen', "is not JSON"),
    "a list": ("[1, 2]", "not a JSON object but list"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_a_pair_that_is_none_is_named_by_its_line(case: str, train, tmp_path: Path) -> None:
    row, why = BAD_PAIRS[case]
    file = written(tmp_path / "pairs.jsonl", [PAIR, {**PAIR, "prompt": "1+2?"}, row])
    for algorithm in ("dpo", "reward-model"):
        refused(train(algorithm, "--data", file, "--steps", 1), f"{file} line 3", why)
    if "JSON" not in why:
        ended = train("dpo", "--data", file, "--steps", 1, "--when-bad", "drop")
        (reason,) = json.loads((ended.run / "data.json").read_text())["left_out"].items()
        assert ended.trained and why in reason[0] and reason[1] == 1


BAD_TALKS = {
    "ends with the user": ({"messages": turns("uau")}, "ends in a turn of the user"),
    "no assistant": ({"messages": turns("u")}, "no turn of the assistant"),
    "the assistant first": ({"messages": turns("au")}, "speaks before anybody else"),
    "two users in a row": ({"messages": turns("uua")}, "two turns of the user in a row"),
    "no messages": ({"messages": []}, "neither text nor messages"),
    "an empty answer": ({**TALK, "completion": ""}, "empty assistant"),
    "nothing known": ({"text": "once upon a time"}, "it needs messages, or prompt and completion, and has text"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TALKS)
def test_a_conversation_that_teaches_nothing_is_named_by_its_line(case: str, train, tmp_path: Path) -> None:
    row, why = BAD_TALKS[case]
    file = written(tmp_path / "talks.jsonl", [TALK, {**TALK, "prompt": "1+2?"}, row])
    refused(train("sft", "--data", file, "--steps", 1), f"{file} line 3", why)
    refused(train("distill", "--on", "given", "--teacher-system", "Be brief.", "--data", file, "--steps", 1), f"{file} line 3", why)


BAD_LABELS = {
    "no label": ({"prompt": "x", "completion": "y"}, "nor a label of true or false"),
    "a label that is a number": ({**LABELLED, "label": 1}, "nor a label of true or false"),
    "an empty answer": ({**LABELLED, "completion": " "}, "has an empty completion"),
    "no prompt": ({"completion": "y", "label": True}, "has no prompt"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_a_labelled_answer_that_is_none_is_named_by_its_line(case: str, train, tmp_path: Path) -> None:
    row, why = BAD_LABELS[case]
    file = written(tmp_path / "labels.jsonl", [LABELLED, {**LABELLED, "label": False}, row])
    refused(train("dpo", "--loss", "kto", "--data", file, "--steps", 1), f"{file} line 3", why)


BAD_STEPS = {
    "labels are missing": ({**STEPS, "labels": [True]}, "2 steps but 1 labels"),
    "a label beyond 1": ({**STEPS, "labels": [True, 2]}, "neither true nor false nor between 0 and 1"),
    "an empty step": ({**STEPS, "completions": ["add", ""]}, "empty step"),
    "no steps": ({**STEPS, "completions": []}, "no completions"),
    "no prompt": ({**STEPS, "prompt": ""}, "no prompt"),
    "a pair": (PAIR, "no completions"),
    "two users in a row": ({**STEPS, "prompt": turns("uu")}, "two turns of the user in a row"),
    "a prompt that ends with the assistant": ({**STEPS, "prompt": turns("ua")}, "ends in a turn of the assistant"),
    "tools": ({**STEPS, "tools": [{"type": "function"}]}, "has tools"),
}


@pytest.mark.parametrize("case", BAD_STEPS)
def test_labelled_steps_that_are_none_are_named_by_their_line(case: str, train, tmp_path: Path) -> None:
    row, why = BAD_STEPS[case]
    file = written(tmp_path / "steps.jsonl", [STEPS, {**STEPS, "prompt": "1+2?"}, row])
    refused(train("reward-model", "--kind", "process", "--data", file, "--steps", 1), f"{file} line 3", why)


BAD_PROMPTS = {
    "two users in a row": ({"prompt": turns("uu")}, "two turns of the user in a row"),
    "a system message that comes late": ({"prompt": turns("usu")}, "system message that is not the first"),
    "the assistant first": ({"prompt": turns("au")}, "speaks before anybody else"),
    "a prompt that ends with the assistant": ({"prompt": turns("ua")}, "no prompt that ends in a user's turn"),
    "two systems": ({"prompt": turns("su"), "system": "another"}, "a system text beside its messages and another among them"),
    "an empty prompt": ({"prompt": " "}, "empty user"),
    "tools that are none": ({"prompt": "x", "tools": "calculator"}, "tools that are not a list of descriptions"),
}


@pytest.mark.parametrize("case", BAD_PROMPTS)
def test_a_prompt_that_is_none_is_named_by_its_line_wherever_answers_are_sampled(case: str, train, tmp_path: Path) -> None:
    row, why = BAD_PROMPTS[case]
    file = written(tmp_path / "prompts.jsonl", [{"prompt": "1+1?"}, {"prompt": "1+2?"}, row])
    for words in (("ppo",), ("reject",), ("grpo",), ("dpo",), ("distill", "--teacher-system", "Be brief.")):
        rule = () if words[0] == "distill" else RULE
        refused(train(*words, "--task", file, *rule, "--steps", 1), "line 3", why)


def test_tools_of_a_prompt_and_tools_of_the_command_are_not_mixed(train, tmp_path: Path) -> None:
    told = {"prompt": "x", "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}
    file = written(tmp_path / "prompts.jsonl", [{"prompt": f"1+{i}?"} for i in range(9)] + [{**told, "prompt": f"2+{i}?"} for i in range(9)])
    for name in ("ppo", "reject", "grpo", "dpo"):
        refused(train(name, "--task", file, *RULE, "--tools", "calculator", "--steps", 1), "describes tools of its own")


# ------------------------------------------------------------------------------------------------------------ whole files

FILES: dict[str, tuple[str, bytes, str]] = {
    "an empty file": ("a.jsonl", b"", "holds nothing that can be used"),
    "blank lines": ("a.jsonl", b"\n\n", "holds nothing that can be used"),
    "latin-1": ("a.jsonl", '{"prompt": "é", "completion": "e"}'.encode("latin-1"), "not UTF-8 from byte 13"),
    "utf-16": ("a.jsonl", json.dumps(TALK).encode("utf-16"), "not UTF-8"),
    "bytes": ("a.jsonl", bytes(range(256)), "line 1 is not JSON"),
    "a torn gz": ("a.jsonl.gz", gzip.compress(json.dumps(TALK).encode() * 99)[:-12], "a.jsonl.gz"),
    "a gz that is none": ("a.jsonl.gz", json.dumps(TALK).encode(), "Not a gzipped file"),
    "one JSON list": ("a.json", json.dumps([TALK]).encode(), "not a JSON object but list"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_read_is_named(case: str, train, tmp_path: Path) -> None:
    name, content, why = FILES[case]
    (tmp_path / name).write_bytes(content)
    for words in (("sft",), ("dpo",), ("reward-model",), ("distill", "--on", "given", "--teacher-system", "x")):
        refused(train(*words, "--data", tmp_path / name, "--steps", 1), name, why)
    if name.endswith((".jsonl", ".gz")):
        refused(train("reject", "--task", tmp_path / name, *RULE, *SAMPLED), name, why)


def test_a_file_that_is_not_there_or_a_folder_is_named(train, tmp_path: Path) -> None:
    for words in (("sft",), ("dpo",), ("reward-model",), ("distill", "--on", "given", "--teacher-system", "x")):
        refused(train(*words, "--data", tmp_path / "no.jsonl"), "no.jsonl", "No such file")
        refused(train(*words, "--data", tmp_path), tmp_path, "Is a directory")
    refused(train("ppo", "--task", tmp_path / "no.jsonl", *RULE), "no.jsonl", "No such file")
    refused(train("ppo", "--task", tmp_path, *RULE), tmp_path, "no file of prompts")


def test_a_gzipped_file_is_read_like_any_other(train, tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl.gz", [{**TALK, "prompt": f"{i}?"} for i in range(8)])
    assert train("sft", "--data", file, "--steps", 1).trained


@pytest.mark.parametrize("algorithm", ["sft", "dpo", "reward-model"])
def test_holding_out_never_leaves_nothing_to_learn_from(algorithm: str, train, tmp_path: Path) -> None:
    row = TALK if algorithm == "sft" else PAIR
    alike = written(tmp_path / "alike.jsonl", [row] * 3)
    refused(train(algorithm, "--data", alike, "--steps", 1, "--heldout-frac", 0.5), "all 3 share one prompt", "--heldout-frac 0")
    for share in (1, -0.1, "nan"):
        refused(train(algorithm, "--data", alike, "--steps", 1, "--heldout-frac", share), "--heldout-frac")
    two = written(tmp_path / "two.jsonl", [row, {**row, "prompt": "1+2?"}])
    assert train(algorithm, "--data", two, "--steps", 1, "--heldout-frac", 0.999).trained


# -------------------------------------------------------------------------------------------------------------- the context

LONG = "la " * 300
TOO_LONG = {
    "sft": (("sft",), TALK),
    "dpo": (("dpo",), PAIR),
    "reward model": (("reward-model",), PAIR),
    "process reward model": (("reward-model", "--kind", "process"), STEPS),
    "kto": (("dpo", "--loss", "kto"), LABELLED),
    "distillation": (("distill", "--on", "given", "--teacher-system", "Be brief."), TALK),
}


@pytest.mark.parametrize("method", TOO_LONG)
def test_a_text_that_does_not_fit_the_context_is_dropped_and_counted_or_refused_and_never_cut(method: str, train, tmp_path: Path) -> None:
    words, row = TOO_LONG[method]
    rows = [{**row, "prompt": f"{i}?"} | ({"label": i % 2 == 0} if "label" in row else {}) for i in range(12)]
    file = written(tmp_path / "data.jsonl", [*rows, {**row, "prompt": LONG}])
    refused(train(*words, "--data", file, "--steps", 1, "--when-too-long", "error"), "line 13", "tokens, the context holds 512")
    ended = train(*words, "--data", file, "--steps", 1)
    assert ended.trained and "left out {'longer than 512 tokens': 1}" in ended.said
    account = json.loads((ended.run / "data.json").read_text())
    assert account["left_out"] == {"longer than 512 tokens": 1}
    refused(train(*words, "--data", written(tmp_path / "long.jsonl", [{**row, "prompt": LONG}]), "--steps", 1), "none of the 1 texts can be used", "longer than 512 tokens")


def test_a_context_beyond_the_models_is_refused(train, tmp_path: Path) -> None:
    file = written(tmp_path / "data.jsonl", [{**TALK, "prompt": f"{i}?"} for i in range(8)])
    refused(train("sft", "--data", file, "--max-context", 9999), "--max-context 9999", "512")
    refused(train("sft", "--data", file, "--max-context", 3), "longer than 3 tokens")


ON_PROMPTS = {
    "ppo": ("ppo", *RULE, *SAMPLED),
    "reject": ("reject", *RULE, *SAMPLED, "--keep-truncated"),
    "grpo": ("grpo", *RULE, *SAMPLED),
    "online dpo": ("dpo", *RULE, "--steps", 1, "--max-tokens", 4, "--pairs-per-step", 2),
    "distillation": ("distill", "--teacher-system", "Be brief.", *SAMPLED),
    "distillation of the teacher's samples": ("distill", "--on", "teacher", "--teacher-system", "Be brief.", *SAMPLED),
}


@pytest.mark.parametrize("method", ON_PROMPTS)
def test_a_prompt_that_leaves_no_room_for_an_answer_is_dropped_and_counted_or_refused_before_the_first_step(method: str, train, tmp_path: Path) -> None:
    words, long = ON_PROMPTS[method], [{"prompt": LONG + str(i)} for i in range(4)]
    file = written(tmp_path / "prompts.jsonl", [*({"prompt": f"{i}?"} for i in range(40)), *long])
    refused(train(*words, "--task", file, "--when-too-long", "error"), "with one token of an answer", "the context holds 512", "--when-too-long drop")
    ended = train(*words, "--task", file)
    account = json.loads((ended.run / "data.json").read_text())
    learned = [len(problem.messages[0].content) < 512 for problem in Prompts(str(file)).problems("train")]
    assert ended.trained and account == {"problems": sum(learned), "left_out": {"longer than 512 tokens": learned.count(False)}} and not all(learned)
    refused(train(*words, "--task", written(tmp_path / "long.jsonl", long)), "none of the", "longer than 512 tokens")


# ------------------------------------------------------------------------------------------- models that are something else


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Reward models: a sound one, one whose head is nan, one with other tokens, one whose context is short; and another language model."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    sound, broken = load_scalar("tiny", "float32"), load_scalar("tiny", "float32")
    broken.base.score.weight.data.fill_(float("nan"))
    write_model(folder / "language")
    short = load_scalar(str(write_model(folder / "short language", max_position_embeddings=24)), "float32")
    other = load_scalar(str(folder / "language"), "float32")
    other.renderer.tokenizer.add_tokens(["<other>"])
    for name, model in {"sound": sound, "broken": broken, "short": short, "other": other}.items():
        (folder / name).mkdir()
        model.save(folder / name)
    return {name: str(folder / name) for name in ("sound", "broken", "short", "other", "language")}


METHODS_THAT_SAMPLE = ("ppo", "reject", "grpo")


@pytest.mark.parametrize("method", METHODS_THAT_SAMPLE)
def test_rewards_that_are_nan_end_the_run_and_say_why(method: str, train, models: dict[str, str]) -> None:
    refused(train(method, *SAMPLED, "--reward", f"model:{models['broken']}"), "none of the 4 attempts", "the reward model gave nan")
    refused(train(method, *SAMPLED, "--reward", f"model:{models['short']}"), "none of the 4 attempts", "longer than the reward model's context of 24")


def test_rewards_that_are_nan_end_online_dpo_too(train, models: dict[str, str]) -> None:
    words = ("dpo", "--task", "arithmetic", "--pairs-per-step", 2, "--max-tokens", 4, "--steps", 1)
    refused(train(*words, "--reward", f"model:{models['broken']}"), "none of the 4 attempts", "the reward model gave nan")


@pytest.mark.parametrize("method", METHODS_THAT_SAMPLE)
def test_a_reward_model_of_another_tokenizer_judges_the_text(method: str, train, models: dict[str, str]) -> None:
    assert train(method, *SAMPLED, "--reward", f"model:{models['other']}").trained


def test_a_critic_of_another_tokenizer_is_refused(train, models: dict[str, str]) -> None:
    refused(train("ppo", *SAMPLED, *RULE, "--critic-model", models["other"]), models["other"], "another tokenizer")


@pytest.mark.parametrize("method", METHODS_THAT_SAMPLE)
def test_a_language_model_is_no_reward(method: str, train, models: dict[str, str]) -> None:
    refused(train(method, *SAMPLED, "--reward", f"model:{models['language']}"), "is no reward model", f"judge:{models['language']}")
    refused(train(method, *SAMPLED, "--reward", "karma:5"), "there is no reward 'karma:5'")
    refused(train(method, *SAMPLED, "--reward", "model:"), "there is no reward 'model:'")
    refused(train(method, *SAMPLED, *RULE, "--gold", f"model:{models['language']}"), "is no reward model")


def test_a_reward_model_is_no_language_model(train, models: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for method in METHODS_THAT_SAMPLE:
        refused(train(method, *SAMPLED, *RULE, "--model", models["sound"]), "is a reward model")
    refused(train("ppo", *SAMPLED, "--reward", f"judge:{models['sound']}"), "is a reward model")
    for argv in (["sample", "Hi", "--model", models["sound"]], ["eval", "--model", models["sound"]], ["compare", "tiny", models["sound"]]):
        capsys.readouterr()
        assert cli.run(argv) == cli.USAGE and "is a reward model, which gives scores and writes no text" in capsys.readouterr().err


def test_a_reference_that_training_does_not_start_from_is_refused(train, models: dict[str, str], tmp_path: Path) -> None:
    file = written(tmp_path / "pairs.jsonl", [{**PAIR, "prompt": f"{i}?"} for i in range(8)])
    refused(train("dpo", "--data", file, "--reference", models["language"]), "is not the model that training starts from")
    same = train("dpo", "--data", file, "--reference", "tiny", "--steps", 1)
    assert same.trained


def test_a_teacher_of_another_tokenizer_is_refused(train, models: dict[str, str], tmp_path: Path) -> None:
    other = write_model(tmp_path / "teacher")
    tokenizer = load_scalar(models["other"], "float32").renderer.tokenizer
    tokenizer.save_pretrained(other)
    refused(train("distill", "--teacher", other, "--task", "arithmetic", *SAMPLED), other, "another tokenizer")


# ------------------------------------------------------------------------------------------------ settings that contradict

CONTRADICTIONS: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {
    "pairs and a task": (("dpo", "--data", "pairs", "--task", "arithmetic"), ("either pairs",)),
    "a reward beside pairs": (("dpo", "--data", "pairs", "--reward", "length:3"), ("--reward", "--task")),
    "a reference without use": (("dpo", "--data", "pairs", "--loss", "simpo", "--reference", "tiny"), ("--reference", "simpo has none")),
    "a margin without use": (("dpo", "--data", "pairs", "--gamma", 1), ("--gamma", "--loss simpo")),
    "weights without use": (("dpo", "--data", "pairs", "--bad-weight", 2), ("--bad-weight", "--loss kto")),
    "smoothing without use": (("dpo", "--data", "pairs", "--loss", "ipo", "--label-smoothing", 0.1), ("--label-smoothing", "--loss dpo")),
    "a sampler without use": (("dpo", "--data", "pairs", "--max-tokens", 9), ("--max-tokens", "--task")),
    "infinite reward per nat": (("dpo", "--data", "pairs", "--beta", "inf"), ("--beta", "finite")),
    "a threshold without use": (("reject", "--threshold", 0.5), ("--threshold", "--keep threshold")),
    "a threshold of nan": (("reject", "--keep", "threshold", "--threshold", "nan"), ("--threshold", "finite")),
    "a beta without use": (("reject", "--beta", 1), ("--beta", "--keep weighted")),
    "a penalty without use": (("ppo", "--missing-end-score", -2), ("--missing-end-score", "--truncated penalty")),
    "a value's weight without use": (("ppo", "--value-coef", 1), ("--value-coef", "--critic shared")),
    "a horizon without use": (("ppo", "--kl-horizon", 9), ("--kl-horizon", "--kl-target")),
    "a target without a KL": (("ppo", "--kl-coef", 0, "--kl-target", 3), ("--kl-target", "--kl-coef")),
    "gold without a reward": (("grpo", "--gold", "length:3"), ("--gold", "--reward")),
    "0 for a cut-off attempt beside a model's reward": (("grpo", "--truncated", "wrong", "--reward", "model:tiny"), ("--truncated wrong",)),
    "a teacher that is the student": (("distill", "--task", "arithmetic"), ("the student itself", "--teacher")),
    "a divergence without use": (("distill", "--on", "teacher", "--divergence", "jsd", "--task", "arithmetic"), ("--divergence", "--on own")),
    "a mixture without use": (("distill", "--jsd-beta", 0.2, "--task", "arithmetic"), ("--jsd-beta", "--divergence jsd")),
    "given answers and a task": (("distill", "--on", "given", "--data", "pairs", "--task", "arithmetic"), ("--task", "--on own")),
    "a file without use": (("distill", "--data", "pairs", "--task", "arithmetic"), ("--data", "--on given")),
    "centred steps": (("reward-model", "--kind", "process", "--data", "pairs", "--centering", 1), ("--centering", "--kind outcome")),
    "steps of a whole": (("reward-model", "--data", "pairs", "--step-separator", "|"), ("--step-separator", "--kind process")),
    "an infinite learning rate": (("sft", "--data", "pairs", "--learning-rate", "inf"), ("--learning-rate", "finite")),
    "an adapter scaled by nan": (("sft", "--data", "pairs", "--lora-rank", 2, "--lora-alpha", "nan"), ("--lora-alpha", "finite")),
    "no presets": (("sft", "--preset", "chat"), ("no preset 'chat'", "has none")),
    "an unknown preset": (("dpo", "--preset", "nca"), ("no preset 'nca'", "simpo")),
    "an unknown loss": (("dpo", "--loss", "nca"), ("'nca'", "--loss", "'simpo'")),
    "an unknown flag": (("dpo", "--dataa", "pairs"), ("--dataa", "perhaps you meant --data", "train dpo --help")),
    "a number that is none": (("ppo", "--steps", "many"), ("--steps", "'many'")),
    "a flag without its value": (("ppo", "--steps"), ("--steps", "value")),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_named(case: str, train, tmp_path: Path) -> None:
    words, named = CONTRADICTIONS[case]
    pairs = written(tmp_path / "pairs.jsonl", [{**PAIR, "prompt": f"{i}?"} for i in range(8)])
    refused(train(*(pairs if word == "pairs" else word for word in words)), *named)


def test_a_run_that_learned_nothing_says_so(train) -> None:
    words = ("--task", "arithmetic:levels=1,n_train=8", "--reward", "format:never", *SAMPLED)
    for method in (("grpo",), ("reject", "--keep", "threshold")):
        ended = train(*method, *words)
        assert ended.code == cli.DONE and "warning: nothing was learned in 1 steps" in ended.said
