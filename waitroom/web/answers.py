"""Our answers: pages, statuses as JSON, refusals, each with the headers that belong to it.

Every one of them is ``no-store`` except what is the same for everybody, is not for search engines, and carries a cookie
only where the request earned one: a place, a claim, a renewal, a leave. ``Waitroom-State`` says where the visitor
stands; on an answer that does not look at that, what the room is doing.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

from waitroom.core import cors
from waitroom.model import Pass, VisitorState
from waitroom.web.catalogs import SOURCE
from waitroom.web.messages import Reply
from waitroom.web.pages import (
    ClosedView,
    ErrorView,
    FormView,
    FullView,
    Notice,
    NoticeView,
    WaitingView,
    local_url,
    problem,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waitroom.model import Room
    from waitroom.service import RoomService, Told
    from waitroom.web.messages import Headers
    from waitroom.web.pages import Pages, Sheet

RETRY_S = 5
"""When to try again after a refusal that says nothing better: a shop that is down, a prefetch."""

ENDED_RETRY_S = 60
"""When to look again at a line that has ended; nobody expects it to go on."""

CRAWLER_RETRY_S = 3600
"""When a search engine may look again: it takes 503 for a passing state, and a launch is over in an hour or two."""

NOT_MODIFIED = 304

TICKET_COOKIE_S = 7 * 86_400
"""How long a browser keeps a ticket, whatever comes. The record alone judges when a place is lost: a cookie that ended
``ticket_keep`` after the join would end a wait that is longer, although its holder was heard all the time."""

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
"""``json.dumps`` makes an encoder for every call."""

_NO_STORE = (b"Cache-Control", b"no-store")
_HTML = (b"Content-Type", b"text/html; charset=utf-8")
_JSON = (b"Content-Type", b"application/json")
_PROBLEM = (b"Content-Type", b"application/problem+json")
_TEXT = (b"Content-Type", b"text/plain; charset=utf-8")
_NO_INDEX = (b"X-Robots-Tag", b"noindex")
_PLAIN = (b"X-Content-Type-Options", b"nosniff")


def pass_cookie_s(service: RoomService, entry_pass: Pass) -> int:
    """Return how long a browser keeps a pass: a session longer than it lasts, so that an ended one is known as such."""
    left_s = max(0, entry_pass.end_ms - service.now_ms()) / 1000
    return math.ceil(left_s + service.room.session_duration_s)


def ticket_cookie_s(room: Room) -> int:
    """Return how long a browser keeps a ticket."""
    return max(TICKET_COOKIE_S, int(room.ticket_keep_s))


def text(status: int, words: str, *extra: tuple[bytes, bytes]) -> Reply:
    """Return a short answer for machines and people alike."""
    return Reply(status, [_TEXT, _NO_STORE, _NO_INDEX, _PLAIN, *extra], f"{words}\n".encode())


def refused(status: int, words: str, service: RoomService, retry_s: int | None = None) -> Reply:
    """Return a short answer about a room, for a request that gets nothing there."""
    reply = text(status, words, _state(service.view.state))
    if retry_s is not None:
        reply.headers.append(_retry(retry_s))
    return reply


def told_json(
    service: RoomService, told: Told, extra: Mapping[str, object], cookies: Headers, status: int = 200
) -> Reply:
    """Return the ``me`` object, with ``extra`` beside it: a token for those who keep no cookies, for one."""
    headers = [*told_headers(told.state), *cookies, _retry(math.ceil(told.refresh_s))]
    return Reply(status, headers, told_body(service, told, extra))


def told_headers(state: VisitorState) -> Headers:
    """Return the headers of a ``me`` object, but for cookies and the time to come back."""
    return [_JSON, _NO_STORE, _NO_INDEX, _PLAIN, _state(state)]


def told_body(service: RoomService, told: Told, extra: Mapping[str, object]) -> bytes:
    """Return the ``me`` object as JSON, with ``extra`` at its end."""
    message = service.view.overrides.message
    more = "".join([f',"{name}":{"null" if value is None else _ENCODE(value)}' for name, value in extra.items()])
    return (
        f'{{"room":"{service.room.name}","state":"{told.state.value}","number":{_number(told.number)},'
        f'"place":{_number(told.place)},"ahead":{_number(told.ahead)},'
        f'"wait_s":{_range(told.wait_s)},'
        f'"refresh_s":{_plain(told.refresh_s)},"opens_at":{_number(service.opens_at_ms())},'
        f'"claim_by":{_number(told.claim_by)},"pass_until":{_number(told.pass_until)},'
        f'"message":{"null" if message is None else _ENCODE(message)}{more}}}'
    ).encode()


def shared_status(service: RoomService, etag: bytes | None) -> Reply:
    """Return what is the same for everybody, or 304 to who has it."""
    return _shared(service, service.shared_status, service.shared_etag, etag)


def shared_draws(service: RoomService, etag: bytes | None) -> Reply:
    """Return what everybody may know of the draws, or 304 to who has it."""
    return _shared(service, service.shared_draws, service.shared_draws_etag, etag)


def _shared(service: RoomService, body: bytes, tag: bytes, etag: bytes | None) -> Reply:
    headers = [
        (b"Cache-Control", b"public, max-age=1"),
        (b"ETag", tag),
        (b"Access-Control-Allow-Origin", b"*"),
        _state(service.view.state),
    ]
    # Compared weakly: a proxy that compresses on the way marks the tag so.
    if etag is not None and tag in (part.strip().removeprefix(b"W/") for part in etag.split(b",")):
        return Reply(NOT_MODIFIED, headers, body)  # which is not sent: only its length is said
    return Reply(200, [_JSON, *headers, _PLAIN, _NO_INDEX], body)


def seen_there(target: str, cookies: Headers) -> Reply:
    """Send a browser on to a path of this host, with what it was given."""
    location = (b"Location", local_url(target).encode())
    return Reply(303, [_NO_STORE, _NO_INDEX, _PLAIN, location, *cookies])


class Leaf(NamedTuple):
    """A waiting page that wants only a visitor's numbers, address and token: its sheet, status, header lines."""

    sheet: Sheet
    status: int
    head: bytes

    def reply(self, told: Told, page_url: str, cookie: bytes) -> Reply:
        """Return one visitor's page; ``cookie`` is a header line."""
        assert told.number is not None
        body = self.sheet.page(told.number, told.ahead, told.wait_s, page_url)
        return Reply(self.status, body=body, ready=self.head + cookie)


