"""One of every page, as it would stand in front of a visitor: for those who look at templates, and to try them out."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from waitroom.errors import StartError
from waitroom.model import VisitorState
from waitroom.web.pages import ClosedView, ErrorView, FormView, FullView, Notice, NoticeView, WaitingView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from waitroom.web.pages import Pages

PAGE_URL = "/the-shop"

BYTES_MAX = 12_000
"""What a page of ours weighs at most, with style and script."""

_ELSEWHERE = re.compile(
    rb"""<(?:img|script|link|iframe|video|audio|source)\b[^>]*?\b(?:src|href)\s*=\s*["']?((?:https?:)?//[^\s"'>]+)"""
)

_ID = re.compile(rb"""\bid=["']?([\w-]+)""")

_WRITTEN = [
    "page",
    "heading",
    "lead",
    "count",
    "ahead",
    "caption",
    "enter",
    "more",
    "progress",
    "wait",
    "number",
    "next",
    "message",
    "bell",
    "mine",
    "said",
    "words",
]
"""What the waiting page's script writes to, or reads, by its id; without one of them it stops."""

_ENDED = (VisitorState.REJECTED, VisitorState.CLOSED, VisitorState.SOLD_OUT)
_IN_LINE = (VisitorState.WAITING, VisitorState.CALLED, VisitorState.MISSED, VisitorState.HELD)


def doubts(pages: Pages, room: str, languages: Iterable[str]) -> list[str]:
    """Return what may not do in an operator's own templates what was meant, a sentence each."""
    found = {}
    for language in languages:
        made = every(pages, room, language)
        for name, page in made.items():
            if len(page) > BYTES_MAX:
                size = f"{name} is {len(page):,} bytes; a crowd fetches it at once, and ours stay under {BYTES_MAX:,}"
                found[name, "size"] = size
            if elsewhere := _ELSEWHERE.search(page):
                address = elsewhere[1].decode(errors="replace")
                found[name, address] = f"{name} loads {address}, which its policy blocks; only this host may be shown"
        for name in ("waiting", "called"):
            if PAGE_URL.encode() not in made[name]:
                found[name, "url"] = f"{name} has no way in without script; link to {{{{ fill.page_url }}}}"
        if missing := [name for name in _WRITTEN if name.encode() not in _ID.findall(made["waiting"])]:
            them = ", ".join(missing)
            found["waiting", "ids"] = f"waiting has no element with the id {them}, where waiting.js writes or looks"
        if b'http-equiv="refresh"' not in made["waiting"]:
            found["waiting", "refresh"] = "waiting does not come back without script; keep the block `head` of ours"
    return list(found.values())


def every(pages: Pages, room: str, language: str) -> dict[str, bytes]:
    """Return a page of each kind by its name. Raises ``StartError`` when a template cannot be filled."""
    line = WaitingView(
        room=room,
        state=VisitorState.WAITING,
        number=1204,
        ahead=312,
        wait_s=(240, 420),
        refresh_s=12,
        page_url=PAGE_URL,
        me_url=f"/.waitroom/{room}/me",
        leave_url=f"/.waitroom/{room}/leave",
    )
    views = {
        **{state.value: replace(line, state=state) for state in _IN_LINE},
        "prequeue": replace(line, state=VisitorState.PREQUEUE, opens_s=754),
        "to-be-drawn": replace(line, state=VisitorState.PREQUEUE, opens_s=754, undrawn=True),
        "drawn": replace(line, place=313),
        "at-random": replace(line, ahead=None, at_random=True),
        "sold-out-for-now": replace(line, state=VisitorState.SOLD_OUT),
        "expired": replace(line, state=VisitorState.EXPIRED),
        "nothing-known": replace(line, ahead=None, wait_s=None),
        "form-not-sent": replace(line, form_note=True),
        "message": replace(line, message="Size 270 is sold out. Others are still there."),
    }
    makers: dict[str, Callable[[], bytes]] = {
        **{name: partial(pages.waiting, view, language) for name, view in views.items()},
        "full": partial(pages.full, FullView(PAGE_URL, 60), language),
        **{f"ended-{state}": partial(pages.closed, ClosedView(PAGE_URL, state), language) for state in _ENDED},
        "shop-down": partial(pages.error, ErrorView(PAGE_URL, 5), language),
        "shop-down-inside": partial(pages.error, ErrorView(PAGE_URL, 5, place_kept=True), language),
        **{f"notice-{kind}": partial(pages.notice, NoticeView(kind, PAGE_URL, 5), language) for kind in Notice},
        "invite": partial(pages.invite, PAGE_URL, language),
        "form-again": partial(pages.form, FormView(PAGE_URL, PAGE_URL, [("order", "17")]), language),
    }
    made = {}
    for name, maker in makers.items():
        try:
            made[name] = maker()
        except Exception as error:  # a template may do anything
            raise StartError(f"the page {name} cannot be made: {type(error).__name__}: {error}") from error
    return made
