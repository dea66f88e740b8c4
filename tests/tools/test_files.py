"""A workspace that holds what it is given and lets nothing out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from posttrain.tools.calling import Calling
from posttrain.tools.files import MAX_BYTES, Files
from posttrain.types import Message, Problem, ToolCall, UserError


def told(calls: Sequence[tuple[str, dict[str, Any]]], box: Files | None = None) -> list[str]:
    async def run() -> list[str]:
        async with Calling((box or Files(),)).open(Problem("p", (), "")) as env:
            message = Message("assistant", "", tuple(ToolCall(name, arguments) for name, arguments in calls))
            return [m.content for m in (await env.reply(message)).messages]

    return asyncio.run(run())


def test_files_are_written_listed_read_and_changed() -> None:
    assert told([
        ("list_files", {}), ("write_file", {"name": "a/b/c.txt", "text": "one\ntwo\nthrée\n"}), ("list_files", {}), ("read_file", {"name": "a/b/c.txt"}),
        ("read_file", {"name": "a/b/c.txt", "first_line": 2, "lines": 1}), ("replace_in_file", {"name": "a/b/c.txt", "old": "two", "new": "2"}),
        ("read_file", {"name": "./a/b/../b/c.txt"}), ("read_file", {"name": "a/b/c.txt", "first_line": 2}), ("write_file", {"name": "a/b/c.txt", "text": "x"}),
        ("read_file", {"name": "a/b/c.txt"}),
    ]) == [
        "there are no files", "wrote 15 bytes", "a/b/c.txt  15", "one\ntwo\nthrée\n", "two\n\n(1 more lines)", "replaced",
        "error: a file of the workspace needs a relative name without '..', at most 16 deep, not './a/b/../b/c.txt'", "2\nthrée\n", "wrote 1 bytes", "x",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "a/../../secret", "link", "linked/secret", "", ".", "a\0b", "missing", "folder"])
@pytest.mark.parametrize("act", ["read_file", "write_file"])
def test_no_path_leads_out(tmp_path: Path, name: str, act: str) -> None:
    work, secret = tmp_path / "work", tmp_path / "secret"
    work.mkdir()
    secret.write_text("secret")
    (work / "folder").mkdir()
    (work / "link").symlink_to(secret)
    (work / "linked").symlink_to(tmp_path)
    (answer,) = told([(act, {"name": name} | ({"text": "stolen"} if act == "write_file" else {}))], Files(str(work)))
    assert answer.startswith("error: ") or (act, name) == ("write_file", "missing")
    assert secret.read_text() == "secret" and "secret" not in answer.replace(name, "")
    assert {p.name for p in tmp_path.iterdir()} == {"work", "secret"}


def test_what_is_no_text_or_too_much_is_told(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\x00")
    (tmp_path / "long").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "a").write_text("aa")
    answers = told([
        ("read_file", {"name": "b"}), ("read_file", {"name": "long"}), ("write_file", {"name": "c", "text": "x" * (MAX_BYTES + 1)}),
        ("replace_in_file", {"name": "a", "old": "a", "new": "b"}), ("replace_in_file", {"name": "a", "old": "", "new": "b"}), ("read_file", {"name": "a", "first_line": 9}),
    ], Files(str(tmp_path)))  # fmt: skip
    parts = ["2 bytes that are no text", "1048577 bytes", "1048577 bytes are more", "stands 2 times", "any number of times", "has 1 lines"]
    assert all(part in answer for part, answer in zip(parts, answers, strict=True))


def test_each_attempt_has_a_copy_or_a_folder_of_its_own_or_all_have_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("first")
    write = [("write_file", {"name": "a", "text": "second"})]
    read = [("read_file", {"name": "a"})]
    told(write, Files(str(tmp_path), copy=True))
    assert told(read, Files(str(tmp_path))) == ["first"]
    told(write, Files(str(tmp_path)))
    assert told(read, Files(str(tmp_path))) == ["second"] and (tmp_path / "a").read_text() == "second"
    told(write)
    assert told(read)[0].startswith("error: ")


def test_a_folder_that_is_not_there_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="make it first"):
        told([], Files("/no/such/folder"))
