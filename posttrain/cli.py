"""The command line: `posttrain train grpo …`, `sample`, `eval`, `compare`.

Exit codes: 0 done; 1 failed (no disk space, a crash); 2 bad input, in one sentence; 3 done in part (some attempts could
not be scored); 130 interrupted, with the command that goes on.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

DONE, FAILED, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
Dtype = Literal["auto", "float32", "bfloat16"]

HELP = """\
posttrain turns a base language model into an assistant, a reasoner and an agent, and measures what each step did to it.

  posttrain train grpo    learn from verifiable rewards; the same command again goes on where it stopped
  posttrain sample        print completions of a prompt with their log-probabilities
  posttrain eval          measure one model on one task
  posttrain compare       say what training changed between two models

Each of them explains itself with --help. Exit codes: 0 done, 1 failed, 2 bad input, 3 done in part, 130 interrupted.
A model is smollm2 (embedded), tiny (random, for trying things out), a folder, a run's folder, a .gguf file or a hub id.
"""


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
        return _say(f"interrupted; go on with: {again}" if argv[:1] == ["train"] else "interrupted", INTERRUPTED)
    except BrokenPipeError:
        return FAILED
    except SystemExit as end:  # tyro's: 0 after --help, 2 after a flag that it does not know
        return end.code


def _say(text: str, code: int) -> int:
    print(f"posttrain: {text}", file=sys.stderr)
    return code


def _dispatch(argv: list[str]) -> int:
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(HELP, end="")
        return DONE
    if name == "--version":
        from posttrain import __version__

        print(f"posttrain {__version__}")
        return DONE
    commands = {"sample": (SampleArgs, sample), "eval": (EvalArgs, evaluate), "compare": (CompareArgs, compare)}
    if name == "train":
        return _train(rest)
    if name not in commands:
        return _say(f"there is no command '{name}': choose one of train, sample, eval, compare (posttrain --help)", USAGE)
    arguments, command = commands[name]
    return asyncio.run(command(_parse(arguments, name, rest)))


def _parse(kind: type, name: str, argv: list[str], default: Any = None, description: str | None = None) -> Any:
    """The arguments of one command, as its dataclass. Raises SystemExit, with code 2 for bad flags and 0 after `--help`."""
    import tyro

    return tyro.cli(
        kind, prog=f"posttrain {name}", args=argv, description=description,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
        **({} if default is None else {"default": default}),
    )  # fmt: skip


def _positional():
    import tyro

    return tyro.conf.Positional


# ---------------------------------------------------------------------------------------------------------------- train


def _train(argv: list[str]) -> int:
    """`train ALGORITHM [--preset NAME] [--config FILE] [flags]`: a preset or a file gives defaults, flags change them."""
    from posttrain.algorithms import grpo

    algorithms = {"grpo": grpo}
    if not argv or argv[0] not in algorithms:
        asked_for_help = not argv or argv[0] in ("-h", "--help")
        text = f"usage: posttrain train ALGORITHM [--preset NAME] [--config FILE] [flags]; algorithms: {', '.join(algorithms)}"
        if asked_for_help:
            print(text)
            return DONE
        return _say(f"there is no algorithm '{argv[0]}': choose one of {', '.join(algorithms)}", USAGE)
    module = algorithms[argv[0]]
    preset, argv_left = _take(argv[1:], "--preset")
    file, argv_left = _take(argv_left, "--config")
    as_json = "--json" in argv_left
    default = _default(module, preset, file)
    description = f"{module.Config.__doc__}\n\nAlso: --preset {' | '.join(module.PRESETS)}; --config FILE (a run's config.json); --json."
    config = _parse(module.Config, f"train {argv[0]}", [a for a in argv_left if a != "--json"], default, description)
    checkpoint = asyncio.run(module.train(config))
    if as_json:
        rows = (config.out / "metrics.jsonl").read_text().splitlines()
        print(json.dumps({"run": str(config.out), "model_path": str(checkpoint), "last_step": json.loads(rows[-1]) if rows else None}))
    else:
        print(f"trained: {config.out} (the model lies in {checkpoint})")
    return DONE


def _take(argv: list[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of `flag VALUE` or `flag=VALUE`, and the arguments without it."""
    from posttrain.types import UserError

    for i, word in enumerate(argv):
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1], argv[:i] + argv[i + 1 :]
        if word == flag:
            if i + 1 == len(argv):
                raise UserError(f"{flag} needs a value")
            return argv[i + 1], argv[:i] + argv[i + 2 :]
    return None, argv


def _default(module: Any, preset: str | None, file: str | None) -> Any:
    """The configuration that the flags then change."""
    from posttrain.types import UserError

    config = module.Config()
    if file is not None:
        config = _from_json(module.Config, Path(file))
    if preset is not None:
        if preset not in module.PRESETS:
            raise UserError(f"there is no preset '{preset}': choose one of {', '.join(module.PRESETS)}")
        config = module.PRESETS[preset](config)
    return config


