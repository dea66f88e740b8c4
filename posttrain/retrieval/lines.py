"""Passages in a plain file, a JSON line each: the store of an index that needs no engine. Searched in memory, by TF-IDF or bm25s."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from posttrain.retrieval.passages import Passage
from posttrain.types import UserError


class Lines:
    """A folder with a file for each version, `1.jsonl`, `2.jsonl` and so on; the first change to a version begins the next.

    The part of `Store` that an index needs; it has no filters, no vectors and no search of its own. The last two versions are kept.
    """

    dimension = 0

    def __init__(self, folder: Path, version: int, n: int) -> None:
        """Use `create` or `open`."""
        self._folder = folder
        self._n = n
        self.version = version
        self._settled = version
        """The newest version that may no longer be changed."""

    @classmethod
    def create(cls, folder: str | Path) -> Lines:
        """An empty store in a folder."""
        Path(folder).mkdir(parents=True)
        (Path(folder) / "1.jsonl").touch()
        return cls(Path(folder), 1, 0)

    @classmethod
    def open(cls, folder: str | Path, version: int | None = None) -> Lines:
        """The store in a folder: its newest state, or a version. Raises `UserError` if it is not there."""
        folder = Path(folder)
        versions = _versions(folder)
        if not versions or version not in (None, *versions):
            raise UserError(f"there is no {'store' if version is None else f'version {version}'} in '{folder}': build it first")
        version = version or versions[-1]
        with _path(folder, version).open("rb") as file:
            return cls(folder, version, sum(1 for _ in file))

    def __len__(self) -> int:
        return self._n

    def add(self, passages: Sequence[Passage], vectors: None = None, are_new: bool = False) -> None:
        """Adds passages. That their ids are new is the caller's to know."""
        if vectors is not None:
            raise ValueError("a store in plain lines takes no vectors")
        self._begin()
        with _path(self._folder, self.version).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(passage), ensure_ascii=False) + "\n" for passage in passages)
        self._n += len(passages)

    def delete_sources(self, sources: Iterable[str]) -> int:
        """Deletes the passages of documents, and says how many there were."""
        self._begin()
        gone, before, path = set(sources), self._n, _path(self._folder, self.version)
        draft = path.with_suffix(".draft")
        self._n = 0
        with draft.open("w", encoding="utf-8") as file:
            for line in self._lines():
                if json.loads(line)["source"] not in gone:
                    file.write(line)
                    self._n += 1
        draft.replace(path)
        return before - self._n

    def _begin(self) -> None:
        """A version of its own for what changes now."""
        if self.version > self._settled:
            return
        old, self.version = self.version, self.version + 1
        with _path(self._folder, self.version).open("wb") as new, _path(self._folder, old).open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                new.write(block)

    def tidy(self) -> None:
        """Has this version on disk for good, and forgets those before the last."""
        with _path(self._folder, self.version).open("rb") as file:
            os.fsync(file.fileno())
        self._settled = self.version
        for version in _versions(self._folder)[:-2]:
            _path(self._folder, version).unlink()

    def restore(self, version: int) -> None:
        """Makes the state of a version the newest one."""
        for later in _versions(self._folder):
            if later > version:
                _path(self._folder, later).unlink()
        self.__init__(self._folder, version, len(Lines.open(self._folder, version)))

    def passages(self, where: str = "") -> list[Passage]:
        """All passages, by source and place, with score 0. Raises `UserError` for a filter, a damaged line, and a version that is forgotten."""
        if where:
            raise UserError("an index in plain lines knows no filters: build one with LanceDB")
        try:
            found = [Passage(**json.loads(line)) for line in self._lines()]
        except (ValueError, TypeError) as error:
            raise UserError(f"the store in '{self._folder}' holds a damaged line: build it again") from error
        except FileNotFoundError as error:
            raise UserError(f"version {self.version} of the store in '{self._folder}' is gone, two builds later: open the index again") from error
        return sorted(found, key=lambda passage: (passage.source, passage.start))

    def _lines(self) -> Iterator[str]:
        with _path(self._folder, self.version).open(encoding="utf-8", newline="\n") as file:
            yield from file


def _path(folder: Path, version: int) -> Path:
    return folder / f"{version}.jsonl"


def _versions(folder: Path) -> list[int]:
    """Oldest first."""
    return sorted(int(path.stem) for path in folder.glob("*.jsonl") if path.stem.isdigit())
