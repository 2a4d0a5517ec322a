"""One whole wait on one page, in a real browser: what assistive software is told of it, and whether anything moves.

The visitor comes before the start, waits, is held, loses the connection, is told something by the operator, sees the
shop sold out for now, is called, lets the turn pass, is called again, and goes in.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from devtools import LINE, PAGES, a_browser, a_chromium, a_shop  # noqa: F401 - fixtures

from waitroom.model import VisitorState

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTENS = """
Math.random = () => 0;
window.told = [];
window.titles = [];
window.moved = [];
window.started = Date.now();
addEventListener("DOMContentLoaded", () => {
  const follow = (node, into) => new MutationObserver(() => into.push([Date.now() - since, node.textContent]))
    .observe(node, { childList: true, characterData: true, subtree: true });
  const since = Date.now();
  const live = document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log], [role=timer], output");
  window.regions = [...live].map((one) => [one.id, one.getAttribute("role"), one.getAttribute("aria-live")]);
  for (const one of live) follow(one, told);
  follow(document.querySelector("title"), titles);
});
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) {
    const names = one.sources.map(({ node }) => node && (node.id || node.nodeName));
    moved.push([Date.now() - started, one.value, names]);
  }
}).observe({ type: "layout-shift", buffered: true });
"""
"""Asks just when told, and writes down what is read out, every title, and everything that moved by itself."""

BEFORE = replace(LINE, state=VisitorState.PREQUEUE, wait_s=None, opens_s=15, refresh_s=10, undrawn=True)
MESSAGE = "Payment is slow."


async def steps(browser, shop, language="en"):
    """Live through the wait, and stop after each answer: ten seconds each, but for those that ask sooner."""
    shop.pages = [PAGES.waiting(BEFORE, language)]
    now = "Date.now()"
    shop.tell("prequeue", wait_s=None, opens_at=0)
    await browser.open(f"{shop.url}/event/")
    await browser.ask("document.getElementById('mine').click()")
    shop.told[0]["opens_at"] = await browser.ask(now) + 15_000

    async def after(time_s, state=None, **more):
        if state is not None:
            shop.told.clear()
            shop.tell(state, **more)
        assert not await browser.pass_time(time_s)
        await browser.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    yield await after(0)
    yield await after(10)
    for ahead in (300, 290, 280, 270):
        yield await after(10, ahead=ahead, state="waiting")
    yield await after(10, "held", ahead=270, wait_s=None)
    shop.told[:] = [(502, "")]
    yield await after(10)
    yield await after(20, "waiting", ahead=270, message=MESSAGE)
    yield await after(40)
    yield await after(10, "sold_out", ahead=1, wait_s=None)
    for _ in range(2):
        ends = await browser.ask(now) + 70_000
        yield await after(10, "called", ahead=0, wait_s=[0, 0], claim_by=ends, refresh_s=2)
        yield await after(33)
        yield await after(28, "missed", ahead=0, wait_s=[0, 60])


READ_OUT = """
 20 You are in line. 300 people ahead of you. about 4 to 7 minutes
 50 You are in line. 270 people ahead of you. about 4 to 7 minutes
 60 Entry is paused. 270 people ahead of you. not known yet
 70 Connection lost. Your place is kept. Trying again in about 20 seconds.
 90 You are in line. Payment is slow. 270 people ahead of you. about 4 to 7 minutes
140 Sold out for now. 1 person ahead of you. not known yet
150 It is your turn. Your turn is held until TIME.
181 Your turn is held until TIME. More time
185 You are next. 0 people ahead of you. a minute or less
215 It is your turn. Your turn is held until TIME.
252 Your turn is held until TIME. More time
256 You are next. 0 people ahead of you. a minute or less
"""

TITLES = """
 20 300 people ahead of you
 30 290 people ahead of you
 40 280 people ahead of you
 50 270 people ahead of you
 60 Entry is paused
 90 270 people ahead of you
140 Sold out for now
150 It is your turn
185 You are next
215 It is your turn
256 You are next
"""


def written(lines):
    """Return a log as it is written above: the second of each line, and a time of day as such."""
    return "\n" + "".join(f"{ms / 1000:3.0f} {re.sub(r'[0-9]+:[0-9:]+ [AP]M', 'TIME', text)}\n" for ms, text in lines)


async def test_a_whole_wait_as_it_is_read_out(browser, shop):
    """Politely and in one place: each change once, progress at most twice a minute, never the same twice in a row."""
    await browser.before(LISTENS)
    async for _ in steps(browser, shop):
        pass
    assert await browser.ask("regions") == [["said", "status", None]]
    nodes = (await browser.send("Accessibility.getFullAXTree"))["nodes"]
    live = {one["value"]["value"] for node in nodes for one in node.get("properties", ()) if one["name"] == "live"}
    assert live == {"polite"}
    assert written(await browser.ask("told")) == READ_OUT
    assert written(await browser.ask("titles")) == TITLES


@pytest.mark.parametrize(
    ("width", "height", "language"),
    [(320, 256, "en"), (320, 568, "ko"), (390, 844, "en"), (390, 844, "ja"), (1280, 800, "en")],
)
async def test_nothing_moves_during_a_whole_wait(browser, shop, width, height, language):
    """Not by a pixel, whatever the page has to say; but an operator's words push down the text that is below them."""
    await browser.window(width, height)
    await browser.before(LISTENS)
    async for _ in steps(browser, shop, language):
        pass
    moved = await browser.ask("moved")
    assert [one for one in moved if one[0] not in (90_000, 140_000)] == []
    assert {name for _, _, names in moved for name in names} <= {"H2", "UL", "DETAILS"}
    assert sum(shift for _, shift, _ in moved) < 0.05