def _from_json(kind: type, path: Path) -> Any:
    """A configuration out of a file such as a run's config.json; keys that are missing keep their default."""
    from posttrain.types import UserError

    try:
        found = json.loads(path.read_text())
    except OSError:
        raise UserError(f"'{path}' cannot be read: --config takes a JSON file such as a run's config.json") from None
    except ValueError as error:
        raise UserError(f"'{path}' is not valid JSON ({error}): mend it") from None
    return _filled(kind(), found, path)


def _filled(config: Any, found: Any, path: Path) -> Any:
    """The configuration with what a file says in place of what it had."""
    from posttrain.types import UserError

    if not isinstance(found, dict):
        raise UserError(f"'{path}' holds no settings: --config takes a JSON object such as a run's config.json")
    known, hints = {f.name: getattr(config, f.name) for f in fields(config)}, get_type_hints(type(config))
    stray = sorted(set(found) - set(known) - {"algorithm"})
    if stray:
        raise UserError(f"'{path}' has a setting that does not exist here: {stray[0]}")
    return replace(config, **{name: _setting(name, old, found[name], hints[name], path) for name, old in known.items() if name in found})


def _setting(name: str, old: Any, new: Any, hint: Any, path: Path) -> Any:
    """A setting out of a JSON file, as the type of the one that it replaces."""
    from posttrain.types import UserError

    if is_dataclass(old):
        return _filled(old, new, path)
    try:
        typed = type(old)(new) if isinstance(old, float | Path | tuple) else new
    except (TypeError, ValueError):
        typed = None
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if type(typed) is not type(old) or (choices and typed not in choices):
        like = f"one of {', '.join(choices)}" if choices else f"like {old!r}"
        raise UserError(f"'{path}': {name} cannot be {new!r}, it must be {like}")
    return typed


# --------------------------------------------------------------------------------------------------------------- sample


