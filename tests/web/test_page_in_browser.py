"""The waiting page in a real browser, answer by answer: what it shows, when it asks, and when it goes in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from devtools import LINE, PAGES, a_browser, a_chromium, a_shop  # noqa: F401 - fixtures

from waitroom.model import VisitorState
from waitroom.web.pages import FullView

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAKE = """(() => {
  const now = Date.now;
  Date.now = () => now() + 60000;
  for (let times = 0; times < 2; times += 1) {
    dispatchEvent(new Event("online"));
    document.dispatchEvent(new Event("visibilitychange"));
  }
  Date.now = now;
})()"""
"""All that makes a page look at once, a minute after it looked last."""


def page_text(browser):
    """Return everything the page shows, without what is only read out, and what can only be chosen with script."""
    parts = "[...document.querySelectorAll('main > :not(#said, label)')]"
    return browser.ask(f"{parts}.map((part) => part.hidden ? '' : part.innerText).join('|')")


async def test_the_page_tells_news_in_place(browser, shop):
    """With script the page shows what ``me`` says at the told time, without being loaded again."""
    shop.tell(ahead=41, wait_s=[60, 120], refresh_s=5, message="Two sizes left.")
    await browser.open(f"{shop.url}/event/")
    assert await browser.text("ahead") == "312"
    await browser.pass_time(9.9)
    assert shop.log == ["/event/"]
    await browser.pass_time(3.2)
    assert shop.log == ["/event/", LINE.me_url]
    assert await browser.text("ahead") == "41"
    assert await browser.text("wait") == "about 1 to 2 minutes"
    assert await browser.text("message") == "Two sizes left."
    assert await browser.text("next") == "Looks again by itself in about 5 seconds."
    assert await browser.ask("document.title") == "41 people ahead of you"
    assert await browser.ask("document.querySelector('progress').value") == pytest.approx(1 - 41 / 312)


CASES = {
    "minutes": {"ahead": 1234, "wait_s": (240, 420), "refresh_s": 12},
    "one": {"ahead": 1, "wait_s": (0, 60), "refresh_s": 1},
    "none": {"ahead": 0, "wait_s": (30, 61), "refresh_s": 119},
    "unknown": {"ahead": None, "wait_s": None, "refresh_s": 150},
    "exact": {"ahead": 2, "wait_s": (120, 120), "refresh_s": 3600},
    "edge": {"ahead": 31_200, "wait_s": (1800, 5400), "refresh_s": 60},
    "upto-hours": {"ahead": 31_200, "wait_s": (1800, 5401), "refresh_s": 60},
    "hours": {"ahead": 1_000_000, "wait_s": (7300, 14_000), "refresh_s": 300, "message": "Two <sizes> left."},
    "exact-hours": {"ahead": 9, "wait_s": (7200, 7200), "refresh_s": 30},
    "held": {"state": VisitorState.HELD},
    "full": {"state": VisitorState.FULL},
    "rejected": {"state": VisitorState.REJECTED},
}


@pytest.mark.parametrize("case", CASES)
async def test_script_and_server_say_the_same(browser, shop, case):
    """What the script writes from an answer is, to the letter, what the server writes for the same facts."""
    view = replace(LINE, **CASES[case])
    as_sent = PAGES.waiting(view).replace(b"<script>", b'<script type="asleep">')
    shop.pages = [PAGES.waiting(replace(LINE, ahead=None)), as_sent]
    shop.tell(**{name: getattr(view, name) for name in ("state", "ahead", "wait_s", "refresh_s", "message")})
    await browser.open(f"{shop.url}/event/")
    await browser.pass_time(14)
    heard = await page_text(browser)
    await browser.open(f"{shop.url}/event/")
    assert heard == await page_text(browser)


async def test_the_page_counts_down_to_the_start(browser, shop):
    """From what the server said was left, and after each answer from the start and the server's ``Date``."""
    shop.pages = [PAGES.waiting(replace(LINE, state=VisitorState.PREQUEUE, wait_s=None, opens_s=754))]
    shop.tell("prequeue", wait_s=None, opens_at=0, refresh_s=10)
    await browser.open(f"{shop.url}/event/")
    assert await browser.text("wait") == "opens in 00:12:34"
    assert await browser.text("heading") == "Opening soon"
    await browser.pass_time(4)
    await browser.ask("new Promise((done) => setInterval(done, 700))")
    assert await browser.text("wait") == "opens in 00:12:30"
    shop.told[0]["opens_at"] = await browser.ask("Date.now()") + 3_700_000
    await browser.pass_time(12)
    await browser.ask("new Promise((done) => setInterval(done, 700))")
    assert await browser.text("wait") == "opens in 01:01:28"
    shop.told[0] |= {"state": "waiting", "opens_at": None, "wait_s": [240, 420]}
    await browser.pass_time(14)
    await browser.ask("new Promise((done) => setInterval(done, 700))")
    assert await browser.text("wait") == "about 4 to 7 minutes"


