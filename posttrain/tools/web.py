"""The web, as far as a list of hosts goes: pages as text with numbered links and forms, to follow and to submit.

Every request is checked, those that a redirect or a form asks for too: the host must be on the list, and the address that its name
stands for must be a public one, unless the list names that very address or `localhost`. The connection is made to the address that
was checked, so that a name cannot mean one thing when it is looked up and another when it is used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import urldefrag, urljoin

from posttrain.tools.tool import Tool, tool
from posttrain.types import ToolError, UserError

MAX_BYTES = 2 << 20
"""Of one page: what is longer is cut."""
MAX_REDIRECTS = 5
PART_CHARS = 6000
"""Of a page's text that are shown at once."""
_UNSPOKEN = "{} cannot be opened: only http and https"
_BLOCKS = ("p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "header", "footer", "pre", "table", "ul", "ol", "form", "option", "td", "th")
_UNSEEN = ("script", "style", "noscript", "template", "svg", "head")


@dataclass(frozen=True)
class Web:
    """The tools `open_page`, `follow_link`, `submit_form` and `read_on`: a browser of its own for each attempt, with its cookies."""

    hosts: tuple[str, ...]
    """Which may be visited: `docs.python.org`, `*.example.org` (all beneath it), `localhost:8000` (with a port other than the usual)."""
    timeout_s: float = 20.0
    """Of one request."""

    def __post_init__(self) -> None:
        if not self.hosts:
            raise UserError("the tool web needs a list of hosts that it may visit: web:hosts=docs.python.org+example.org")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Tool]]:
        httpx, soup = _needed("httpx"), _needed("bs4")
        transport = _checked_transport(httpx, self)
        async with httpx.AsyncClient(transport=transport, timeout=self.timeout_s, trust_env=False, follow_redirects=False) as client:
            browser = _Browser(self, client, soup.BeautifulSoup)
            yield tuple(map(tool, (browser.open_page, browser.follow_link, browser.submit_form, browser.read_on)))

    def check(self, host: str, port: int | None) -> None:
        """Raises ToolError for a host that is not on the list."""
        for entry in self.hosts:
            name, _, at = entry.rpartition(":") if entry.rpartition(":")[2].isdigit() and not entry.endswith("]") else (entry, "", "")
            name = name.strip("[]").lower()
            fits = host == name or name.startswith("*.") and host.endswith(name[1:])
            if fits and (port in (None, 80, 443) if not at else port == int(at)):
                return
        raise ToolError(f"{host}{f':{port}' if port else ''} may not be visited: allowed is {', '.join(self.hosts)}")

    def names(self, host: str) -> bool:
        """Whether the list names this very host, without a wildcard."""
        return host in {entry.rpartition(":")[0] if entry.rpartition(":")[2].isdigit() else entry for entry in self.hosts}


@dataclass(frozen=True)
class Form:
    """A form of a page, and what its fields hold."""

    url: str
    method: str
    fields: Mapping[str, str]
    shown: str


@dataclass(frozen=True)
class Page:
    """A page as the model reads it."""

    url: str
    text: str
    links: Sequence[str] = ()
    forms: Sequence[Form] = ()


