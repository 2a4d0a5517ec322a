"""Every page of ours in every language, judged by axe in a real Chromium, as shoppers on a phone have it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import chromium, watched  # noqa: F401 - a fixture

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
