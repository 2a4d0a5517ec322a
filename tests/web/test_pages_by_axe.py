"""Every page of ours in every language, judged by axe in a real Chromium, as shoppers on a phone have it."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import chromium, watched  # noqa: F401 - a fixture
from house import until

from waitroom.web import samples
from waitroom.web.pages import Pages

PAGES = Pages(Path(__file__).parents[2] / "templates")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def shop():
    """Serve every page at /LANGUAGE/NAME; a page that asks how it stands is told nothing."""
    made = {language: samples.every(PAGES, "launch", language) for language in PAGES.languages}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            language, _, name = self.path[1:].partition("/")
            page = made.get(language, {}).get(name)
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page or b"")

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", sorted(PAGES.languages))
def test_axe_finds_nothing_on_any_page(chromium, shop, language, scheme):  # noqa: F811 - the fixture
    """WCAG 2.2 AA as far as a program can tell, as sent and without script; no page is wider than a phone."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - beside the browser, which may be missing

    axe = Axe()
    context = chromium.new_context(viewport={"width": 320, "height": 640}, color_scheme=scheme, bypass_csp=True)
    # Pages stay as they are sent: at the turn, a script would go on to the shop.
    context.add_init_script("Document.prototype.getElementById = undefined")
    page = watched(context)
    for name in samples.every(PAGES, "launch", language):
        page.goto(f"{shop}/{language}/{name}")
        found = axe.run(page, options={"runOnly": TAGS})
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert page.evaluate("document.documentElement.lang") == language
    context.close()


TOLD = {
    "waiting": {"ahead": 11},
    "called": {"ahead": 0, "wait_s": [0, 0]},
    "missed": {"ahead": 0},
    "held": {"wait_s": None},
    "sold_out": {"wait_s": None, "message": "A few may come back."},
    "prequeue": {"wait_s": None},
    "lost": {},
    "no_cookies": {},
}


@pytest.mark.parametrize(
    "how",
    [{"color_scheme": "light"}, {"color_scheme": "dark", "reduced_motion": "reduce"}, {"forced_colors": "active"}],
)
def test_axe_finds_nothing_on_a_page_that_its_script_has_written(chromium, shop, how):  # noqa: F811 - the fixture
    """In every state that it hears of, for a visitor who enters by hand, at 400 %; and nothing is animated."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - beside the browser, which may be missing

    axe = Axe()
    context = chromium.new_context(viewport={"width": 320, "height": 256}, bypass_csp=True, **how)
    for state, told in TOLD.items():
        page = watched(context)
        if state == "no_cookies":
            page.add_init_script("Object.defineProperty(navigator, 'cookieEnabled', { value: false })")
        now_ms = int(time.time() * 1000)
        me = {"state": state, "number": 1204, "ahead": 312, "wait_s": [240, 420], "refresh_s": 60, "message": None}
        me |= told | {"claim_by": now_ms + 60_000, "opens_at": now_ms + 900_000}
        answer = {"status": 502} if state == "lost" else {"json": me}
        page.route("**/.waitroom/**", lambda route, _, answer=answer: route.fulfill(**answer))
        page.goto(f"{shop}/en/waiting")
        if state not in ("no_cookies", "waiting"):
            page.check("#mine")
            before = page.inner_text("#page")
            page.evaluate("Date.now = () => 1e15; dispatchEvent(new Event('online')); 1")
            until(lambda before=before, page=page: page.inner_text("#page") != before)
        found = axe.run(page, options={"runOnly": TAGS})
        assert found.violations_count == 0, f"{state}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), state
        assert page.evaluate("document.getAnimations().length") == 0, state
        page.close()
    context.close()


def test_nothing_is_lost_where_colours_are_forced(chromium, shop):  # noqa: F811 - the fixture
    """The way through the line is seen still, and a button has an edge although its own colours are gone."""
    context = chromium.new_context(forced_colors="active", color_scheme="dark")
    page = watched(context)
    page.route("**/.waitroom/**", lambda route: route.fulfill(status=502))
    page.goto(f"{shop}/en/waiting")
    page.evaluate("document.getElementById('progress').value = 0.5")
    pixels = page.locator("#progress").screenshot()
    page.evaluate("document.getElementById('progress').value = 0")
    assert pixels != page.locator("#progress").screenshot()
    page.evaluate("document.getElementById('enter').hidden = false")
    assert page.evaluate("getComputedStyle(document.getElementById('enter')).borderTopStyle") == "solid"
    context.close()
