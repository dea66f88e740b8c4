"""The command line: `posttrain train grpo …`, `sample`, `eval`, `compare`: which command, which exit code.

Exit codes: 0 done; 1 failed (no disk space, a crash); 2 bad input, in one sentence; 3 done in part (some attempts could
not be scored); 130 interrupted, with the command that goes on.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from types import ModuleType
from typing import Any

from posttrain.commands.base import DONE, FAILED, INTERRUPTED, USAGE

COMMANDS = {
    "sample": "print completions of a prompt with their log-probabilities",
    "eval": "measure one model on one task or several",
    "scale": "draw what more attempts and longer thoughts buy: performance against tokens and attempts",
    "compare": "say what training changed between two models",
    "reliability": "measure a model with tools on jobs of growing length: survival, pass^k, why it failed",
    "show-mask": "print conversations with the tokens that SFT would learn marked",
    "agent run": "have a model with tools attempt a prompt or a task, every step kept as it happens",
    "agent resume": "take up the attempts of a folder that were cut off",
    "agent replay": "let the model speak again against the answers that tools gave then",
    "agent fork": "begin an attempt anew after any of its turns",
    "prefer": "make preferences of a model's own samples by any reward",
    "serve": "serve a model over HTTP as OpenAI's API does",
    "export": "write an evaluation's attempts in others' formats: Inspect's logs, parquet, plain jsonl",
    "doctor": "say whether the sandbox for untrusted code holds here",
    "rag index": "make a folder of documents searchable, and keep it so",
    "rag ask": "answer a question from an index, with citations that are checked",
    "rag eval": "measure retrievers on judged queries, or RAG, long context and the hybrid on invented facts",
    "rlhf": "SFT, a reward model, PPO, DPO and RAFT on one set of preferences, and what each paid for its reward",
}
"""Each is a file in `commands/`."""

ALGORITHMS = {
    "sft": "learn from conversations, by the likelihood of what the assistant says",
    "reward-model": "learn to score from preferences, or to score each step from labels",
    "dpo": "learn from preferences directly: DPO, IPO, KTO, ORPO, SimPO, from a file or online",
    "ppo": "learn from a reward with a critic, and a KL to the reference",
    "reject": "imitate the attempts that did well: rejection sampling, RAFT, reward-weighted regression",
    "distill": "learn a teacher's distribution: on-policy, from given answers, or of a longer prompt",
    "grpo": "learn from groups of attempts by verifiable or other rewards: GRPO, Dr. GRPO, DAPO, RLOO, GSPO, CISPO",
}
"""Each is a file in `algorithms/`."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    sys.exit(run(argv))


def run(argv: list[str]) -> int:
    """Run one command; returns its exit code. Whatever the user can mend is said in one sentence, without a traceback."""
    from posttrain.runs.folder import DiskFull
    from posttrain.types import UserError

    try:
        return _dispatch(argv)
    except UserError as error:
        return _say(str(error), USAGE)
    except DiskFull as error:
        return _say(str(error), FAILED)
    except (KeyboardInterrupt, asyncio.CancelledError):
        again = shlex.join(["posttrain", *argv])
        keeps = argv[:1] in (["eval"], ["compare"], ["scale"], ["reliability"]) and any(word.startswith("--out") for word in argv)
        goes_on = argv[:1] == ["train"] or keeps
        if argv[:2] == ["agent", "run"]:
            return _say("interrupted; go on with: posttrain agent resume FOLDER (its --out)", INTERRUPTED)
        return _say(f"interrupted; go on with: {again}" if goes_on else "interrupted", INTERRUPTED)
    except BrokenPipeError:
        return FAILED
    except SystemExit as end:  # tyro's, after --help
        return end.code


def _say(text: str, code: int) -> int:
    print(f"posttrain: {text}", file=sys.stderr)
    return code


def _dispatch(argv: list[str]) -> int:
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(help_text(), end="")
        return DONE
    if name == "--version":
        from posttrain import __version__

        print(f"posttrain {__version__}")
        return DONE
    if name == "train":
        return _train(rest)
    if rest and f"{name} {rest[0]}" in COMMANDS:  # such as `rag index`
        name, rest = f"{name} {rest[0]}", rest[1:]
    verbs = {f"posttrain {command}": text for command, text in COMMANDS.items() if command.startswith(f"{name} ")}
    if verbs and rest[:1] in ([], ["-h"], ["--help"]):
        print(_listed(verbs))
        return DONE
    if verbs:
        return _say(f"there is no command '{name} {rest[0]}': choose one of {', '.join(verbs)}", USAGE)
    if name not in COMMANDS:
        return _say(f"there is no command '{name}': choose one of train, {', '.join(COMMANDS)} (posttrain --help)", USAGE)
    command = _module("commands", name)
    return asyncio.run(command.main(_parse(command.Args, name, rest)))


