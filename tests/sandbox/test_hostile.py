"""Hostile programs are held: as whoever runs the tests, as an ordinary user, and not by programs that could not do harm anyway."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import posttrain
from posttrain import cli, sandbox
from posttrain.rewards.hostile_answers import ANSWERS, guarded_tests
from posttrain.sandbox import Ran, hostile_programs, python
from posttrain.sandbox.bubblewrap import GO, inner_command, kernel_uid, outer_arguments, tool
from posttrain.sandbox.hostile import CASES, Case, Host, a_host, judge
from posttrain.sandbox.layers import layers
from posttrain.sandbox.seccomp import seccomp_filter
from tests.sandboxed import as_root, needs_sandbox

pytestmark = needs_sandbox
NAMES = [*(case.name for case in CASES), *(f"judge: {name}" for name in ANSWERS)]
BY_NAME = {case.name: case for case in CASES}


# --------------------------------------------------------------------------------------------------------- posttrain doctor


@pytest.fixture(scope="module")
def doctor() -> tuple[int, dict[str, Any]]:
    """The exit code of `posttrain doctor --json`, and what it printed."""
    ended = subprocess.run([sys.executable, "-m", "posttrain.cli", "doctor", "--json"], capture_output=True, text=True)
    return ended.returncode, json.loads(ended.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_program_is_held(name: str, doctor: tuple[int, dict[str, Any]]):
    verdict = next(verdict for verdict in doctor[1]["hostile"] if verdict["name"] == name)
    assert verdict["held"], verdict["detail"]


def test_doctor_ends_with_0_if_all_held_and_names_every_layer(doctor: tuple[int, dict[str, Any]]):
    code, printed = doctor
    assert (code, printed["held"]) == (0, True)
    assert [verdict["name"] for verdict in printed["hostile"]] == NAMES
    assert [layer["name"] for layer in printed["layers"]] == [layer.name for layer in layers()]


@as_root
def test_doctor_ends_with_1_and_the_remedy_where_there_is_no_sandbox():
    hidden = 'mount --bind /dev/null "$(command -v bwrap)" && exec "$0" -m posttrain.cli doctor'
    ended = subprocess.run(["unshare", "--mount", "sh", "-c", hidden, sys.executable], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (cli.FAILED, "")
    assert "apt-get install bubblewrap" in ended.stdout
    assert "No untrusted code is run here" in ended.stdout


# --------------------------------------------------------------------------------------------------------- an ordinary user

ORDINARY = 54321
AS_ORDINARY = ["setpriv", "--reuid", str(ORDINARY), "--regid", str(ORDINARY), "--clear-groups"]
SUITE = """
import asyncio, dataclasses, json
from posttrain.sandbox import hostile, layers
print(json.dumps([[dataclasses.asdict(layer) for layer in layers()], [dataclasses.asdict(one) for one in asyncio.run(hostile.run_cases())]]))
"""


@pytest.fixture
def readable_package() -> Iterator[Path]:
    """The sandbox alone, where anybody can read it. It needs nothing but the standard library."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(posttrain.__file__).parent
        shutil.copytree(source / "sandbox", Path(folder, "posttrain", "sandbox"), ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("__init__.py", "types.py"):
            shutil.copy(source / name, Path(folder, "posttrain", name))
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        yield Path(folder)


def readable_python() -> str:
    """An interpreter that an ordinary user may run."""
    found = (os.path.realpath(sys.executable), "/usr/bin/python3")
    return next(path for path in found if subprocess.run([*AS_ORDINARY, path, "-c", ""], capture_output=True).returncode == 0)


@as_root
def test_an_ordinary_users_sandbox_holds_them_too(readable_package: Path):
    ended = subprocess.run(
        [*AS_ORDINARY, readable_python(), "-B", "-c", SUITE], capture_output=True, text=True, cwd="/", env={"PYTHONPATH": str(readable_package)}
    )
    assert ended.returncode == 0, ended.stderr
    found, verdicts = json.loads(ended.stdout)
    assert [layer["name"] for layer in found if layer["required"] and not layer["in_force"]] == []
    assert "user namespace" in {layer["name"] for layer in found}
    assert [(one["name"], one["detail"]) for one in verdicts if not one["held"]] == []
    assert [one["name"] for one in verdicts] == [case.name for case in CASES]


# ------------------------------------------------------------------------------------------- the cases can tell the difference


def ran_outside(case: Case, host: Host) -> Ran:
    """The program without any sandbox: only for those that do no harm."""
    argv = [sys.executable, "-c", hostile_programs.PRELUDE + case.code]
    ended = subprocess.run(argv, input=host.told(case.limits), capture_output=True, text=True, cwd="/")
    return Ran("ok", ended.returncode, ended.stdout, ended.stderr)


def ran_with_less(case: Case, host: Host, without: str) -> Ran:
    """The program in a sandbox that lacks one thing: an argument of bubblewrap's, or the seccomp filter."""
    program = replace(python(hostile_programs.PRELUDE + case.code), limits=case.limits)
    file = os.memfd_create("filter")
    os.write(file, seccomp_filter())
    os.lseek(file, 0, os.SEEK_SET)
    outer = outer_arguments(program, file)
    at = outer.index(without)
    del outer[at : at + (2 if without == "--seccomp" else 1)]
    inner = inner_command(replace(program, argv=(program.argv[0], "-c", program.files["main.py"])), kernel_uid(29), True)
    stdin = GO + host.told(case.limits).encode()
    ended = subprocess.run([tool("bwrap"), *outer, "--", *inner], input=stdin, capture_output=True, pass_fds=[file], env={})
    os.close(file)
    return Ran("ok", ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@pytest.mark.parametrize("name", ["environment", "host files"])
def test_outside_of_a_sandbox_it_would_not_be_held(name: str):
    with a_host() as host:
        assert judge(BY_NAME[name], ran_outside(BY_NAME[name], host), host).startswith(("GOT", "the secret"))


@pytest.mark.parametrize(
    ("name", "without", "got"),
    [("network", "--unshare-net", "loopback"), ("system calls", "--seccomp", "ptrace"), ("/proc tricks", "--unshare-pid", "a process of the host")],
)
def test_a_sandbox_that_lacks_one_layer_is_found_out(name: str, without: str, got: str):
    with a_host() as host:
        found = judge(BY_NAME[name], ran_with_less(BY_NAME[name], host, without), host)
        assert found.startswith("GOT") and got in found


def test_a_program_that_breaks_down_before_it_tries_anything_is_not_taken_for_one_that_was_held():
    with a_host() as host:
        for ran in (Ran("ok", 0, ""), Ran("ok", 0, "TRIED 0\n"), Ran("nonzero_exit", 1, "TRIED 3\n")):
            assert "did not come to its end" in judge(BY_NAME["environment"], ran, host)
        assert judge(BY_NAME["environment"], Ran("ok", 0, "TRIED 3\n"), host) == ""
        assert judge(BY_NAME["environment"], Ran("ok", 0, f"TRIED 3\n{host.secret}"), host) == "the secret of the host's file came out"


@pytest.mark.parametrize("name", ["early exit", "patched equality", "patched values"])
def test_a_judge_in_the_programs_own_process_would_be_fooled(name: str):
    """The usual judge: program and tests in one file, passed if it ends with exit code 0."""
    checks = [check for check in guarded_tests().checks if "list(" not in check and (name != "patched values" or "abs" not in check)]
    assert asyncio.run(sandbox.run(python("\n".join([ANSWERS[name][1], *checks])))).exit_code == 0
