"""Pages of a local site are read, followed and filled in; nothing leads to a host that is not on the list."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from posttrain.tools import web as module
from posttrain.tools.calling import Calling
from posttrain.types import Message, Problem, ToolCall, UserError

pytest.importorskip("httpx")
soup = pytest.importorskip("bs4").BeautifulSoup
Web = module.Web

HOME = """<html><head><title>Home</title><style>p{}</style><script>x()</script></head><body>
<h1>Welcome</h1><p>See <a href="/bees">the <b>bees</b></a> or <a href="mailto:x@y">write</a> or <a href="http://elsewhere.test/x#y">leave</a>.</p>
<form action="/search"><input name="q"><input type="hidden" name="lang" value="en"><select name="kind"><option>all<option value="b" selected>books</select>
<input type="submit" name="go"></form><form method="post" action="/login"><textarea name="note">hi</textarea><input type=checkbox name=no></form></body></html>"""


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = urlsplit(self.path)
        port = self.server.server_address[1]
        pages = {
            "/": HOME, "/bees": "<p>Bees make honey.</p><a href='/'>home</a>", "/long": "<p>" + "word " * 3000 + "end</p>",
            "/search": f"<p>found {parse_qs(path.query)}</p>", "/cookie": f"<p>cookie: {self.headers.get('Cookie')}</p>",
        }  # fmt: skip
        redirects = {"/away": "http://elsewhere.test/", "/private": f"http://127.0.0.2:{port}/", "/near": "/bees", "/round": "/round", "/file": "file:///etc/passwd"}
        if path.path in redirects:
            self.send_response(302)
            self.send_header("Location", redirects[path.path])
            self.end_headers()
        elif path.path == "/slow":
            time.sleep(1.0)
        elif path.path == "/pdf":
            self._send(b"%PDF\xff", "application/pdf")
        elif path.path == "/json":
            self._send(b'{"a": 1}', "application/json")
        elif path.path in pages:
            self._send(pages[path.path].encode(), "text/html; charset=utf-8", path.path == "/")
        else:
            self._send(b"<p>nothing here</p>", "text/html", status=404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._send(f"<p>posted {parse_qs(body)}</p>".encode(), "text/html")

    def _send(self, body: bytes, kind: str, cookie: bool = False, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if cookie:
            self.send_header("Set-Cookie", "seen=yes")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def told(site: str, *calls: tuple[str, dict[str, Any]], hosts: Sequence[str] = (), timeout_s: float = 5) -> list[str]:
    async def run() -> list[str]:
        async with Calling((Web(tuple(hosts) or (site,), timeout_s),)).open(Problem("p", (), "")) as env:
            message = Message("assistant", "", tuple(ToolCall(name, arguments) for name, arguments in calls))
            return [m.content for m in (await env.reply(message)).messages]

    return asyncio.run(run())


def page(site: str, path: str = "/") -> tuple[str, dict[str, Any]]:
    return "open_page", {"url": f"http://{site}{path}"}


def test_a_page_is_text_with_numbered_links_and_forms(site: str) -> None:
    (home,) = told(site, page(site))
    assert home == (
        f"http://{site}/\n\nHome\nWelcome\nSee the bees [1] or write or leave [2].\n"
        "form 1: GET, fields: q (text), kind (all | b)\nform 2: POST, fields: note (textarea)"
    )


def test_links_are_followed_forms_submitted_and_cookies_kept(site: str) -> None:
    _, bees, back, found, _, posted, cookie = told(
        site, page(site), ("follow_link", {"number": 1}), ("follow_link", {"number": 1}), ("submit_form", {"number": 1, "fields": {"q": "honey & bees"}}),
        page(site), ("submit_form", {"number": 2, "fields": {}}), page(site, "/cookie"),
    )  # fmt: skip
    assert "Bees make honey." in bees and "Welcome" in back
    assert "found {'q': ['honey & bees'], 'lang': ['en'], 'kind': ['b']}" in found
    assert "posted {'note': ['hi']}" in posted and "cookie: seen=yes" in cookie


def test_what_does_not_exist_is_told(site: str) -> None:
    answers = told(
        site, ("read_on", {}), page(site), ("follow_link", {"number": 3}), ("submit_form", {"number": 3, "fields": {}}),
        ("submit_form", {"number": 1, "fields": {"x": "y"}}), page(site, "/nowhere"), page(site, "/pdf"), page(site, "/json"),
    )  # fmt: skip
    parts = ["no page is open", "Home", "there is no [3]", "there is no form 3", "no field 'x': it has q, lang, kind", "(answered with 404", "application/pdf (5 bytes)", '{"a": 1}']
    assert all(part in answer for part, answer in zip(parts, answers, strict=True))


def test_a_long_page_is_read_in_parts(site: str) -> None:
    first, second, third, fourth = told(site, page(site, "/long"), *[("read_on", {})] * 3)
    assert "more characters: read_on" in first and second.startswith(("word", "ord", "rd", "d")) and third.endswith("end") and fourth == "the page ends here"


@pytest.mark.parametrize("path", ["/away", "/private", "/file"])
def test_no_redirect_leads_to_where_it_may_not(site: str, path: str) -> None:
    (answer,) = told(site, page(site, path))
    assert answer.startswith("error: ") and ("may not be visited" in answer or "only http and https" in answer or "cannot be opened" in answer)


def test_redirects_on_the_list_are_followed_as_long_as_they_end(site: str) -> None:
    near, round_ = told(site, page(site, "/near"), page(site, "/round"))
    assert near.startswith(f"http://{site}/bees\n") and "more than 5 redirects" in round_


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "http://127.0.0.1:1/", "http://{site}@example.org/", "http://evil.{host}/", "ftp://{site}/", "file:///etc/passwd", "http://[::1]/", "http://", "http://a b/", "http://2130706433/"],
)
def test_hosts_off_the_list_are_refused(site: str, url: str) -> None:
    (answer,) = told(site, ("open_page", {"url": url.format(site=site, host=site.partition(":")[0])}))
    assert answer.startswith("error: ") and "Welcome" not in answer


def test_what_is_no_page_of_the_web_is_named_as_it_was_asked_for(site: str) -> None:
    assert told(site, ("open_page", {"url": "file:///etc/passwd"})) == ["error: file:///etc/passwd cannot be opened: only http and https"]


def test_a_name_on_the_list_that_stands_for_a_private_address_is_refused(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = site.partition(":")[2]

    async def resolve(self: Any, host: str, at: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", ("127.0.0.1", at))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    (answer,) = told(site, ("open_page", {"url": f"http://inside.test:{port}/"}), hosts=[f"inside.test:{port}"])
    assert "127.0.0.1, which is no public address" in answer


def test_a_site_that_hangs_or_is_not_there_is_told_of(site: str) -> None:
    (slow,) = told(site, page(site, "/slow"), timeout_s=0.2)
    assert "had not answered after 0.2 s" in slow
    (gone,) = told("127.0.0.1:9", page("127.0.0.1:9"))
    assert "cannot be opened" in gone


def test_which_hosts_a_list_allows() -> None:
    web = Web(("docs.python.org", "*.example.org", "localhost:8000", "[::1]:9000"))
    allowed = [("docs.python.org", None), ("docs.python.org", 443), ("a.b.example.org", None), ("localhost", 8000), ("::1", 9000)]
    for host, port in allowed:
        web.check(host, port)
    for host, port in [("python.org", None), ("docs.python.org", 8000), ("example.org", None), ("localhost", None), ("badexample.org", None), ("docs.python.org.evil.test", None)]:
        with pytest.raises(module.ToolError):
            web.check(host, port)
    with pytest.raises(UserError, match="list of hosts"):
        Web(())


def test_links_are_those_of_the_pages_base() -> None:
    read = module.read_html(soup, "<base href='/deep/'><a href='x'>x</a><form></form>", "http://a.test/y")
    assert read.links == ["http://a.test/deep/x"] and read.forms[0].url == "http://a.test/deep/"
