"""Tasks that belong together: what a model can do, how it behaves, and whether it can still do it in the middle of something.

Data files lie in the user's own folder, or one folder below, under these names with `.jsonl` or `.jsonl.gz`. Nothing is fetched:
what is not there is left out, and said in one sentence.

    gsm8k        gsm8k_test, gsm8k            math500     math500, math500_test
    mmlu         mmlu, mmlu_test, mmlu_sample, mmlu_stem
    humaneval    humaneval, HumanEval         mbpp        mbpp
    ifeval       ifeval, input_data           xstest      xstest_prompts, xstest
    truthfulqa   truthfulqa, TruthfulQA       bbq         bbq, bbq_6cats
    winogenerated   winogenerated_examples, winogenerated, anthropic_winogenerated

*capability*: arithmetic, facts, gsm8k, math500, mmlu, humaneval, mbpp. *alignment*: ifeval, xstest, truthfulqa, sycophancy (on mmlu,
and on the embedded capitals), bbq, winogenerated. *in-use*: abilities of the first, each bare, late in a
long conversation, and (but for mmlu) in an agent's loop with tools that are of no help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from posttrain.evals.loops import LOOP
from posttrain.tasks.choice_sets import CHOICE_SETS
from posttrain.types import UserError

FILES = {
    "gsm8k": ("gsm8k_test", "gsm8k"), "math500": ("math500", "math500_test"), "mmlu": ("mmlu", "mmlu_test", "mmlu_sample", "mmlu_stem"),
    "humaneval": ("humaneval", "HumanEval"), "mbpp": ("mbpp",), "ifeval": ("ifeval", "input_data"), "xstest": ("xstest_prompts", "xstest"),
    "truthfulqa": ("truthfulqa", "TruthfulQA"), "bbq": ("bbq", "bbq_6cats"),
    "winogenerated": ("winogenerated_examples", "winogenerated", "anthropic_winogenerated"),
}  # fmt: skip
"""The names, without their endings, under which each task's file is looked for, the first that is there."""

ENDINGS = (".jsonl", ".jsonl.gz")

ALL_TEST = {"gsm8k": "path_test", "mbpp": "path"}
"""Which option takes the file: gsm8k's published file of test problems is not to be dealt to training; mbpp deals by its own numbers."""

USES = ("conversation", LOOP)
"""What makes a task one in use: wrappers that `NAME:of=TASK` loads. In the loop answers are written, so that choices are only conversed about."""

SUITES = {
    "capability": ("arithmetic", "facts", "gsm8k", "math500", "mmlu", "humaneval", "mbpp"),
    "alignment": ("ifeval", "xstest", "truthfulqa", "sycophancy:of=capitals", "sycophancy:of=mmlu", "bbq", "winogenerated"),
    "in-use": ("arithmetic", "facts", "gsm8k", "mmlu"),
}


@dataclass(frozen=True)
class Suite:
    """What a suite comes to with the files that there are."""

    specs: tuple[str, ...]
    """Of the tasks, for `posttrain.tasks.load`."""
    left_out: tuple[str, ...]
    """One sentence for each task whose file is missing."""


def suite(name: str, data: Path | None) -> Suite:
    """The suite's tasks that need no file, and those whose file is in the folder. Raises UserError for another suite, and for no such folder."""
    if name not in SUITES:
        raise UserError(f"there is no suite {name!r}: there are {', '.join(SUITES)}")
    if data is not None and not data.is_dir():
        raise UserError(f"the folder '{data}' of --data is not there: give one that holds the data files")
    specs, left_out = [], []
    for asked in SUITES[name]:
        file_of = asked.rpartition("of=")[2]
        path = _find(data, FILES.get(file_of, ()))
        if file_of in FILES and path is None:
            left_out.append(_missing(asked, file_of, data))
            continue
        spec = asked if path is None else f"{asked}{',' if ':' in asked else ':'}{ALL_TEST.get(file_of, 'path_test')}={path}"
        specs += [spec, *(_in_use(use, spec) for use in USES if name == "in-use" and (use != LOOP or file_of not in CHOICE_SETS))]
    return Suite(tuple(specs), tuple(left_out))


def _find(data: Path | None, names: tuple[str, ...]) -> Path | None:
    """The first of the files that is in the folder or one below it."""
    if data is None:
        return None
    folders = [data, *sorted(path for path in data.iterdir() if path.is_dir())]
    found = next((f / f"{name}{end}" for name in names for f in folders for end in ENDINGS if (f / f"{name}{end}").is_file()), None)
    if found is not None and set(str(found)) & set(",()[]{}"):
        raise UserError(f"'{found}' has a comma or a bracket in its name, which a task's options cannot hold: rename it")
    return found


def _missing(asked: str, file_of: str, data: Path | None) -> str:
    where = f"holds none of {', '.join(FILES[file_of])} ({' or '.join(ENDINGS)})" if data else "is needed for it"
    folder = f"'{data}'" if data else "a folder of data files (--data)"
    return f"left out {asked.replace(':of=', ' on ')}: {folder} {where}"


def _in_use(use: str, spec: str) -> str:
    kind, _, options = spec.partition(":")
    return f"{use}:of={kind}{',' if options else ''}{options}"
