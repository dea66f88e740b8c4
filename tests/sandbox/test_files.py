"""Files in and out of a folder: nothing leads out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from posttrain.sandbox.files import MAX_DEPTH, put, safe_name, take
from posttrain.sandbox.program import Limits, Program
from posttrain.types import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "work").mkdir()
    (tmp_path / "secret").write_text("secret")
    descriptor = os.open(tmp_path / "work", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_what_is_put_is_taken_again_with_its_folders(folder: int):
    files = {"a": b"1", "b/c/d.txt": "2", "b/e": b"\x00\xff"}
    put(folder, files, None)
    taken, left_out = take(folder, "all", 100, 10)
    assert taken == {"a": b"1", "b/c/d.txt": b"2", "b/e": b"\x00\xff"}
    assert left_out == {}


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "a/../../secret", "", ".", "a\0b", "/".join("d" * (MAX_DEPTH + 1))])
def test_a_name_that_leads_elsewhere_is_refused(name: str, folder: int):
    with pytest.raises(UserError, match="needs a relative name"):
        put(folder, {name: b""}, None)
    with pytest.raises(UserError, match="needs a relative name"):
        Program(("true",), files={name: b""})
    assert take(folder, (name,), 100, 10)[0] == {}


def test_names_have_one_plain_form():
    assert [safe_name(name) for name in ("a", "./a", "a//b", "a/./b")] == ["a", "a", "a/b", "a/b"]


def test_links_pipes_and_what_lies_behind_a_link_are_left_out(folder: int, tmp_path: Path):
    work = tmp_path / "work"
    (work / "to_file").symlink_to(tmp_path / "secret")
    (work / "relative").symlink_to("../secret")
    (work / "to_folder").symlink_to(tmp_path)
    (work / "magic").symlink_to("/proc/self/root/etc/passwd")
    os.mkfifo(work / "pipe")
    (work / "plain").write_text("plain")
    taken, left_out = take(folder, "all", 100, 10)
    assert taken == {"plain": b"plain"}
    assert left_out == dict.fromkeys(("to_file", "relative", "to_folder", "magic"), "a link, or beyond one") | {"pipe": "no regular file"}
    assert take(folder, ("to_folder/secret", "missing"), 100, 10) == (
        {}, {"to_folder/secret": "a link, or beyond one", "missing": "No such file or directory"}
    )  # fmt: skip


def test_nothing_is_written_through_a_link(folder: int, tmp_path: Path):
    (tmp_path / "work" / "out").symlink_to(tmp_path)
    (tmp_path / "work" / "file").symlink_to(tmp_path / "secret")
    for name in ("out/secret", "file"):
        with pytest.raises(OSError):
            put(folder, {name: b"changed"}, None)
    assert (tmp_path / "secret").read_text() == "secret"


def test_no_more_is_read_back_than_was_agreed(folder: int):
    put(folder, {name: b"12345" for name in "abcd"}, None)
    taken, left_out = take(folder, "all", 12, 10)
    assert list(taken) == ["a", "b"]
    assert left_out == dict.fromkeys("cd", "5 bytes are more than is kept")
    taken, left_out = take(folder, "all", 100, 2)
    assert (list(taken), left_out) == (["a", "b"], {"…": "there are more than 2 files"})


def test_a_name_that_is_no_text_and_a_folder_too_deep_are_passed_over(folder: int, tmp_path: Path):
    (tmp_path / "work" / "odd\udcff").write_text("x")
    deep = tmp_path / "work" / Path(*"d" * (MAX_DEPTH + 2))
    deep.mkdir(parents=True)
    (deep / "x").write_text("x")
    assert take(folder, "all", 100, 10) == ({}, {})


@pytest.mark.parametrize("limit", ["wall_s", "cpu_s", "memory_bytes", "processes", "disk_bytes", "output_bytes", "flood_bytes", "kept_files"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_limit_that_limits_nothing_is_refused(limit: str, value: float):
    with pytest.raises(UserError, match=f"{limit} must be above 0 and finite"):
        Limits(**{limit: value})