class Answers:
    """The answers that are pages, from one set of templates and in one language."""

    def __init__(self, pages: Pages, language: str = SOURCE) -> None:
        self._pages = pages
        self._language = language
        self._csp = (b"Content-Security-Policy", pages.csp)
        self._form_csp = (b"Content-Security-Policy", pages.form_csp)

    def waiting(
        self, service: RoomService, told: Told, page_url: str, cookies: Headers, *, form: bool, scripted: bool
    ) -> Reply:
        """Return the waiting page. ``scripted``: the browser showed that it runs scripts, which keep it up to date."""
        assert told.number is not None
        sheet, headers = self._waiting(service, told, form=form, scripted=scripted)
        page = sheet.page(told.number, told.ahead, told.wait_s, page_url)
        return Reply(service.room.queueing_status_code, [*headers, *cookies], page)

    def leaf(self, service: RoomService, told: Told, *, form: bool, scripted: bool) -> Leaf:
        """Return the waiting page of all who are told the same, but for numbers, address and token."""
        sheet, headers = self._waiting(service, told, form=form, scripted=scripted)
        return Leaf(sheet, service.room.queueing_status_code, b"".join([b"%b: %b\r\n" % field for field in headers]))

    def _waiting(self, service: RoomService, told: Told, *, form: bool, scripted: bool) -> tuple[Sheet, Headers]:
        refresh_s = math.ceil(told.refresh_s)
        room = service.room
        sheet = self._pages.sheet(
            WaitingView(
                room=room.name,
                state=told.state,
                number=0,
                ahead=None,
                wait_s=None,
                refresh_s=refresh_s,
                page_url="",
                me_url=f"/.waitroom/{room.name}/me",
                leave_url=f"/.waitroom/{room.name}/leave",
                claim_by=told.claim_by,
                message=service.view.overrides.message,
                form_note=form,
                jitter=room.refresh.jitter,
                opens_s=service.opens_s() if told.state is VisitorState.PREQUEUE else None,
                place=told.place,
                undrawn=service.view.undrawn,
                at_random=service.at_random,
            ),
            self._language,
        )
        headers = [*self._headers(told.state), _retry(refresh_s)]
        if not scripted:
            headers.append((b"Refresh", b"%d" % refresh_s))
        return sheet, headers

    def full(self, service: RoomService, page_url: str) -> Reply:
        """Return the page for whom the line has no place: 503, and when to try again."""
        retry_s = math.ceil(service.room.refresh.far_s)
        page = self._pages.full(FullView(page_url, retry_s, service.view.overrides.message), self._language)
        return Reply(503, [*self._headers(VisitorState.FULL), _retry(retry_s)], page)

    def ended(self, service: RoomService, state: VisitorState, page_url: str) -> Reply:
        """Return the page for whom there is neither entry nor line: rejected, closed, or sold out for good."""
        page = self._pages.closed(ClosedView(page_url, state, service.view.overrides.message), self._language)
        retry_s = RETRY_S if state is VisitorState.REJECTED else ENDED_RETRY_S
        return Reply(503, [*self._headers(state), _retry(retry_s)], page)

    def away(self, page_url: str) -> Reply:
        """Return the page for who is new while nobody can be given a place; it tries again by itself."""
        page = self._pages.notice(NoticeView(Notice.AWAY, page_url, RETRY_S), self._language)
        return Reply(503, [*self._headers(VisitorState.NONE), _retry(RETRY_S)], page)

    def busy(self, page_url: str, retry_s: int) -> Reply:
        """Return the page for an address that took its share of places; it tries again by itself."""
        page = self._pages.notice(NoticeView(Notice.BUSY, page_url, retry_s), self._language)
        return Reply(429, [*self._headers(VisitorState.NONE), _retry(retry_s)], page)

    def form(self, view: FormView) -> Reply:
        """Return the page that sends another site's form once more. To whoever reads no pages: it was not sent on."""
        headers = self._headers(VisitorState.NONE, self._form_csp)
        return Reply(429, [*headers, _retry(RETRY_S)], self._pages.form(view, self._language))

    def form_lost(self, page_url: str) -> Reply:
        """Return the page for a form from another site that cannot be sent once more; it made no place."""
        page = self._pages.notice(NoticeView(Notice.FORM, page_url), self._language)
        return Reply(429, [*self._headers(VisitorState.NONE), _retry(RETRY_S)], page)

    def invite(self, page_url: str) -> Reply:
        """Return the page of an invitation that is good, with the button that uses it."""
        # Its button may lead to wherever the shop leads, like that of a form; its address is nobody else's business.
        headers = self._headers(VisitorState.NONE, self._form_csp, b"strict-origin")
        return Reply(200, headers, self._pages.invite(page_url, self._language))

    def spent(self, page_url: str) -> Reply:
        """Return the page of an invitation that is not good any more, or never was."""
        return Reply(
            410,
            self._headers(VisitorState.NONE),
            self._pages.notice(NoticeView(Notice.SPENT, page_url), self._language),
        )

    def nobody(self, page_url: str) -> Reply:
        """Return the page for who is not signed in, where places belong to accounts."""
        page = self._pages.notice(NoticeView(Notice.NOBODY, page_url), self._language)
        return Reply(403, self._headers(VisitorState.NONE), page)

    def left(self, page_url: str, cookies: Headers) -> Reply:
        """Return the page for who gave up the place."""
        page = self._pages.notice(NoticeView(Notice.LEFT, page_url), self._language)
        return Reply(200, [*self._headers(VisitorState.NONE), *cookies], page)

    def origin_failed(
        self, status: int, page_url: str, cookies: Headers, *, document: bool, again: bool, place_kept: bool
    ) -> Reply:
        """Return what stands in for a shop that does not answer. ``again``: repeating the request is safe."""
        more = [_retry(RETRY_S), *([_state(VisitorState.ADMITTED)] if place_kept else []), *cookies]
        if not document:
            return text(status, "The shop does not answer. Try again in a moment.", *more)
        page = self._pages.error(ErrorView(page_url, RETRY_S if again else None, place_kept), self._language)
        return Reply(status, [_HTML, _NO_STORE, _NO_INDEX, _PLAIN, self._csp, *more], page)

    @staticmethod
    def preflight(service: RoomService, allowed: Headers | None) -> Reply:
        """Return the answer to the question of another origin's page; ``allowed`` None: it may not call."""
        if allowed is None:
            reply = refused(403, "Pages of this origin may not call this part of the shop by script.", service)
        else:
            reply = Reply(204, [_NO_STORE, _NO_INDEX, _state(service.view.state), *allowed])
        reply.headers.append(cors.VARY)
        return reply

    @staticmethod
    def turned_away(service: RoomService) -> Reply:
        """Return the refusal for a request that no person looks at."""
        room = service.room
        join_url = f"/.waitroom/{room.name}/join"
        detail = (
            "This part of the shop has a waiting room. Open the page in a browser to join the line, or POST to "
            "join_url and come back with the ticket."
        )
        body = problem(429, "Waiting room", detail, join_url, RETRY_S)
        headers = [_PROBLEM, _NO_STORE, _NO_INDEX, _PLAIN, _state(service.view.state), _retry(RETRY_S)]
        return Reply(429, headers, body)

    def _headers(
        self, state: VisitorState, csp: tuple[bytes, bytes] | None = None, referrer: bytes = b"same-origin"
    ) -> Headers:
        told = (b"Referrer-Policy", referrer)
        return [_HTML, _NO_STORE, _NO_INDEX, _PLAIN, csp or self._csp, told, _state(state)]


def _state(state: str) -> tuple[bytes, bytes]:
    return (b"Waitroom-State", state.encode())


def _retry(seconds: int) -> tuple[bytes, bytes]:
    return (b"Retry-After", b"%d" % seconds)


def _number(value: int | None) -> int | str:
    return "null" if value is None else value


def _range(seconds: tuple[int, int] | None) -> str:
    return "null" if seconds is None else f"[{seconds[0]},{seconds[1]}]"


def _plain(seconds: float) -> float:
    """Return whole seconds as an integer: ``2``, not ``2.0``."""
    return int(seconds) if seconds == int(seconds) else round(seconds, 3)