async def test_a_call_is_entered_exactly_once(browser, shop):
    """At the turn the page goes in by itself, one time, to the address it was given."""
    shop.tell()
    shop.tell("called", ahead=0)
    await browser.open(f"{shop.url}/event/")
    assert await browser.pass_time(60)
    assert shop.log == ["/event/", LINE.me_url, LINE.me_url, LINE.page_url]
    assert await browser.ask("document.title") == "The shop"


async def test_on_its_way_in_the_page_asks_nothing(browser, shop):
    """Once the page is on its way in, whatever wakes it makes it neither ask nor enter again."""
    shop.tell("called")
    await browser.open(f"{shop.url}/event/")
    await browser.ask(f"navigation.addEventListener('navigate', () => {{ {WAKE} }})")
    assert await browser.pass_time(60)
    assert shop.log == ["/event/", LINE.me_url, LINE.page_url]


async def test_a_page_that_is_sent_back_does_not_spin(browser, shop):
    """However often a called visitor is shown the line again, the page enters at most once in five seconds."""
    shop.pages = [PAGES.waiting(replace(LINE, state=VisitorState.CALLED, refresh_s=1)) for _ in range(20)]
    shop.tell("called", refresh_s=1)
    await browser.open(f"{shop.url}/event/")
    left = 0
    for _ in range(40):
        left += await browser.pass_time(0.5)
    assert 3 <= left <= 4


async def test_a_page_that_is_sent_back_does_not_spin_without_storage(browser, shop):
    """The same holds where the browser keeps nothing for the page."""
    await browser.before("Object.defineProperty(window, 'sessionStorage', { get() { throw new Error('blocked'); } })")
    shop.pages = [PAGES.waiting(replace(LINE, state=VisitorState.CALLED, refresh_s=1)) for _ in range(20)]
    shop.tell("called", refresh_s=1)
    await browser.open(f"{shop.url}/event/")
    left = 0
    for _ in range(40):
        left += await browser.pass_time(0.5)
    assert 3 <= left <= 4


@pytest.mark.parametrize("state", ["admitted", "expired", "missed", "none"])
async def test_what_only_a_visit_can_mend_is_visited(browser, shop, state):
    """A visitor admitted in another tab, expired, passed over or reset is taken to the address at once."""
    shop.tell()
    shop.tell(state)
    await browser.open(f"{shop.url}/event/")
    assert await browser.pass_time(60)
    assert shop.log[1:] == [LINE.me_url, LINE.me_url, LINE.page_url]


async def test_who_missed_a_call_waits_for_the_next_without_reloading(browser, shop):
    """A page that was sent as "missed" asks on, and goes in when it is called again."""
    shop.pages = [PAGES.waiting(replace(LINE, state=VisitorState.MISSED))]
    for state in ("missed", "missed", "called"):
        shop.tell(state)
    await browser.open(f"{shop.url}/event/")
    assert await browser.text("heading") == "You are next"
    assert await browser.pass_time(60)
    assert shop.log[1:] == [LINE.me_url] * 3 + [LINE.page_url]


async def test_ahead_never_rises(browser, shop):
    """The page never shows more people ahead than it has shown, not after a reload either."""
    for ahead in (200, 250, 180, 900):
        shop.tell(ahead=ahead)
    shown = []
    for _ in range(2):
        shop.pages = [PAGES.waiting(LINE)]
        await browser.open(f"{shop.url}/event/")
        for _ in range(3):
            shown.append(int(await browser.text("ahead")))
            await browser.pass_time(13.5)
    assert shown == [312, 200, 200, 180, 180, 180]