@dataclass
class _Browser:
    web: Web
    client: Any
    soup: Any
    page: Page | None = None
    shown: int = field(default=0)

    async def open_page(self, url: str) -> str:
        """Open a web page and read it as text. Links stand behind their words as [1], [2], …; forms are listed at the end."""
        return await self._go("GET", url if "://" in url else f"https://{url}")

    async def follow_link(self, number: int) -> str:
        """Follow a numbered link of the page that is open."""
        page = self._open()
        if not 1 <= number <= len(page.links):
            raise ToolError(f"the page has {len(page.links)} links: there is no [{number}]")
        return await self._go("GET", page.links[int(number) - 1])

    async def submit_form(self, number: int, fields: dict[str, str]) -> str:
        """Fill in and submit a numbered form of the page that is open; fields that are not given keep what they hold."""
        page = self._open()
        if not 1 <= number <= len(page.forms):
            raise ToolError(f"the page has {len(page.forms)} forms: there is no form {number}")
        form = page.forms[int(number) - 1]
        if stray := [name for name in fields if name not in form.fields]:
            raise ToolError(f"form {number} has no field '{stray[0]}': it has {', '.join(form.fields) or 'none'}")
        filled = {**form.fields, **fields}
        return await self._go(form.method, form.url, **({"data": filled} if form.method == "POST" else {"params": filled}))

    async def read_on(self) -> str:
        """Read the next part of a page that is too long to be shown at once."""
        self._open()
        return self._part(self.shown)

    def _open(self) -> Page:
        if self.page is None:
            raise ToolError("no page is open: open one first")
        return self.page

    async def _go(self, method: str, url: str, **more: Any) -> str:
        import httpx

        try:
            async with asyncio.timeout(self.web.timeout_s):
                self.page = await self._fetched(method, url, more)
        except TimeoutError:
            raise ToolError(f"{url} had not answered after {self.web.timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise ToolError(f"{url} cannot be opened: {error or type(error).__name__}") from None
        return self._part(0)

    async def _fetched(self, method: str, url: str, more: Mapping[str, Any]) -> Page:
        for _ in range(MAX_REDIRECTS + 1):
            if not url.lower().startswith(("http://", "https://")):
                raise ToolError(_UNSPOKEN.format(url))
            async with self.client.stream(method, url, **more) as response:
                if not response.has_redirect_location:
                    return self._page(response, await _body(response))
                if response.status_code in (301, 302, 303):
                    method, more = "GET", {}
                url = urljoin(str(response.url), response.headers["location"])
        raise ToolError(f"{url}: more than {MAX_REDIRECTS} redirects")

    def _page(self, response: Any, body: bytes) -> Page:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        url = str(response.url)
        if not (kind.startswith("text/") or "json" in kind or "xml" in kind or not kind):
            raise ToolError(f"{url} is {kind} ({len(body)} bytes), and only text can be read")
        text = body.decode(response.charset_encoding or "utf-8", "replace")
        page = read_html(self.soup, text, url) if "html" in kind else Page(url, text)
        failed = "" if response.is_success else f"(answered with {response.status_code} {response.reason_phrase})\n"
        return Page(page.url, failed + page.text, page.links, page.forms)

    def _part(self, start: int) -> str:
        page = self._open()
        text = page.text[start : start + PART_CHARS]
        if not text:
            return "the page ends here"
        self.shown = start + len(text)
        rest = len(page.text) - self.shown
        head = f"{page.url}\n\n" if start == 0 else ""
        return head + text + (f"\n\n({rest} more characters: read_on)" if rest else "")


async def _body(response: Any) -> bytes:
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_BYTES:
            return body[:MAX_BYTES]
    return body


def read_html(soup: Any, html: str, url: str) -> Page:
    """A page's text, the places that its links lead to, and its forms."""
    tree = soup(html, "html.parser")
    base = tree.find("base", href=True)
    at = urljoin(url, base["href"]) if base else url
    title = tree.title.get_text(" ", strip=True) if tree.title else ""
    for unseen in tree.find_all(_UNSEEN):
        unseen.decompose()
    links: list[str] = []
    for anchor in tree.find_all("a", href=True):
        target = urldefrag(urljoin(at, anchor["href"]))[0]
        if target.startswith(("http://", "https://")):
            links.append(target)
            anchor.append(f" [{len(links)}]")
    forms = [_form(form, at) for form in tree.find_all("form")]
    for block in tree.find_all(_BLOCKS):
        block.insert_before("\n")
        block.append("\n")
    lines = (" ".join(line.split()) for line in tree.get_text().splitlines())
    listed = [f"form {i}: {form.shown}" for i, form in enumerate(forms, 1)]
    return Page(url, "\n".join(filter(None, (title, *lines, *listed))), links, forms)


def _form(form: Any, at: str) -> Form:
    fields, shown = {}, []
    for control in form.find_all(("input", "textarea", "select")):
        name, kind = control.get("name"), control.get("type", "text" if control.name == "input" else control.name).lower()
        options = {_value(option): option.has_attr("selected") for option in control.find_all("option")}
        unset = kind in ("checkbox", "radio") and not control.has_attr("checked")
        if name and not unset and kind not in ("submit", "button", "image", "reset", "file"):
            held = control.get_text() if control.name == "textarea" else control.get("value", "on" if kind == "checkbox" else "")
            fields[name] = next((value for value, chosen in options.items() if chosen), next(iter(options))) if options else held
            if kind != "hidden":
                shown.append(f"{name} ({' | '.join(options) if options else kind})")
        control.clear()  # what stands in it is no text of the page
    method = "POST" if form.get("method", "get").lower() == "post" else "GET"
    return Form(urljoin(at, form.get("action") or at), method, fields, f"{method}, fields: {', '.join(shown) or 'none'}")


def _value(option: Any) -> str:
    """What an option stands for: its own text, where it says nothing else; one that was never closed holds those behind it too."""
    return option.get("value", next(option.stripped_strings, ""))


def _checked_transport(httpx: ModuleType, web: Web) -> Any:
    """A transport that connects to nothing but the checked addresses of hosts on the list."""

    class Checked(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: Any) -> Any:
            host, port = request.url.host.lower(), request.url.port
            if request.url.scheme not in ("http", "https"):
                raise ToolError(_UNSPOKEN.format(request.url))
            web.check(host, port)
            address = await _address(web, host, port or (443 if request.url.scheme == "https" else 80))
            request.extensions = {**request.extensions, "sni_hostname": host}
            visible = request.url
            request.url = request.url.copy_with(host=address)
            try:
                return await super().handle_async_request(request)
            finally:
                request.url = visible

    return Checked()


async def _address(web: Web, host: str, port: int) -> str:
    """An address of the host that may be connected to. Raises ToolError where it has none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ToolError(f"the host {host} cannot be found ({error.strerror or error})") from None
    addresses = [each[4][0] for each in found]
    literal = host == "localhost" or host == addresses[0]
    if literal and web.names(host):
        return addresses[0]
    public = [address for address in addresses if ipaddress.ip_address(address.partition("%")[0]).is_global]
    if len(public) < len(addresses):
        raise ToolError(f"the host {host} stands for {', '.join(a for a in addresses if a not in public)}, which is no public address")
    return public[0]


def _needed(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError:
        raise UserError("the tool web needs other packages: pip install 'posttrain[web]'") from None
