"""Files to texts: txt, md, html, pdf and jsonl (packed or not), each document with the hash of what was read.

A passage's place counts characters of `Document.text`. For txt and md that is the file itself (Markdown is left as written,
line ends too; only a byte order mark goes); for html and pdf it is the text taken out of it, and for jsonl the row's own.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from posttrain.retrieval.passages import optional
from posttrain.types import UserError

INVISIBLE = ("script", "style", "noscript", "template", "head")
BLOCKS = (
    "address article aside blockquote dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr li main nav "
    "ol p pre section summary table td th tr ul"
).split()
"""Elements that stand on lines of their own; all others run on within a line."""


@dataclass(frozen=True)
class Document:
    """A text to be searched."""

    source: str
    """Its name: the file's path within the folder, and `#ID` behind it for a row of a jsonl file."""
    text: str

    @property
    def sha256(self) -> str:
        """The hash of the text: equal texts need not be cut and embedded again, whatever their files' dates."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_folder(folder: str | Path, on_unreadable: Callable[[str], None] | None = None) -> Iterator[Document]:
    """Every document under a folder that can be read, file by file and by name, one at a time; other kinds and hidden files are left out.

    Where a folder is in BEIR's layout, the documents are its corpus's rows, and its queries are none.
    Links to files are read as files, links to folders are not followed. With `on_unreadable` a file that cannot be read is left out (a
    jsonl file from the row that is damaged), and told of why. Raises `UserError`, when it gets there, for what is no folder, for a folder
    without a document, for a package that is not installed, and without `on_unreadable` for a file that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: give the folder of the documents")
    empty = True
    for file in readable_files(folder):
        try:
            for document in read_file(file, _name(file, folder)):
                empty = False
                yield document
        except UserError as error:
            if on_unreadable is None or "pip install" in str(error):
                raise
            on_unreadable(str(error))
    if empty:
        raise UserError(f"'{folder}' has no documents: put files in it that end in {', '.join(READERS)}")


def _name(file: Path, folder: Path) -> str:
    """A file's path within the folder, as texts everywhere else can hold it."""
    name = file.relative_to(folder).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the file {name!r} has a name that is not UTF-8: rename it") from error
    return name


def readable_files(folder: Path) -> list[Path]:
    """The files under a folder that `read_file` knows, by name; of a folder in BEIR's layout its corpus alone."""
    files = sorted(file for file in folder.rglob("*") if _kind(file) in READERS and file.is_file() and not _hidden(file, folder))
    corpora = beir_corpora(files)
    return [file for file in files if file in corpora or not any(file.is_relative_to(corpus.parent) for corpus in corpora)]


def beir_corpora(files: Iterable[Path]) -> set[Path]:
    """Those of some files that are the corpus of a folder in BEIR's layout (2104.08663): its queries and judgements are no documents.

    Known by `corpus.jsonl` with `queries.jsonl` or `qrels/` beside it, packed or not; of a corpus in both forms the plain one.
    """
    found: dict[Path, Path] = {}
    for file in sorted(files):
        beside = [file.with_name(name) for name in ("queries.jsonl", "queries.jsonl.gz")]
        if file.name in ("corpus.jsonl", "corpus.jsonl.gz") and (file.with_name("qrels").is_dir() or any(map(Path.is_file, beside))):
            found.setdefault(file.parent, file)
    return set(found.values())