def help_text() -> str:
    """What `posttrain --help` prints."""
    rows = {f"posttrain train {name}": text for name, text in ALGORITHMS.items()} | {f"posttrain {name}": text for name, text in COMMANDS.items()}
    return f"""\
posttrain turns a base language model into an assistant, a reasoner and an agent, and measures what each step did to it.

{_listed(rows)}

Each of them explains itself with --help. A training goes on where it stopped when its command is given again.
Exit codes: 0 done, 1 failed, 2 bad input, 3 done in part, 130 interrupted.
A model is smollm2 (embedded), tiny (random, for trying things out), a folder, a run's folder, a .gguf file, a hub id or a
server's address: openai:http://HOST:PORT/v1#NAME.
"""


def _about(module: ModuleType) -> str:
    """What the help of an algorithm begins with: what it does, its presets, and what else may be said."""
    presets = {name: preset.__doc__ for name, preset in getattr(module, "PRESETS", {}).items()}
    listed = f"Presets (--preset NAME), which flags then change:\n{_listed(presets)}\n\n" if presets else ""
    return f"{module.Config.__doc__}\n\n{listed}Also: --config FILE (a run's config.json) gives the settings of another run; --json prints figures."


def _listed(rows: Mapping[str, str]) -> str:
    """Names and what they are, side by side."""
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {' '.join(text.split())}" for name, text in rows.items())


def _module(room: str, name: str) -> ModuleType:
    """The file of a command or an algorithm, imported when it is called for."""
    return import_module(f"posttrain.{room}.{name.replace('-', '_').replace(' ', '_')}")


def _parse(kind: type, name: str, argv: list[str], default: Any = None, description: str | None = None) -> Any:
    """The arguments of one command, as its dataclass. Raises UserError for bad flags, and SystemExit after `--help`."""
    import tyro

    from posttrain.types import UserError

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                kind, prog=f"posttrain {name}", args=argv, description=description,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
                **({} if default is None else {"default": default}),
            )  # fmt: skip
    except SystemExit as end:
        if end.code:
            raise UserError(f"{_unboxed(said.getvalue())} (posttrain {name} --help)") from None
        raise


def _unboxed(text: str) -> str:
    """What tyro says in a box of several parts, as one sentence: what is wrong, and the flag that may have been meant."""
    parts = [" ".join(part.split()) for part in re.split(r"(?m)^.?\s*[─-]{4,}.*$", text.replace("│", " "))]
    wrong = parts[0 if "╭" in text else 1] if len(parts) > 1 else text
    wrong = re.sub(r"^╭.*╮ ", "", wrong)
    meant = re.search(r"Perhaps you meant: (--[\w-]+)", " ".join(parts))
    return wrong[:1].lower() + wrong[1:].rstrip(".") + (f"; perhaps you meant {meant[1]}" if meant else "")


def _train(argv: list[str]) -> int:
    """`train ALGORITHM [--preset NAME] [--config FILE] [flags]`: a preset or a file gives defaults, flags change them."""
    from posttrain.commands.configs import default_config, take

    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: posttrain train ALGORITHM [--preset NAME] [--config FILE] [flags]\n\n{_listed(ALGORITHMS)}")
        return DONE
    if argv[0] not in ALGORITHMS:
        return _say(f"there is no algorithm '{argv[0]}': choose one of {', '.join(ALGORITHMS)}", USAGE)
    module = _module("algorithms", argv[0])
    preset, argv_left = take(argv[1:], "--preset")
    file, argv_left = take(argv_left, "--config")
    as_json = "--json" in argv_left
    default = default_config(module, preset, file)
    config = _parse(module.Config, f"train {argv[0]}", [a for a in argv_left if a != "--json"], default, _about(module))
    checkpoint = asyncio.run(module.train(config))
    if as_json:
        rows = (config.out / "metrics.jsonl").read_text().splitlines()
        print(json.dumps({"run": str(config.out), "model_path": str(checkpoint), "last_step": json.loads(rows[-1]) if rows else None}))
    else:
        print(f"trained: {config.out} (the model lies in {checkpoint})")
    return DONE


if __name__ == "__main__":
    main()
