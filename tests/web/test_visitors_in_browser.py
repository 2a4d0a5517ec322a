"""Visitors with real browsers in a whole house: several tabs, the back button, no script, no cookies, no mouse.

The room has one slot, and somebody in it: a visitor waits for as long as a test looks on, and is called when they go.
"""

from __future__ import annotations

import json

import httpx
import pytest
from browser import ARGUMENTS, CHROMIUM, watched
from house import RecordingOrigin, Visitor, running, until

NEXT = {"always_queue": True, "total_active_users": 1}


@pytest.fixture(scope="module")
def shop():
    """The shop behind the house."""
    recording = RecordingOrigin()
    recording.start()
    yield recording
    recording.stop()


@pytest.fixture
def house(tmp_path, shop):
    """A room of one slot, which everyone waits for."""
    answers(shop, "shop")
    shop.seen.clear()
    with running(tmp_path, shop, NEXT, limits={"joins_per_client": None, "drain_timeout": "200ms"}) as started:
        yield started


@pytest.fixture
def inside(house):
    """Somebody who has the slot."""
    visitor = Visitor(house)
    until(visitor.is_in)
    return visitor


def answers(shop, html):
    """Let the shop answer every request with this."""
    body = html.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    shop.answer = head.encode() + body


def now(house):
    """Return what everybody may know of the room."""
    return httpx.get(f"{house.url}/.waitroom/launch/now", trust_env=False).json()


def leave(visitor):
    """Give the slot to whoever is next."""
    visitor.post("/.waitroom/launch/leave")


def sees_the_shop(page):
    """Wait until a page is the shop's."""
    page.get_by_text("shop", exact=True).wait_for()


def told_of_cookies(page):
    """Wait until a page says that cookies are needed."""
    page.get_by_role("heading", name="Your browser does not keep your place").wait_for()


def number(page):
    """Return the number that a waiting page shows."""
    return page.inner_text("#number")


def test_two_tabs_are_one_visitor(page, house, shop, inside):
    """They show one place; at the turn both go in, by one slot."""
    page.goto(f"{house.url}/event/")
    other = watched(page.context)
    other.goto(f"{house.url}/event/")
    assert number(page) == number(other)
    leave(inside)
    for tab in (page, other):
        sees_the_shop(tab)
    assert now(house)["issued"] == 2
    assert [seen.header("Waitroom-Number") for seen in shop.seen if seen.target == "/event/"] == ["1", "2", "2"]
    assert [*page.complaints, *other.complaints] == []


def test_two_tabs_that_join_at_once_end_up_as_one_visitor(chromium, house, shop, inside):
    """Neither has a cookie yet, so two numbers are given; one is kept, and soon both tabs show it."""
    context = chromium.new_context()
    tabs = [watched(context) for _ in range(2)]
    for tab in tabs:
        tab.goto(f"{house.url}/", wait_until="commit")
    for tab in tabs:
        tab.evaluate(f"void setTimeout(() => location.assign('{house.url}/event/'), 50)")
    for tab in tabs:
        tab.wait_for_selector("#number")
    until(lambda: number(tabs[0]) == number(tabs[1]))
    leave(inside)
    for tab in tabs:
        sees_the_shop(tab)
    context.close()


def test_the_back_button_finds_the_place(page, house, shop, inside):
    """While waiting, whatever was looked at meanwhile; and after it, the shop, for the line is over and done with."""
    page.goto(f"{house.url}/")
    page.goto(f"{house.url}/event/")
    place = number(page)
    page.goto(f"{house.url}/elsewhere")
    page.go_back()
    assert number(page) == place
    leave(inside)
    sees_the_shop(page)
    page.goto(f"{house.url}/event/order")
    page.go_back()
    sees_the_shop(page)
    page.go_back()
    assert page.url == f"{house.url}/"
    page.go_forward()
    sees_the_shop(page)
    assert now(house)["issued"] == 2