def _kind(file: Path) -> str:
    """The ending that says how a file is read; that of a packed file is two."""
    return "".join(file.suffixes[-2:] if file.suffix.lower() == ".gz" else file.suffixes[-1:]).lower()


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def read_file(path: str | Path, source: str = "") -> Iterator[Document]:
    """The documents in a file: one, or one for each row of a jsonl file, read line by line. `source` is its name; the file's if empty.

    A jsonl row is an object with `text`, and if it likes `title`, which is put above the text, and `_id` or `id`, the row's number if
    not. Raises `UserError` for a file of another kind, one that cannot be read, is no UTF-8 or is damaged, and a pdf without text.
    """
    path = Path(path)
    reader = READERS.get(_kind(path))
    if reader is None:
        raise UserError(f"'{path}' is of no known kind: give a file that ends in {', '.join(READERS)}")
    try:
        with path.open("rb") as file:
            yield from reader(path, source or path.name, file)
    except (OSError, EOFError, zlib.error) as error:  # the last two of a packed file that is cut off or damaged
        raise UserError(f"cannot read '{path}': {getattr(error, 'strerror', None) or error}") from error


def _decoded(place: str | Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"'{place}' is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def _plain(path: Path, source: str, file: BinaryIO) -> Iterator[Document]:
    yield Document(source, _decoded(path, file.read()))


def _html(path: Path, source: str, file: BinaryIO) -> Iterator[Document]:
    """What a reader sees, by Beautiful Soup on the standard library's parser; the page's own charset decides how bytes are read."""
    soup = optional("bs4", "reading html").BeautifulSoup(file.read(), "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    for element in soup.find_all(INVISIBLE):
        element.decompose()
    for string in soup.find_all(string=True):
        if string.find_parent("pre") is None:
            string.replace_with(re.sub(r"\s+", " ", string) if type(string).__name__ == "NavigableString" else "")
    for element in soup.find_all(["br", *BLOCKS]):
        element.insert_before("\n")
        element.insert_after("\n" if element.name != "br" else "")
    yield Document(source, _tidied(f"{title}\n\n{soup.get_text()}"))


def _tidied(text: str) -> str:
    """Without blanks at the ends of lines, and with at most one empty line in a row."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[^\S\n]+\n|\n (?=\S)", "\n", text)).strip()


def _pdf(path: Path, source: str, file: BinaryIO) -> Iterator[Document]:
    """The text of the pages by pypdf, an empty line between two; no picture is read."""
    pypdf = optional("pypdf", "reading pdf")
    try:
        reader = pypdf.PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UserError(f"'{path}' is locked with a password: save it without one")
        text = "\n\n".join(page.extract_text().strip() for page in reader.pages).strip()
    except UserError:
        raise
    except Exception as error:  # pypdf raises its own errors, and KeyError, TypeError and others on damaged files
        raise UserError(f"'{path}' is no pdf that can be read ({error}): mend it or take it out") from error
    if not text:
        raise UserError(f"'{path}' has no text (only pictures?): give it a text layer by OCR, or take it out")
    # a broken font table gives halves of characters, which no file can hold
    yield Document(source, text.encode("utf-8", "replace").decode())


def _jsonl(path: Path, source: str, file: BinaryIO) -> Iterator[Document]:
    for number, raw in enumerate(file, 1):
        place = f"{path} line {number}"
        if line := _decoded(place, raw).strip():
            yield _row(place, source, number, line)


def _packed(path: Path, source: str, file: BinaryIO) -> Iterator[Document]:
    with gzip.open(file) as unpacked:
        yield from _jsonl(path, source, unpacked)


def _row(place: str, source: str, number: int, line: str) -> Document:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise UserError(f"{place} is no document: it must be a JSON object with a text under 'text'")
    name, title = row.get("_id", row.get("id", number)), row.get("title") or ""
    if isinstance(name, bool) or not isinstance(name, str | int) or not isinstance(title, str):
        raise UserError(f"{place} is no document: its id must be a text or a number, its title a text")
    text = f"{title}\n\n{row['text']}" if title.strip() else row["text"]
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place} holds half a character (a lone surrogate): mend or remove the row") from error
    return Document(f"{source}#{name}", text)


READERS: dict[str, Callable[[Path, str, BinaryIO], Iterator[Document]]] = {
    ".txt": _plain,
    ".md": _plain,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".jsonl": _jsonl,
    ".jsonl.gz": _packed,
}
"""What a file's ending says about how it is read."""
