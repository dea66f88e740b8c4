"""The house keeps its floors: what may import what, and what importing the package does (nothing)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "posttrain"

FLOORS = (
    ("types", "seeds", "losses", "advantages", "returns", "statistics", "calibration", "calibration_intervals", "power"),
    ("tool_words", "tool_calls", "renderer", "batching", "data", "sandbox", "retrieval", "rewards"),
    ("policy", "engine", "tools"),
    ("tasks", "agents"),
    ("scaling", "evals"),
    ("runs", "training"),
    ("algorithms",),
    ("serve", "commands", "cli"),
)
"""From the ground up. A room imports from floors beneath it, from rooms to its left, and from itself."""

ROOMS = [room for floor in FLOORS for room in floor]
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """`posttrain.engine.cache` is in the room `engine`; the package itself is in none."""
    return module.split(".")[1] if "." in module else ""


def name_of(file: Path) -> str:
    """A file's module."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports, within functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively: say from where"
            yield from _from(node)


def _from(node: ast.ImportFrom) -> list[str]:
    """`from posttrain.algorithms import grpo` imports a module; `from posttrain.types import Task` does not."""
    module = node.module or ""
    inner = [f"{module}.{alias.name}" for alias in node.names]
    found = [name for name in inner if (ROOT / Path(*name.split("."))).with_suffix(".py").exists()]
    return [module, *found]


def ours(file: Path) -> set[str]:
    """The rooms that a file imports from."""
    return {room_of(module) for module in imported(file) if module.split(".")[0] == "posttrain"} - {""}


def test_every_room_stands_on_a_floor() -> None:
    rooms = {room_of(name_of(file)) for file in FILES} - {""}
    assert rooms <= set(ROOMS), "give the new room a floor"


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_imports_only_point_downwards(file: Path) -> None:
    room = room_of(name_of(file))
    allowed = set(ROOMS[: ROOMS.index(room) + 1]) if room else set()
    assert ours(file) <= allowed


def test_algorithms_never_import_one_another() -> None:
    algorithms = {name_of(file) for file in (PACKAGE / "algorithms").glob("*.py")} - {"posttrain.algorithms"}
    assert algorithms
    for file in (PACKAGE / "algorithms").glob("*.py"):
        assert not (set(imported(file)) & algorithms) - {name_of(file)}, file


def test_nothing_imports_experiments_benchmarks_or_tests() -> None:
    for file in FILES:
        assert not {module.split(".")[0] for module in imported(file)} & {"experiments", "benchmarks", "tests"}, file


def test_a_formula_knows_no_model_no_settings_and_no_task() -> None:
    allowed = {"losses", "advantages", "statistics"}
    for file in [PACKAGE / "advantages.py", *(PACKAGE / "losses").glob("*.py")]:
        assert ours(file) <= allowed, file


def test_the_nouns_import_nothing_of_ours() -> None:
    assert ours(PACKAGE / "types.py") == ours(PACKAGE / "seeds.py") == set()


def test_engines_know_no_tasks_tools_or_chats() -> None:
    for file in (PACKAGE / "engine").glob("*.py"):
        assert not ours(file) & {"renderer", "tasks", "tools", "agents"}, file


def test_only_the_command_line_knows_its_library() -> None:
    users = {file.relative_to(PACKAGE).as_posix() for file in FILES if "tyro" in {module.split(".")[0] for module in imported(file)}}
    assert users <= {"cli.py", "commands/base.py"}


# ------------------------------------------------------------------------------------------------------- fresh interpreters


def fresh(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The code in an interpreter of its own, in an empty folder that is also its home."""
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment, check=True)


@pytest.mark.parametrize("modules", ["posttrain", "posttrain.types", "posttrain.seeds", "posttrain.cli"])
def test_importing_does_nothing(modules: str, tmp_path: Path) -> None:
    ended = fresh(f"import sys, {modules}; assert 'torch' not in sys.modules and 'transformers' not in sys.modules", tmp_path)
    assert (ended.stdout, ended.stderr, list(tmp_path.iterdir())) == ("", "", [])


def test_tasks_rewards_tools_and_the_loop_need_no_torch(tmp_path: Path) -> None:
    rooms = [PACKAGE / "agents" / f"{name}.py" for name in ("scripted", "tool_agent")]
    rooms += [file for room in ("tasks", "rewards", "tools") for file in sorted((PACKAGE / room).glob("*.py")) if not file.stem.endswith("_worker")]
    modules = ", ".join(name_of(file) for file in rooms)
    ended = fresh(f"import sys, {modules}; print(*(m for m in ('torch', 'transformers', 'peft') if m in sys.modules))", tmp_path)
    assert ended.stdout.strip() == ""
    assert list(tmp_path.iterdir()) == []