@pytest.mark.parametrize("kind", ["prefetch", "prerender"])
def test_a_page_that_is_made_ahead_of_time_takes_no_place(page, house, shop, inside, kind):
    """The browser asks for it, because the shop's page says so, and is refused; the click joins."""
    rules = json.dumps({kind: [{"source": "list", "urls": ["/event/"], "eagerness": "immediate"}]})
    answers(shop, f"<script type=speculationrules>{rules}</script><link rel=icon href='data:,'><a href=/event/>go</a>")
    page.goto(f"{house.url}/")
    until(lambda: '"reason": "prefetch"' in house.log.read_text())
    assert now(house)["issued"] == 1
    page.click("a")
    assert number(page) == "2"
    until(lambda: now(house)["issued"] == 2)


def test_a_hidden_tab_is_called_and_goes_in(page, house, shop, inside):
    """It asks once a minute and says why; the turn waits for it that long."""
    page.clock.install()
    page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => true })")
    asks = []
    page.on("request", lambda request: "/me" in request.url and asks.append(request.url))
    page.goto(f"{house.url}/event/")
    page.clock.run_for(5_000)
    until(lambda: asks)
    leave(inside)
    until(lambda: now(house)["serving"] == 2)
    page.clock.run_for(50_000)
    assert asks == [f"{house.url}/.waitroom/launch/me?hidden=1"]
    until(lambda: page.clock.run_for(1_000) or len(asks) == 2)  # little by little: an answer has 15 s of this clock
    sees_the_shop(page)


def test_without_script_the_page_goes_in_by_itself(chromium, house, shop, inside):
    """And nobody has to press anything in time: the same reload that shows the line takes the turn."""
    context = chromium.new_context(java_script_enabled=False)
    page = watched(context)
    page.goto(f"{house.url}/event/")
    assert page.inner_text("#heading") == "You are in line"
    leave(inside)
    sees_the_shop(page)
    context.close()


def test_a_visitor_whose_browser_keeps_no_cookies_is_told_and_joins_once(page, house, shop, inside):
    """The page does not go round in circles, each time with a new place at the end."""
    page.goto(f"{house.url}/event/")
    page.context.clear_cookies()  # before it asks for the first time
    told_of_cookies(page)
    page.wait_for_timeout(2_000)  # long enough for two more looks, if there were any
    assert now(house)["issued"] == 2
    page.click("#enter")
    until(lambda: now(house)["issued"] == 3)


def test_a_browser_that_blocks_cookies_is_told_so(chromium, house, inside, tmp_path):
    """As its owner has set it: the page says what is missing and goes round in no circles."""
    profile = tmp_path / "profile" / "Default"
    profile.mkdir(parents=True)
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (profile / "Preferences").write_text(json.dumps(blocked))
    context = chromium.browser_type.launch_persistent_context(
        profile.parent, executable_path=CHROMIUM, args=ARGUMENTS, headless=True
    )
    page = watched(context)
    page.goto(f"{house.url}/event/")
    told_of_cookies(page)
    assert context.cookies() == []
    assert page.complaints == []
    until(lambda: now(house)["issued"] == 2)
    context.close()


def test_a_payment_that_comes_back_to_the_line_goes_on_when_it_is_the_turn(page, house, shop, inside):
    """Whose pass ended on the way joins by the form that another site sent, reads that it was not taken, goes in."""
    pay = RecordingOrigin()
    pay.start()
    answers(
        pay,
        f"<link rel=icon href='data:,'><form id=f method=post action='{house.url}/event/paid'><input name=a value=17>"
        "</form><script>document.getElementById('f').submit()</script>",
    )
    page.goto(f"http://localhost:{pay.port}/")
    page.wait_for_selector("#number")
    assert page.inner_text(".note") == "Your form was not sent. Please send it again when it is your turn."
    until(lambda: now(house)["issued"] == 2)
    leave(inside)
    sees_the_shop(page)
    assert shop.seen[-1].method == "GET"
    assert [text for text in page.complaints if "status of 429" not in text] == []
    pay.stop()


def test_the_line_is_used_by_the_keyboard_alone(page, house, shop, inside):
    """What can be pressed is reached in the order it is read, seen to be, and works; leaving takes two steps."""
    page.goto(f"{house.url}/event/")
    page.wait_for_selector("html.live")
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.localName"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["bell", "mine", "summary"]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="You left the line").wait_for()