@dataclass(frozen=True)
class SampleArgs:
    """Print completions of a prompt, with the log-probability of every token (nats)."""

    prompt: Annotated[str, _positional()]
    """What the user says."""
    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
    n: int = 1
    """How many completions."""
    max_tokens: int = 128
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """0 takes the most likely token each time; log-probs are then those at temperature 1."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most likely tokens up to this mass; 1 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as likely as the most likely one."""
    seed: int = 0
    """The same seed gives the same completions."""
    system: str = ""
    """A system message before the prompt."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    json: bool = False
    """Print JSON."""


async def sample(args: SampleArgs) -> int:
    """The `sample` command."""
    from posttrain.engine.local import LocalEngine
    from posttrain.policy.hf import load_policy
    from posttrain.policy.models import resolve
    from posttrain.types import Message, Sampling

    policy = load_policy(args.model, args.dtype)
    renderer = policy.renderer
    system = (Message("system", args.system),) if args.system else ()
    prompt = renderer.prompt((*system, Message("user", args.prompt)))
    sampling = Sampling(args.temperature, args.max_tokens, args.top_k, args.top_p, args.min_p, args.seed)
    completions = await LocalEngine(policy).sample(prompt, args.n, sampling, renderer.stop_token_ids)
    texts = [renderer.parse(c.token_ids).content for c in completions]
    if args.json:
        rows = [
            {"text": text, "prompt_token_ids": c.prompt_token_ids, "token_ids": c.token_ids, "logprobs": c.sampling_logprobs, "stop_reason": c.stop_reason}
            for text, c in zip(texts, completions, strict=True)
        ]  # fmt: skip
        print(json.dumps({"model_path": str(resolve(args.model)), "completions": rows}))
        return DONE
    for number, (text, c) in enumerate(zip(texts, completions, strict=True), 1):
        total = sum(c.sampling_logprobs)
        end = "ended its turn" if c.stop_reason == "stop" else "cut off by the limit"
        print(f"── {number} · {len(c.token_ids)} tokens · {end} · log-prob {total:.2f} nats ({total / len(c.token_ids):.2f} a token)")
        print(text)
        pieces = (f"{piece!r} {logprob:.2f}" for piece, logprob in zip(renderer.pieces(c.token_ids), c.sampling_logprobs, strict=True))
        print("   " + "  ".join(pieces) + "\n")
    return DONE


# ----------------------------------------------------------------------------------------------------- eval and compare


@dataclass(frozen=True)
class MeasureArgs:
    """What `eval` and `compare` have in common."""

    task: str = "arithmetic"
    """NAME[:key=value,…], for example arithmetic:levels=2, rg:chain_sum, gsm8k:path=FILE."""
    split: Literal["train", "test"] = "test"
    """Which of the task's problems."""
    problems: int = 64
    """How many of them, from the first; 0 takes all."""
    samples: int = 32
    """Attempts at each problem."""
    max_tokens: int = 64
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Of sampling."""
    seed: int = 0
    """The same seed gives the same attempts."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    out: Path | None = None
    """Folder for the results: JSON, and with compare the page report.html."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class EvalArgs(MeasureArgs):
    """Measure one model on one task: accuracy, pass@k, length, diversity, each with its 95% interval over problems."""

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""


@dataclass(frozen=True)
class CompareArgs(MeasureArgs):
    """Say what training changed: two models on the same problems with the same seeds, every difference with its interval."""

    base: Annotated[str, _positional()] = "smollm2"
    """The model before."""
    trained: Annotated[str, _positional()] = ""
    """The model after."""
    untouched_task: str = ""
    """A task that was not trained on, such as facts: accuracy lost there is the alignment tax."""
    untouched_samples: int = 4
    """Attempts at each of its problems."""


async def evaluate(args: EvalArgs) -> int:
    """The `eval` command."""
    from posttrain.evals.measure import measure
    from posttrain.evals.table import evaluation_table
    from posttrain.policy.models import resolve
    from posttrain.runs.folder import write_atomically

    _make_folder(args.out)
    task, problems = await _problems(args)
    policy, agent = _subject(args.model, args)
    with _bar("eval", len(problems) * args.samples) as bar:
        evaluation = await measure(agent, task, problems, args.samples, args.seed, scorer=policy, on_attempt=lambda _: bar.advance())
    found = {"model_path": str(resolve(args.model)), "split": args.split, **evaluation.to_json()}
    if args.out is not None:
        write_atomically(args.out / "evaluation.json", json.dumps(found, indent=1))
    if args.json:
        print(json.dumps(found))
    else:
        _print(evaluation_table(evaluation))
    return _completeness(evaluation["unscored_frac"].value)


async def compare(args: CompareArgs) -> int:
    """The `compare` command."""
    from posttrain.evals.compare import Subject
    from posttrain.evals.compare import compare as measure_both
    from posttrain.evals.report import write_report
    from posttrain.evals.table import table
    from posttrain.policy.models import resolve
    from posttrain.runs.folder import disk_errors, write_atomically
    from posttrain.runs.history import training_history
    from posttrain.tasks import load
    from posttrain.types import UserError

    if not args.trained:
        raise UserError("compare needs two models: posttrain compare BASE TRAINED --task …")
    _make_folder(args.out)
    task, problems = await _problems(args)
    untouched = load(args.untouched_task) if args.untouched_task else None
    n = len(problems) * args.samples * 2
    n += 2 * args.untouched_samples * min(len(problems), len(untouched.problems(args.split))) if untouched else 0
    subjects = []
    for name in (args.base, args.trained):
        policy, agent = _subject(name, args)
        subjects.append(Subject(name, str(resolve(name)), agent, policy, policy.renderer.encode, policy.renderer.decode))
    history = training_history(Path(args.trained), policy.renderer)  # a damaged log is found before the work, not after
    with _bar("compare", n) as bar:
        comparison = await measure_both(
            *subjects, task, problems, args.samples, args.seed, split=args.split, untouched_task=untouched,
            untouched_samples=args.untouched_samples, on_attempt=lambda _: bar.advance(),
        )  # fmt: skip
    comparison = replace(comparison, training=history)
    found = comparison.to_json()
    if args.out is not None:
        write_atomically(args.out / "comparison.json", json.dumps(found, indent=1))
        with disk_errors(args.out):
            write_report(found, args.out / "report.html")
    if args.json:
        print(json.dumps(found))
    else:
        _print(table(comparison))
        if args.out is not None:
            print(f"\nreport: {args.out / 'report.html'}")
    row = comparison["unscored_frac"]
    return _completeness(max(row.base.value, row.trained.value))


async def _problems(args: MeasureArgs):
    """The task, checked, and the problems asked for."""
    from posttrain.tasks import check_gold, load
    from posttrain.types import UserError

    if args.samples < 1 or args.problems < 0 or args.max_tokens < 1 or args.temperature < 0:
        raise UserError("--samples and --max-tokens must be at least 1, --problems and --temperature at least 0")
    task = load(args.task)
    problems = task.problems(args.split)
    problems = list(problems[: args.problems] if args.problems else problems)
    await check_gold(task, problems[:16])
    return task, problems


def _subject(model: str, args: MeasureArgs):
    """A policy and the agent that samples from it."""
    from posttrain.agents.loop import ModelAgent
    from posttrain.engine.local import LocalEngine
    from posttrain.policy.hf import load_policy
    from posttrain.types import Sampling

    policy = load_policy(model, args.dtype)
    return policy, ModelAgent(LocalEngine(policy), policy.renderer, Sampling(args.temperature, args.max_tokens))


def _bar(title: str, total: int):
    from posttrain.runs.progress import Bar

    return Bar(title, total, every=max(1, -(-total // 10)))


def _make_folder(path: Path | None) -> None:
    """The folder for the results, before there are any: one that cannot be made would lose them."""
    from posttrain.types import UserError

    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder '{path}' cannot be made ({error.strerror}): give another --out") from None


def _print(renderable: Any) -> None:
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=110)).print(renderable)


def _completeness(unscored: float) -> int:
    """Done, or done in part where some attempts could not be scored."""
    return PARTIAL if unscored > 0 else DONE


if __name__ == "__main__":
    main()
