"""Files to texts, and what is wrong with those that cannot be read."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from posttrain.retrieval.documents import Document, read_file, read_folder
from posttrain.types import UserError


def text_of(path) -> str:
    (document,) = read_file(path)
    return document.text


def written(path, content: str | bytes):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_plain_files_are_left_as_written(tmp_path, name):
    content = "# A  title\r\n\r\n* élan \t\n\n\n"
    assert text_of(written(tmp_path / name, content)) == content
    assert text_of(written(tmp_path / name, "\ufeff" + content)) == content


def test_the_hash_is_of_the_text():
    assert Document("a", "é").sha256 == hashlib.sha256("é".encode()).hexdigest() == Document("b", "é").sha256


def test_html_gives_what_a_reader_sees(tmp_path):
    pytest.importorskip("bs4")
    page = """<!doctype html><html><head><title>A
      page</title><style>p {}</style><script>var x;</script></head><body><!-- hidden --><h1>Head</h1>
      <p>One <b>bo</b>ld
      word &amp; more.<br>New line</p><ul><li>first</li><li>second</li></ul><script>alert()</script>
      <pre>if x:
    return</pre></body></html>"""
    lines = [line for line in text_of(written(tmp_path / "a.html", page)).splitlines() if line]
    assert lines == ["A page", "Head", "One bold word & more.", "New line", "first", "second", "if x:", "    return"]


def test_a_page_says_itself_how_its_bytes_are_read(tmp_path):
    pytest.importorskip("bs4")
    page = '<html><head><meta charset="iso-8859-1"></head><body>élan</body></html>'.encode("latin-1")
    assert text_of(written(tmp_path / "a.htm", page)) == "élan"


def test_html_that_is_broken_is_still_read(tmp_path):
    pytest.importorskip("bs4")
    assert text_of(written(tmp_path / "a.html", "<p>one<p>two<b></div>")).split() == ["one", "two"]


def pdf_bytes(*pages: str) -> bytes:
    """A pdf with one line of text on each page."""
    pypdf = pytest.importorskip("pypdf")
    from io import BytesIO

    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = pypdf.PdfWriter()
    font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1")})
    font[NameObject("/BaseFont")] = NameObject("/Helvetica")
    for line in pages:
        page = writer.add_blank_page(300, 300)
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({line}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    file = BytesIO()
    writer.write(file)
    return file.getvalue()


def test_pdf_pages_are_parted_by_an_empty_line(tmp_path):
    assert text_of(written(tmp_path / "a.pdf", pdf_bytes("Page one.", "Page two."))) == "Page one.\n\nPage two."


def test_a_pdf_without_text_or_damaged_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no text.*OCR"):
        list(read_file(written(tmp_path / "a.pdf", pdf_bytes(""))))
    with pytest.raises(UserError, match="is no pdf that can be read"):
        list(read_file(written(tmp_path / "b.pdf", "hello")))


def test_a_locked_pdf_is_refused(tmp_path):
    pypdf = pytest.importorskip("pypdf")
    writer = pypdf.PdfWriter(clone_from=written(tmp_path / "a.pdf", pdf_bytes("Secret.")))
    writer.encrypt("password", algorithm="RC4-128")
    writer.write(tmp_path / "locked.pdf")
    with pytest.raises(UserError, match="locked with a password"):
        list(read_file(tmp_path / "locked.pdf"))


def test_every_row_of_a_jsonl_file_is_a_document(tmp_path):
    rows = [{"_id": "x", "title": "T", "text": "one"}, {"id": 7, "text": "two\u2028three", "title": ""}, {"text": "four"}]
    path = written(tmp_path / "a.jsonl", "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert list(read_file(path)) == [Document("a.jsonl#x", "T\n\none"), Document("a.jsonl#7", "two\u2028three"), Document("a.jsonl#5", "four")]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{", "is not JSON"),
        ("[1]", "text under 'text'"),
        ('{"text": 1}', "text under 'text'"),
        ('{"text": "a", "id": [1]}', "id must be"),
        ('{"text": "\\ud800"}', "half a character"),
    ],
)
def test_a_row_that_is_no_document_is_named_by_its_line(tmp_path, row, why):
    with pytest.raises(UserError, match=f"line 2 .*{why}"):
        list(read_file(written(tmp_path / "a.jsonl", '{"text": "fine"}\n' + row)))


def test_a_file_of_another_encoding_or_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match="not UTF-8 .byte 1."):
        list(read_file(written(tmp_path / "a.txt", b"a\xe9")))
    with pytest.raises(UserError, match="no known kind"):
        list(read_file(written(tmp_path / "a.docx", b"")))
    with pytest.raises(UserError, match="cannot read"):
        list(read_file(tmp_path / "missing.txt"))


def test_a_folder_is_read_by_name_without_what_is_hidden_or_unknown(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("b.md", "sub/a.TXT", ".hidden.txt", ".git/c.txt", "d.bin"):
        written(tmp_path / name, name)
    assert list(read_folder(tmp_path)) == [Document("b.md", "b.md"), Document("sub/a.TXT", "sub/a.TXT")]


def test_a_folder_without_documents_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no documents"):
        list(read_folder(tmp_path))
    with pytest.raises(UserError, match="is no folder"):
        list(read_folder(tmp_path / "missing"))


def test_a_packed_jsonl_file_is_read_like_a_plain_one(tmp_path):
    rows = b'{"_id": "a", "text": "one"}\n{"_id": "b", "text": "two"}\n'
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(rows))
    assert list(read_folder(tmp_path)) == [Document("rows.jsonl.gz#a", "one"), Document("rows.jsonl.gz#b", "two")]
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(rows)[:-9])
    with pytest.raises(UserError, match="cannot read .*rows.jsonl.gz"):
        list(read_folder(tmp_path))
    (tmp_path / "rows.jsonl.gz").write_bytes(rows)
    with pytest.raises(UserError, match="cannot read .*rows.jsonl.gz"):
        list(read_folder(tmp_path))


def test_what_cannot_be_read_may_be_left_out_and_is_told_of(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "b.jsonl").write_text('{"_id": 1, "text": "kept"}\nno row\n{"_id": 3, "text": "after"}\n')
    (tmp_path / "c.md").write_text("read")
    told: list[str] = []
    assert list(read_folder(tmp_path, told.append)) == [Document("b.jsonl#1", "kept"), Document("c.md", "read")]
    assert [("a.txt" in why, "b.jsonl line 2" in why) for why in told] == [(True, False), (False, True)]
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "c.md").unlink()
    with pytest.raises(UserError, match="has no documents"):
        list(read_folder(tmp_path, told.append))


def test_a_link_to_a_file_is_read_and_one_to_a_folder_or_to_nothing_is_not(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("far away")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "file.txt").symlink_to(tmp_path / "elsewhere" / "a.txt")
    (shelf / "folder").symlink_to(tmp_path / "elsewhere")
    (shelf / "loop").symlink_to(shelf)
    (shelf / "broken.txt").symlink_to("nowhere")
    assert list(read_folder(shelf)) == [Document("file.txt", "far away")]
