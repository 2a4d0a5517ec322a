"""A real Chromium for the tests of pages: Debian's, driven by Playwright.

Playwright starts a loop of its own in the thread it is used in, where pytest-asyncio could then start none. So a file
that asks for a ``page`` has plain tests only, and serves what it looks at from another thread or process; the browser
ends with the file.

Without Chromium these tests are skipped, and the reason says so; under ``CI=true``, where ``tools/programs.py`` has
installed it, they fail instead.
"""

from __future__ import annotations

import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
"""Chromium's sandbox does not start as root, which CI is; it opens nothing but our own pages here."""

PATIENCE_MS = 10_000


@pytest.fixture(scope="module")
def chromium():
    """The browser; give ``new_context`` what a visitor differs in (viewport, colours, script, cookies)."""
    if CHROMIUM is None:
        missing = "Chromium is not installed: `apt-get install chromium`, or `python3 tools/programs.py` as root"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only these tests pay for it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page in a browser session of its own. What it says of itself is in ``page.complaints``."""
    context = chromium.new_context()
    yield watched(context)
    context.close()


def watched(context):
    """Open a page whose errors, refusals by its own policy among them, are collected in ``page.complaints``."""
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
    return page
