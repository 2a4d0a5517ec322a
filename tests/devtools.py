"""The waiting page in a real browser, against a small server that answers ``me`` as told.

Chromium is driven through its DevTools protocol over a pipe: JSON closed by NUL on two file descriptors, so nothing
beyond the standard library is needed. The page's clock is the test's: timers run when it lets time pass, and time
stands still while an answer is under way. Whatever the console says, and every violation of the page's policy, is
gathered and must be nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from waitroom.model import VisitorState
from waitroom.web.pages import Pages, WaitingView

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TEMPLATES = Path(__file__).parents[1] / "templates"
SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --mute-audio "
    "--remote-debugging-pipe"
)
CLOCK = """(() => {
  let now = +window.name || Date.now(), last = 0, busy = 0, left = false;
  const timers = new Map(), tick = window.setTimeout.bind(window), fetch = window.fetch, json = Response.prototype.json;
  const watch = (promise) => { busy += 1; return promise.finally(() => { busy -= 1; }); };
  Date.now = () => now;
  window.setTimeout = (run, ms) => { timers.set(++last, [now + ms, run]); return last; };
  window.clearTimeout = (id) => timers.delete(id);
  window.fetch = (...call) => watch(fetch(...call));
  Response.prototype.json = function () { return watch(json.call(this)); };
  navigation.addEventListener("navigate", () => { left = true; });
  window.passTime = async (ms) => {
    const end = now + ms;
    while (!left) {
      do { await new Promise((done) => tick(done, 1)); } while (busy);
      const next = [...timers].filter(([, [due]]) => due <= end).sort((a, b) => a[1][0] - b[1][0])[0];
      now = next ? Math.max(now, next[1][0]) : end;
      window.name = now;
      if (!next) break;
      timers.delete(next[0]);
      next[1][1]();
    }
    return left ? "left" : "here";
  };
})();"""
"""Lays a clock of ours under the page. A window's name outlives its documents, so time goes on from one to the next."""

PAGES = Pages(TEMPLATES)

LINE = WaitingView(
    room="launch",
    state=VisitorState.WAITING,
    number=1204,
    ahead=312,
    wait_s=(240, 420),
    refresh_s=10,
    page_url="/event/?a=1&b=2",
    me_url="/.waitroom/launch/me",
    leave_url="/.waitroom/launch/leave",
)


SHOP = b"<!doctype html><title>The shop</title><link rel=icon href='data:,'>You are in."


class GoneError(Exception):
    """The document that was asked is no longer there."""


class Browser:
    """One headless Chromium with one page. ``complaints`` has what its console and its policy objected to."""

    def __init__(self):
        self.complaints = []
        self._answers = {}
        self._events = {}
        self._session = self._target = None
        self._count = 0

    async def start(self, profile):
        """Start Chromium and listen to it."""
        ours_in, ours_out = self._spawn(profile)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**26)
        protocol = asyncio.StreamReaderProtocol(reader)
        self._in, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(ours_in, "rb", 0))
        self._out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours_out, "wb", 0))
        self._listener = asyncio.create_task(self._listen(reader))

    def _spawn(self, profile):
        """Start the process; its descriptors 3 and 4 are the protocol's two directions, of which ours are returned."""
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # Above 9, so that laying them onto 3 and 4 covers neither.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs_in, theirs_out)]
        self.pid = os.posix_spawn(
            CHROMIUM,
            [CHROMIUM, *SWITCHES.split(), f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, high[0], 3),
                (os.POSIX_SPAWN_DUP2, high[1], 4),
            ],
        )
        for fd in (theirs_in, theirs_out, *high):
            os.close(fd)
        return ours_in, ours_out

    async def stop(self):
        """End Chromium and what listens to it."""
        self._session = None
        await self.send("Browser.close")
        await asyncio.wait_for(self._listener, 20)
        await asyncio.to_thread(os.waitpid, self.pid, 0)
        self._in.close()
        self._out.close()

    async def fresh(self):
        """Open another page. It shares no storage with those before it, as each test's server has its own port."""
        self._session = None
        if self._target:
            await self.send("Target.closeTarget", **self._target)
        self._target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send("Target.attachToTarget", **self._target, flatten=True)
        self._session = attached["sessionId"]
        self.complaints = []
        await self.send("Page.addScriptToEvaluateOnNewDocument", source=CLOCK)
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")

    async def send(self, method, **params):
        """Send one command and return its result."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        answer = self._answers[self._count] = asyncio.get_running_loop().create_future()
        self._out.write(json.dumps(command).encode() + b"\0")
        return await asyncio.wait_for(answer, 20)

    async def _listen(self, reader):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                message = json.loads((await reader.readuntil(b"\0"))[:-1])
                if "id" in message:
                    answer = self._answers.pop(message["id"])
                    if answer.done():
                        continue
                    if "error" in message:
                        gone = message["error"]["message"] == "Inspected target navigated or closed"
                        answer.set_exception((GoneError if gone else AssertionError)(message["error"]["message"]))
                    else:
                        answer.set_result(message["result"])
                else:
                    self._note(message["method"], message["params"])

    def _note(self, method, params):
        # A failed request is told by the test's own server; everything else the console says is a complaint.
        refused = method == "Log.entryAdded" and params["entry"]["source"] != "network"
        if refused or method in {"Runtime.exceptionThrown", "Runtime.consoleAPICalled"}:
            self.complaints.append(json.dumps(params))
        if method in self._events:
            self._events.pop(method).set_result(None)

    def event(self, method):
        """Return a future that ends with the next event of this name."""
        return self._events.setdefault(method, asyncio.get_running_loop().create_future())

    async def before(self, source):
        """Run a script in every document to come, before its own."""
        await self.send("Page.addScriptToEvaluateOnNewDocument", source=source)

    async def open(self, url):
        """Go to an address and wait until it is loaded."""
        loaded = self.event("Page.loadEventFired")
        await self.send("Page.navigate", url=url)
        await asyncio.wait_for(loaded, 20)

    async def pass_time(self, time_s):
        """Let the page live through so many seconds, or until it goes elsewhere; True if it went."""
        loaded = self.event("Page.loadEventFired")
        with contextlib.suppress(GoneError):
            if await self.ask(f"passTime({time_s * 1000})") == "here":
                return False
        await asyncio.wait_for(loaded, 20)
        return True

    async def ask(self, expression):
        """Return what an expression is worth in the page."""
        result = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def text(self, name):
        """Return the text shown by the element of this id."""
        return await self.ask(f"document.getElementById({name!r}).innerText")

    async def window(self, width, height, *, dark=False):
        """Make the window so large, in CSS pixels, and its colours light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.send("Emulation.setDeviceMetricsOverride", **size)
        colours = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.send("Emulation.setEmulatedMedia", features=colours)