async def test_another_number_is_another_count(browser, shop):
    """Whoever joins anew sees the people ahead of the new number."""
    shop.tell(ahead=5)
    await browser.open(f"{shop.url}/event/")
    await browser.pass_time(13.5)
    shop.pages = [PAGES.waiting(replace(LINE, number=9000, ahead=4000))]
    await browser.open(f"{shop.url}/event/")
    assert await browser.text("ahead") == "4,000"


async def test_a_page_of_a_place_that_is_not_kept_any_more_is_replaced(browser, shop):
    """Two tabs that joined at once have one cookie between them: both show its place, and nobody's number is wrong."""
    shop.tell(number=1205, ahead=313)
    shop.pages.append(PAGES.waiting(replace(LINE, number=1205, ahead=313)))
    await browser.open(f"{shop.url}/event/")
    assert await browser.pass_time(13.1)
    assert [await browser.text(name) for name in ("number", "ahead")] == ["1,205", "313"]
    assert not await browser.pass_time(60)


async def test_a_page_that_is_come_back_to_asks_at_once(browser, shop):
    """A page that the browser kept whole, from before it went in, goes on as if it had never left."""
    shop.pages.append(b"")
    shop.tell("called")
    await browser.open(f"{shop.url}/event/")
    await browser.ask("passTime(14e3)")
    await shop.reached(3)
    shop.told.clear()
    shop.tell(ahead=7)
    for persisted in ("false", "true"):
        await browser.ask(f"dispatchEvent(new PageTransitionEvent('pageshow', {{ persisted: {persisted} }})); 1")
    await shop.reached(4)
    assert shop.log == ["/event/", LINE.me_url, LINE.page_url, LINE.me_url]


async def test_blocked_cookies_are_said_and_do_not_loop(browser, shop):
    """A visitor unknown twice right after joining reads that cookies are needed; nothing is asked any more."""
    shop.tell("none", number=None, ahead=None, wait_s=None)
    await browser.open(f"{shop.url}/event/")
    assert not await browser.pass_time(600)
    assert shop.log == ["/event/", LINE.me_url, LINE.me_url]
    assert await browser.text("heading") == "Your browser does not keep your place"
    assert await browser.text("enter") == "Try again"


async def test_a_browser_without_cookies_is_told_at_once(browser, shop):
    """Where the browser says that it keeps no cookies, the page says so and asks nothing."""
    await browser.before("Object.defineProperty(navigator, 'cookieEnabled', { value: false })")
    await browser.open(f"{shop.url}/event/")
    assert not await browser.pass_time(600)
    assert shop.log == ["/event/"]
    assert await browser.text("heading") == "Your browser does not keep your place"


async def test_a_lost_connection_keeps_the_place_and_asks_less_often(browser, shop):
    """After errors the page says that the place is kept, waits longer each time, and goes on when it can."""
    shop.told = [(500, "")] * 3
    shop.tell(ahead=7)
    await browser.open(f"{shop.url}/event/")
    await browser.pass_time(13.1)
    assert await browser.text("next") == "Connection lost. Your place is kept. Trying again in about 20 seconds."
    assert await browser.text("said") == "Connection lost. Your place is kept. Trying again in about 20 seconds."
    await browser.pass_time(16)
    assert shop.asked(LINE.me_url) == 1
    await browser.pass_time(200)
    assert await browser.text("ahead") == "7"
    assert await browser.text("next") == "Looks again by itself in about 10 seconds."


async def test_retry_after_is_honoured(browser, shop):
    """Told to come back later, the page comes no sooner."""
    shop.told = [(429, "Retry-After: 100\r\n")]
    await browser.open(f"{shop.url}/event/")
    await browser.pass_time(13.1)
    assert shop.asked(LINE.me_url) == 1
    await browser.pass_time(95)
    assert shop.asked(LINE.me_url) == 1
    await browser.pass_time(40)
    assert shop.asked(LINE.me_url) == 2


async def test_an_answer_that_is_no_status_counts_as_none(browser, shop):
    """A page of somebody else's, sent with 200 in place of ``me``, changes nothing that is shown."""
    shop.told = [(200, "")]
    await browser.open(f"{shop.url}/event/")
    assert not await browser.pass_time(60)
    assert await browser.text("heading") == "You are in line"
    assert await browser.text("ahead") == "312"


