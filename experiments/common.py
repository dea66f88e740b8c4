"""What experiments share: prompts that need no download, and the recording of answers in docstrings."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, is_dataclass
from multiprocessing import get_context
from pathlib import Path
from textwrap import fill
from typing import Any

from posttrain.runs.folder import write_atomically
from posttrain.tasks.facts import CAPITALS
from posttrain.types import Measurement

THINGS = (
    "a dog", "a cat", "a horse", "a whale", "a bee", "an oak tree", "the moon", "the sun", "the sea", "a river", "a mountain", "the desert",
    "a bicycle", "a train", "an aeroplane", "a bridge", "a library", "a hospital", "a school", "a market", "bread", "cheese", "tea", "coffee",
    "rain", "snow", "wind", "fire", "music", "painting", "football", "chess",
)  # fmt: skip
TEMPLATES = ("Tell me about {}.", "Describe {}.", "What is special about {}?", "Write something about {}.")


COUNTS, ATTEMPTS = Path(__file__).parents[1] / "tests" / "data_files" / "qwen1p5b_math500_T1_ncorrect.txt", 64
"""How many of so many attempts at each MATH-500 problem were right: Qwen2.5-1.5B-Instruct at T = 1, as published with 2505.22756."""


def prompts() -> list[str]:
    """256 requests for a few words about something: 32 countries and 32 things, asked in four ways."""
    return [template.format(thing) for thing in (*CAPITALS, *THINGS) for template in TEMPLATES]


def write_prompts(path: Path, ending: str = "") -> Path:
    """The requests, each with `ending` behind it, as a file that `--task` takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, [{"id": text, "prompt": text + ending} for text in prompts()])
    return path


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def spoken(m: Measurement, digits: int = 3) -> str:
    """A measurement with its 95% interval and n."""
    return f"{m.value:.{digits}f} [{m.low:.{digits}f} {m.high:.{digits}f}] (n {m.n})"


MEASURED = re.compile(r"Measured \((?:.|\n)*?(?=\n\"\"\")")


def record(
    file: str, out: Path, config: Any, found: Mapping[str, Any], lines: Sequence[str], started: float, spent: str = ""
) -> None:
    """Keep the figures in `out`/result.json, print the answer, and write it into the experiment's docstring, where it ends.

    The docstring's last paragraph begins with "Measured (" and is replaced whole; a run with other settings than the
    file's own defaults is printed and kept, and not written there. `spent` says what a run of several commands has cost, where
    the time since `started` is not it.
    """
    seconds = time.perf_counter() - started
    kept = {"config": _plain(config), "seconds": seconds, "found": _plain(found)}
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "result.json", json.dumps(kept, indent=1))
    spent = spent or f"{duration(seconds)} on 2 cores"
    head = f"Measured ({time.strftime('%Y-%m-%d')}, {spent}, seed {config.seed}):"
    answer = "\n".join([head, *(fill(line, 118, initial_indent="- ", subsequent_indent="  ") for line in lines)])
    print(answer)
    if config != type(config)(out=config.out):
        print("(not the default settings: the docstring stays as it was)", file=sys.stderr)
        return
    source = Path(file)
    text = source.read_text()
    new, n = MEASURED.subn(lambda _: answer, text, count=1)
    if not n:
        raise ValueError(f"{file} has no paragraph 'Measured (' at the end of its docstring")
    source.write_text(new)


def each_seed(one_seed: Callable[[Any, int], Any], config: Any) -> list[Any]:
    """What every seed of a config comes to, each in a process of its own, as many at once as torch may use threads."""
    import torch

    config.out.mkdir(parents=True, exist_ok=True)
    seeds = range(config.seed, config.seed + config.seeds)
    with ProcessPoolExecutor(min(len(seeds), torch.get_num_threads()), mp_context=get_context("spawn")) as pool:
        return list(pool.map(one_seed, [config] * len(seeds), seeds))


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
