"""What a visitor may choose for the turn, in a real browser: to be called by sound, and to go in by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from devtools import LINE, PAGES, a_browser, a_chromium, a_shop  # noqa: F401 - fixtures

from waitroom.model import VisitorState

pytestmark = pytest.mark.asyncio(loop_scope="module")

MORE = "/.waitroom/launch/more"

EXACT = "Math.random = () => 0;"
"""The page asks just when it was told to."""

RECORDED = """
window.rang = (what) => { sessionStorage.rung = [sessionStorage.rung, what].filter(Boolean).join(", "); };
window.AudioContext = class { constructor() { rang("sound"); this.currentTime = 0; } };
window.GainNode = class { connect() {} };
window.OscillatorNode = class { connect(next) { return next; } start() { rang("beep"); } stop() {} };
window.Notification = class { constructor(text) { rang(text); } static requestPermission() { rang("may I?"); } };
navigator.vibrate = (ms) => rang("shakes " + ms);
"""
"""What would be heard and felt is written down, where the next document finds it too."""


async def choose(browser, name):
    """Press the box of this id with the keyboard."""
    await browser.ask(f"document.getElementById({name!r}).focus()")
    for kind in ("keyDown", "keyUp"):
        await browser.send("Input.dispatchKeyEvent", type=kind, key=" ", text=" ", code="Space")


async def shown(browser, name):
    """Return whether the element of this id is shown."""
    return await browser.ask(f"document.getElementById({name!r}).checkVisibility({{visibilityProperty: true}})")


async def in_a_minute(browser, shop, **more):
    """Call the visitor, for a minute from now."""
    shop.tell("called", ahead=0, wait_s=[0, 0], refresh_s=2, claim_by=await browser.ask("Date.now()") + 60_000, **more)


async def test_who_wants_to_enter_by_hand_is_not_taken_in(browser, shop):
    """At the turn the page stays, rings once, says until when it is theirs, and asks for all of that time once."""
    await browser.before(EXACT + RECORDED)
    shop.tell()
    await browser.open(f"{shop.url}/event/")
    await choose(browser, "mine")
    await choose(browser, "bell")
    await browser.pass_time(10)
    await in_a_minute(browser, shop)
    shop.told.pop(0)
    assert not await browser.pass_time(20)
    assert shop.asked(MORE) == 1
    assert (await browser.ask("sessionStorage.rung")).count("It is your turn") == 1
    assert await browser.text("heading") == "It is your turn"
    assert (await browser.text("lead")).startswith("Your turn is held until ")
    assert [await shown(browser, name) for name in ("enter", "more", "count")] == [True, True, False]
    await choose(browser, "more")
    await browser.pass_time(0.1)
    await shop.reached(len(shop.log))
    assert shop.asked(MORE) == 2
    assert shop.at_once == 0
    loaded = browser.event("Page.loadEventFired")
    await choose(browser, "mine")
    await loaded
    assert shop.log[-1] == LINE.page_url


async def press(browser, key, code, **more):
    """Press a key where the focus is."""
    for kind in ("keyDown", "keyUp"):
        await browser.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)


async def test_the_turn_is_taken_by_the_keyboard_alone(browser, shop):
    """What the turn shows stands before the choices, and each can be reached and seen to be so."""
    await browser.before(EXACT)
    await in_a_minute(browser, shop)
    await browser.open(f"{shop.url}/event/")
    await choose(browser, "mine")
    await browser.pass_time(12)
    await browser.send("Emulation.setFocusEmulationEnabled", enabled=True)
    reached = []
    for _ in range(3):
        await press(browser, "Tab", 9, modifiers=8)
        reached.append(await browser.ask("document.activeElement.id"))
        assert await browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["bell", "more", "enter"]
    loaded = browser.event("Page.loadEventFired")
    await browser.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r", windowsVirtualKeyCode=13)
    await loaded
    assert shop.log[-1] == LINE.page_url


async def test_a_turn_is_not_missed_without_a_warning(browser, shop):
    """Half a minute before its end it is read out once, with what to do; after more time, before the new end."""
    await browser.before(EXACT)
    await in_a_minute(browser, shop)
    await browser.open(f"{shop.url}/event/")
    await choose(browser, "mine")
    await browser.pass_time(12)
    assert (await browser.text("said")).startswith("It is your turn. Your turn is held until ")
    await browser.pass_time(24)
    warned = await browser.text("said")
    assert warned.startswith("Your turn is held until ")
    assert warned.endswith(". More time")
    shop.told[0]["claim_by"] += 60_000
    await browser.pass_time(10)
    assert (await browser.text("said")).startswith("It is your turn. ")
    await browser.pass_time(50)
    assert (await browser.text("said")).endswith(". More time")
    assert await browser.text("said") != warned


async def test_who_wants_to_enter_by_hand_and_misses_the_turn_stays_and_is_called_again(browser, shop):
    """Nothing is lost: the page says that they are next, and waits for the next turn."""
    await browser.before(EXACT)
    await in_a_minute(browser, shop)
    await browser.open(f"{shop.url}/event/")
    await choose(browser, "mine")
    await browser.pass_time(12)
    shop.tell("missed")
    shop.told.pop(0)
    assert not await browser.pass_time(30)
    assert await browser.text("heading") == "You are next"
    assert [await shown(browser, name) for name in ("enter", "more", "count")] == [False, False, True]
    await in_a_minute(browser, shop)
    shop.told.pop(0)
    assert not await browser.pass_time(12)
    assert shop.asked(MORE) == 2
    assert await browser.text("heading") == "It is your turn"


async def test_nothing_sounds_and_nothing_is_asked_for_unless_it_is_wished(browser, shop):
    """Neither at the load nor at the turn."""
    await browser.before(EXACT + RECORDED)
    shop.tell()
    await in_a_minute(browser, shop)
    await browser.open(f"{shop.url}/event/")
    assert await browser.pass_time(60)
    assert shop.log[-1] == LINE.page_url
    assert not await browser.ask("sessionStorage.rung")


async def test_a_turn_that_is_to_be_heard_sounds_once_and_then_goes_in(browser, shop):
    """Permission is asked for at the press, together with a first sound; at the turn the page lets it ring out."""
    await browser.before(EXACT + RECORDED)
    shop.tell()
    await browser.open(f"{shop.url}/event/")
    await choose(browser, "bell")
    assert await browser.ask("sessionStorage.rung") == "sound, beep, shakes 500, may I?"
    await browser.pass_time(10)
    await in_a_minute(browser, shop)
    shop.told.pop(0)
    assert not await browser.pass_time(10.5)
    at_the_press = "sound, beep, shakes 500, may I?"
    assert await browser.ask("sessionStorage.rung") == f"{at_the_press}, beep, shakes 500, It is your turn"
    assert await browser.pass_time(1)
    assert shop.log[-1] == LINE.page_url


async def test_a_browser_that_has_no_sound_goes_in_all_the_same(browser, shop):
    """What it cannot do is left out, and nothing else with it."""
    await browser.before(EXACT + "delete window.AudioContext; delete window.Notification;")
    await in_a_minute(browser, shop)
    await browser.open(f"{shop.url}/event/")
    await choose(browser, "bell")
    assert await browser.pass_time(20)
    assert shop.log[-1] == LINE.page_url


async def test_choices_are_not_offered_where_no_script_could_keep_them(browser, shop):
    """With script off they are not shown, and leave no hole."""
    await browser.send("Emulation.setScriptExecutionDisabled", value=True)
    shop.pages = [PAGES.waiting(replace(LINE, refresh_s=3600))]
    await browser.open(f"{shop.url}/event/")
    holes = "[...document.querySelectorAll('label')].map((one) => one.getClientRects().length)"
    assert await browser.ask(holes) == [0, 0]
    await browser.send("Emulation.setScriptExecutionDisabled", value=False)
    shop.pages = [PAGES.waiting(replace(LINE, state=VisitorState.CALLED))]
    shop.tell()
    await browser.open(f"{shop.url}/event/")
    assert [await shown(browser, name) for name in ("bell", "mine", "enter", "more")] == [True, True, True, False]