async def test_never_two_in_flight(browser, shop):
    """While one question is open no second is asked, whatever wakes the page."""
    shop.tell()
    await browser.open(f"{shop.url}/event/")
    shop.go_on.clear()
    await browser.ask("void passTime(13.1e3)")
    await shop.reached(2)
    await browser.ask(WAKE)
    shop.go_on.set()
    await browser.pass_time(0.1)
    assert shop.most_at_once == 1
    assert shop.asked(LINE.me_url) == 1


async def test_a_hidden_page_says_so_and_looks_when_it_is_seen(browser, shop):
    """A page in the background asks with ``hidden=1``; coming to the front it asks at once."""
    shop.tell(refresh_s=60)
    await browser.open(f"{shop.url}/event/")
    await browser.ask("Object.defineProperty(document, 'hidden', { value: true, configurable: true }); 1")
    await browser.pass_time(20)
    assert shop.log == ["/event/", f"{LINE.me_url}?hidden=1"]
    await browser.ask("delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); 1")
    await browser.pass_time(0.1)
    assert shop.log[2:] == [LINE.me_url]


async def test_what_is_read_out_is_not_read_out_at_every_look(browser, shop):
    """Assistive software is told of a new state at once, and of mere progress at most every thirty seconds."""
    for ahead in (300, 290, 280, 270):
        shop.tell(ahead=ahead)
    shop.tell("held", ahead=260)
    await browser.open(f"{shop.url}/event/")
    said = []
    for _ in range(5):
        await browser.pass_time(13.1)
        said.append((await browser.text("said")).partition(" people")[0])
    assert said[0] == ""
    assert said[3] in {"You are in line. 280", "You are in line. 270"}
    assert said[-1] == "Entry is paused. 260"


async def test_a_state_of_tomorrow_is_waited_through(browser, shop):
    """A state the page has no words for reads as being in line, and the page asks on."""
    shop.tell("levitating", ahead=12)
    await browser.open(f"{shop.url}/event/")
    assert not await browser.pass_time(40)
    assert await browser.text("heading") == "You are in line"
    assert await browser.text("ahead") == "12"
    assert shop.asked(LINE.me_url) >= 3


async def test_without_script_the_page_enters_by_its_refresh(browser, shop):
    """With script off the refresh in the page's head leads in at the turn, and the page says how it works."""
    shop.pages = [PAGES.waiting(replace(LINE, refresh_s=0))]
    await browser.send("Emulation.setScriptExecutionDisabled", value=True)
    await browser.open(f"{shop.url}/event/?a=1")
    await shop.reached(2)
    assert shop.log == ["/event/?a=1"] * 2


async def test_a_full_line_is_tried_again_only_while_it_is_seen(browser, shop):
    """The page "full" loads itself again after the told time, and in the background waits until it is seen."""
    shop.pages = [PAGES.full(FullView("/event/?again", 30))]
    await browser.open(f"{shop.url}/event/")
    await browser.ask("Object.defineProperty(document, 'hidden', { value: true, configurable: true }); 1")
    assert not await browser.pass_time(100)
    await browser.ask("delete document.hidden; 1")
    assert await browser.pass_time(61)
    assert shop.log == ["/event/", "/event/?again"]


@pytest.mark.parametrize(
    "target", ["//evil.example/x", "/\\evil.example", "/\t/evil.example", "https://evil.example", "javascript:alert(1)"]
)
async def test_the_way_in_is_on_this_host(browser, shop, target):
    """To a real browser, too, every address on the page is one of the host it came from."""
    shop.pages = [PAGES.waiting(replace(LINE, page_url=target))]
    await browser.open(f"{shop.url}/event/")
    assert (await browser.ask("document.getElementById('enter').href")).startswith(f"{shop.url}/")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_no_page_is_wider_than_its_window(browser, shop, width, dark):
    """At 320 pixels, which is also a window of 1280 at 400 %, nothing has to be scrolled sideways."""
    wide = replace(LINE, number=1_764_000_000_000_123, ahead=1_234_567, message="W" * 200, form_note=True)
    shop.pages = [PAGES.waiting(wide), PAGES.full(FullView("/event/", 30, "W" * 200))]
    await browser.window(width, 700, dark=dark)
    for _ in range(2):
        await browser.open(f"{shop.url}/event/")
        assert await browser.ask("document.documentElement.scrollWidth") == width