class Shop:
    """A small server: ``me`` answers ``told`` (the last for ever), other paths the next of ``pages``, then the shop.

    Each of ``told`` is an object, or a status with headers; an empty page is a 204. ``log`` has every target in the
    order asked.
    """

    def __init__(self):
        self.pages = []
        self.told = []
        self.log = []
        self.at_once = self.most_at_once = 0
        self._news = asyncio.Condition()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def start(self):
        """Listen on a port of the system's choice."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self):
        """Stop listening."""
        self._server.close()
        await self._server.wait_closed()

    async def reached(self, count):
        """Wait until so many requests came."""
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(lambda: len(self.log) >= count), 20)

    def asked(self, path):
        """Return how often a path was asked, whatever the query."""
        return sum(target.partition("?")[0] == path for target in self.log)

    def tell(self, state="waiting", **more):
        """Let the next answer of ``me`` say this."""
        plain = {"room": "launch", "number": 1204, "ahead": 300, "wait_s": [240, 420], "refresh_s": 10, "message": None}
        self.told.append(plain | {"state": state} | more)

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split()[1].decode()
            async with self._news:
                self.log.append(target)
                self._news.notify_all()
            status, headers, body = 200, f"Content-Security-Policy: {PAGES.csp.decode()}\r\n", b""
            if target.partition("?")[0] == LINE.me_url:
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                await self.go_on.wait()
                self.at_once -= 1
                told = self.told.pop(0) if len(self.told) > 1 else self.told[0]
                if isinstance(told, tuple):
                    status, headers = told
                else:
                    body = json.dumps(told).encode()
            else:
                body = self.pages.pop(0) if self.pages else SHOP
                if not body:
                    status = 204
            writer.write(
                f"HTTP/1.1 {status} Told\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n"
                f"{headers}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            writer.write(body)
            await writer.drain()
        writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="driven")
async def a_chromium():
    """Start Chromium once for all tests; where there is none they are skipped by name, and in CI they fail."""
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("Chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser()
        await browser.start(profile)
        yield browser
        await browser.stop()


@pytest_asyncio.fixture(loop_scope="module", name="browser")
async def a_browser(driven):
    """Return a fresh page, whose console must stay silent to the end."""
    await driven.fresh()
    yield driven
    assert driven.complaints == []


@pytest_asyncio.fixture(loop_scope="module", name="shop")
async def a_shop():
    """Return a listening shop whose first page is the waiting page."""
    shop = Shop()
    shop.pages.append(PAGES.waiting(LINE))
    await shop.start()
    yield shop
    await shop.stop()
