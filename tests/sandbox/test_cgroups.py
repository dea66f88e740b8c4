"""What is written into which group, and what is read from it; the real ones are tried by the hostile suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from posttrain.sandbox.cgroups import OWN_PROCESSES, Group, find_parent, make_group
from posttrain.sandbox.program import Limits

LIMITS = Limits(memory_bytes=1 << 27, processes=5)


def contents(group: Group) -> dict[str, str]:
    return {file.name: file.read_text() for folder in group.folders for file in folder.iterdir()}


def test_under_v2_one_group_bounds_both_and_ends_as_a_whole(tmp_path: Path):
    group = make_group(LIMITS, Group("cgroup v2", tmp_path, tmp_path))
    assert contents(group) == {
        "memory.max": str(1 << 27), "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": str(5 + OWN_PROCESSES)
    }  # fmt: skip


def test_under_v1_each_controller_has_a_group(tmp_path: Path):
    for name in ("memory", "pids"):
        (tmp_path / name).mkdir()
    group = make_group(LIMITS, Group("cgroup v1", tmp_path / "memory", tmp_path / "pids"))
    assert {folder.parent.name for folder in group.folders} == {"memory", "pids"}
    assert contents(group) == {
        "memory.limit_in_bytes": str(1 << 27), "memory.memsw.limit_in_bytes": str(1 << 27), "pids.max": str(5 + OWN_PROCESSES)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "file", "text"),
    [
        ("cgroup v2", "memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n"),
        ("cgroup v1", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
    ],
)
def test_processes_ended_for_want_of_memory_are_counted(tmp_path: Path, kind, file: str, text: str):
    (tmp_path / file).write_text(text)
    assert Group(kind, tmp_path, tmp_path).memory_kills() == 3


def test_without_groups_nothing_is_entered_and_nothing_counted():
    group = make_group(LIMITS, Group("rlimits"))
    assert (group.folders, group.memory_kills()) == ([], 0)
    assert group.entering(["true"])[-2:] == ["--", "true"]


def test_a_place_where_no_group_can_be_made_raises_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(OSError):
        make_group(LIMITS, Group("cgroup v1", tmp_path, tmp_path / "missing"))
    assert list(tmp_path.iterdir()) == []


def test_the_place_that_was_found_is_left_as_it_was():
    assert [path for folder in find_parent().folders for path in folder.glob(f"posttrain-{os.getpid()}-*")] == []
