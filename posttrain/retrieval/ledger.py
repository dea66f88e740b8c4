"""Which documents an index holds, by the hash of their content: on disk, so that a build's memory does not grow with the corpus."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

from posttrain.retrieval.documents import Document
from posttrain.types import UserError

Change = Literal["added", "changed", "unchanged"]

SCHEMA = "CREATE TABLE IF NOT EXISTS documents (source TEXT PRIMARY KEY, sha256 TEXT NOT NULL, build INTEGER NOT NULL) WITHOUT ROWID"


class Ledger:
    """One build's account of its documents, begun from that of the build before it; a SQLite file that nothing changes afterwards."""

    def __init__(self, path: Path, build: int, before: Path | None = None) -> None:
        """Begins the account of a build in a file of its own. Raises `UserError` for an account before it that is none."""
        path.unlink(missing_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._build = build
        try:
            if before is not None:
                self._database.close()
                shutil.copyfile(before, path)
                self._database = sqlite3.connect(path, isolation_level=None)
            # The manifest makes a build valid, and is written after `close`: what is cut off before is thrown away.
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.execute("PRAGMA journal_mode = OFF")
            self._database.execute(SCHEMA)
            self._database.execute("BEGIN")
        except (sqlite3.DatabaseError, OSError) as error:
            raise UserError(f"the list of documents '{before}' cannot be read ({error}): delete the index and build it again") from error

    def enter(self, document: Document) -> Change:
        """Notes that the documents have this one, and says what is new about it. Raises `UserError` if this build met its name before."""
        row = self._database.execute("SELECT sha256, build FROM documents WHERE source = ?", (document.source,)).fetchone()
        if row is not None and row[1] == self._build:
            raise UserError(f"two documents are called '{document.source}': give every row an id of its own")
        sha256 = document.sha256
        self._database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (document.source, sha256, self._build))
        return "added" if row is None else "unchanged" if row[0] == sha256 else "changed"

    def take_gone(self, at_once: int) -> Iterator[list[str]]:
        """The names that this build has not met, some at a time; each is forgotten as it is given."""
        while names := [
            row[0] for row in self._database.execute("SELECT source FROM documents WHERE build <> ? LIMIT ?", (self._build, at_once))
        ]:
            self._database.executemany("DELETE FROM documents WHERE source = ?", [(name,) for name in names])
            yield names

    def close(self) -> tuple[int, str]:
        """How many documents there are, and the hash of all their names and contents, whatever order they were met in."""
        digest = hashlib.sha256()
        n = 0
        for source, sha256 in self._database.execute("SELECT source, sha256 FROM documents ORDER BY source"):
            digest.update(f"{source}\x1f{sha256}\n".encode())
            n += 1
        self._database.execute("COMMIT")
        self._database.close()
        return n, digest.hexdigest()


def documents_in(path: Path) -> dict[str, str]:
    """Each document's sha256 by its name."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT source, sha256 FROM documents ORDER BY source"))
