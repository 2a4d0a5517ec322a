"""The desk: one request's way from the wire to a verdict.

``web/ways.py`` says which way it goes. A host that no site names is refused; a path of ours is answered; a request that
no room covers goes to the origin at once; for the others the tokens are read, the gate decides, and its decision is
carried out. Only a join, a claim, a leave and an ended pass await anything (the store); everything else is answered
before the wire's callback returns. When the store does not answer, whoever needed it is told to come back in a moment,
and keeps what they have.

Nothing here knows how bytes are framed, and nothing here decides who may enter: that is ``web/wire.py`` and
``core/gate.py``.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, assert_never
from urllib.parse import quote, urlencode

from waitroom import stats
from waitroom.core import commands, cors, forms, members
from waitroom.core import headers as policy
from waitroom.core.gate import Admit, Forward, Join, Refusal, Shown, TurnAway, Wait
from waitroom.core.routing import OwnKind
from waitroom.crashing import reach
from waitroom.errors import StoreAway
from waitroom.model import Pass, RoomState, Ticket, VisitorState
from waitroom.ports import Stock
from waitroom.service import Carried, Told
from waitroom.web import answers, cloudflare, framing, ways
from waitroom.web.answers import Answers
from waitroom.web.cookies import RoomCookie
from waitroom.web.messages import Gather, Relay, Reply
from waitroom.web.pages import FormView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from waitroom.clock import Clock
    from waitroom.core.assertion import AssertionSigner
    from waitroom.core.gate import Decision
    from waitroom.core.queueing import Claimed, Joined
    from waitroom.core.routing import OwnPath, Route
    from waitroom.errors import UpstreamError
    from waitroom.model import Address, Invite, Room, Settings
    from waitroom.service import RoomService
    from waitroom.upstream import Origin
    from waitroom.web.answers import Leaf
    from waitroom.web.joinlimit import JoinLimit
    from waitroom.web.messages import Headers, Request, Verdict

logger = logging.getLogger("waitroom.desk")

IDEMPOTENCY_KEY_CHARS_MAX = 200

SPEAKERS_MAX = 1_000
"""Peers of which it is logged that they speak for others; more are only counted."""

_SAFE = (b"GET", b"HEAD")
_REPEATABLE = (b"GET", b"HEAD", b"OPTIONS")
_POSTED = (OwnKind.JOIN, OwnKind.CLAIM, OwnKind.MORE, OwnKind.LEAVE)
_REFUSED = {
    VisitorState.FULL: Refusal.FULL,
    VisitorState.REJECTED: Refusal.REJECTED,
    VisitorState.CLOSED: Refusal.CLOSED,
    VisitorState.SOLD_OUT: Refusal.SOLD_OUT,
}


_NOTHING = Carried()


@dataclass(slots=True)
class Visit:
    """One request to a room: what was read from it, gathered so that the steps below can share it."""

    request: Request
    service: RoomService
    carried: Carried
    client: str
    https: bool
    by_cookie: bool
    document: bool
    looked_up: bool = False
    arrival: Arrival | None = None


_TELLING = (
    b"host",
    b"accept",
    b"accept-language",
    b"origin",
    b"purpose",
    b"referer",
    b"sec-fetch-dest",
    b"sec-fetch-mode",
    b"sec-fetch-site",
    b"sec-purpose",
    b"user-agent",
    b"x-moz",
    b"x-purpose",
    b"x-requested-with",
    b"access-control-request-method",
)
"""The headers that say something about who comes without a token. ``Arrival`` is made from these alone, so that it is
true of every request that has them in common, whatever the address: each advertisement has another."""

_ARRIVALS_MAX = 1_024
_ARRIVAL_BYTES_MAX = 2_048
"""How many arrivals are kept, and of how long a key: some 4 MB at most, whoever sends what."""


@dataclass(slots=True)
class Arrival:
    """What a request without a token says, whoever sends it: read once for a crowd that comes with the same words.

    ``cookie`` is the header line that gives a ticket, before and after it. ``decision`` and ``leaves`` were worked out
    from the room's view number ``views``, and hold as long as that is the last.
    """

    shown: Shown
    answers: Answers
    scripted: bool
    cookie: tuple[bytes, bytes]
    views: int = -1
    decision: Decision | None = None
    leaves: dict[tuple[VisitorState, float, int | None], Leaf] = field(default_factory=dict)

    def decide(self, service: RoomService) -> Decision:
        """Return the gate's decision; without a token it is the same until the view changes."""
        if self.decision is None or self.views != service.views:
            self.views, self.decision = service.views, service.decide(self.shown)
            self.leaves = {}
        return self.decision

    def page(self, service: RoomService, told: Told, page_url: str, ticket: str) -> Reply:
        """Return the waiting page of whoever has just joined, and goes to ``page_url`` at the turn."""
        self.decide(service)
        key = (told.state, told.refresh_s, service.opens_s())
        leaf = self.leaves.get(key)
        if leaf is None:
            leaf = self.answers.leaf(service, told, form=not self.shown.safe, scripted=self.scripted)
            self.leaves[key] = leaf
        before, after = self.cookie
        return leaf.reply(told, page_url, before + ticket.encode() + after)


class Desk:
    """Answers requests for one worker. ``origins`` has every address that the settings forward to.

    ``pages`` has each room's answers in each of its languages, and under no name those for what no room covers. The
    first language is for who asks for none of them.
    """

    def __init__(
        self,
        settings: Settings,
        services: Mapping[str, RoomService],
        origins: Mapping[Address, Origin],
        pages: Mapping[str, Mapping[str, Answers]],
        joins: JoinLimit,
        *,
        signer: AssertionSigner,
        clock: Clock,
    ) -> None:
        self.draining = False
        self.counts: Counter[tuple[str, str]] = Counter()
        self._services = services
        self._origins = origins
        self._pages = pages
        self._joins = joins
        self._signer = signer
        self._clock = clock
        self._trusted = settings.trusted_proxies
        # Every request of a connection asks again, and a list of a CDN's networks is long.
        self._is_proxy = lru_cache(maxsize=4096)(partial(policy.is_trusted, trusted=settings.trusted_proxies))
        self._ways = ways.Ways(settings)
        self._cookies = {room.name: RoomCookie(room) for room in settings.rooms}
        self._callers = {room.name: frozenset(map(str.encode, room.allowed_origins)) for room in settings.rooms}
        self._our_cookies: frozenset[bytes] = frozenset().union(*(cookie.names for cookie in self._cookies.values()))
        self._secret_headers = frozenset(
            rule.header.name.encode() for room in settings.rooms for rule in room.bypass if rule.header is not None
        )
        named = (room.member_header for room in settings.rooms)
        self._identities = frozenset(name for name in named if name is not None)
        self._speakers: set[str] = set()
        self._arrivals: dict[tuple[object, ...], Arrival] = {}
        self._written = lru_cache(maxsize=4096)(lambda peer: policy.client_address((), peer, ())[0])

    def __call__(self, request: Request) -> Verdict | Awaitable[Verdict]:
        """Return what is to be done with ``request``."""
        way = self._ways.way(request)
        match way:
            case ways.Forward(route):
                if route.room is None:
                    return self._relay(request)
                return self._go_around(request, route)
            case ways.Ours(own):
                return self._own(request, own)
            case ways.Gate(route):
                return self._enter(request, route)
            case framing.Refusal():
                client, _ = policy.client_address(request.headers, request.peer, self._trusted)
                self._note(way.reason, "", client, host=request.host)
                return answers.text(way.status, way.text)
            case _:
                assert_never(way)

    def judged(self) -> dict[str, float]:
        """Return how many of the waits that were told are judged, and how many held, under the names of ``stats``."""
        told = {name: service.estimates for name, service in self._services.items()}
        return {
            **stats.by("estimates_judged_total", {room: one.judged for room, one in told.items()}, "room"),
            **stats.by("estimates_held_total", {room: one.held for room, one in told.items()}, "room"),
        }

    # -- requests to a room -------------------------------------------------------------------------------------

    def _go_around(self, request: Request, route: Route) -> Relay:
        """Send a request on that a bypass lets around its room."""
        assert route.room is not None
        self._note("bypass", route.room.name, why=route.rule)
        service = self._services[route.room.name]
        service.go_around("bypass", route.rule)

        def edit(status: int, headers: Headers) -> Headers:
            kept = self._plain_edit(status, headers)
            if service.view.state is RoomState.OPEN or service.room.cacheable:
                return kept
            # What only some may have without waiting is nothing for a cache to hand to everybody.
            return policy.private_cache(kept)

        return self._relay(request, route.room.name, edit=edit if route.personal else None)

    def _enter(self, request: Request, route: Route) -> Verdict | Awaitable[Verdict]:
        assert route.room is not None
        if route.for_another:
            self._note_speaker(request, route.room.name)
        visit = self._arrive(request, self._services[route.room.name])
        if visit is not None:
            assert visit.arrival is not None
            return self._act(visit, visit.arrival.decide(visit.service))
        visit = self._visit(request, self._services[route.room.name])
        if visit.carried.newer:
            return self._away(visit, "its generation is not known yet")
        ended = visit.carried.ended
        if ended is not None and visit.carried.entry_pass is None:
            return self._look_up(visit, ended)
        return self._decide(visit)

    async def _look_up(self, visit: Visit, ended: Pass) -> Verdict:
        """Ask the store once for an ended pass, before it is refused: another worker may have renewed it."""
        try:
            held = await visit.service.look_up(ended)
        except StoreAway as error:
            return self._away(visit, str(error))
        if held is not None:
            visit.carried, visit.looked_up = visit.carried._replace(entry_pass=held, ended=None), True
        verdict = self._decide(visit)
        return verdict if isinstance(verdict, Reply | Relay | Gather) else await verdict

    def _decide(self, visit: Visit) -> Verdict | Awaitable[Verdict]:
        request = visit.request
        shown = Shown(
            document=visit.document,
            safe=request.method in _SAFE,
            prefetch=policy.is_prefetch(request.fields),
            crawler=visit.document and visit.carried.ticket is None and policy.is_crawler(request.fields),
            preflight=cors.is_preflight(request.method, request.fields),
            from_here=visit.by_cookie or policy.same_site(request.fields, request.host) is not False,
            ticket=visit.carried.ticket,
            entry_pass=visit.carried.entry_pass,
        )
        return self._act(visit, visit.service.decide(shown))

    def _act(self, visit: Visit, decision: Decision) -> Verdict | Awaitable[Verdict]:
        match decision:
            case Forward():
                if visit.looked_up and decision.entry_pass is not None:
                    return self._let_in(visit, decision.entry_pass)
                return self._forward(visit, decision)
            case Join():
                return self._join(visit, form=decision.form)
            case Wait():
                told = visit.service.waiting(decision.ticket.number, VisitorState.WAITING, whole=True)
                return self._waiting(visit, told, self._resigned(visit), form=decision.form)
            case Admit():
                return self._admit(visit, decision)
            case TurnAway(Refusal.FULL) if visit.service.room.member_header is not None:
                return self._join(visit, form=visit.request.method not in _SAFE)  # it may have a place: the store knows
            case TurnAway():
                return self._turn_away(visit, decision.reason)
            case _:
                assert_never(decision)

    def _arrive(self, request: Request, service: RoomService) -> Visit | None:
        """Return the visit of somebody who shows no token of the room's, good or bad; None of anybody else."""
        fields = request.fields
        cookie = self._cookies[service.room.name]
        if b"waitroom-ticket" in fields or b"waitroom-pass" in fields:
            return None
        if b"cookie" in fields and policy.cookies_sent(request.headers, cookie.names):
            return None
        if self._is_proxy(request.peer):
            client, https = policy.client_address(request.headers, request.peer, self._trusted)
        else:
            client, https = self._written(request.peer), False
        told = tuple(map(fields.get, _TELLING))
        key = (service.room.name, request.method, request.host, https, *told)
        arrival = self._arrivals.get(key)
        if arrival is None:
            said = {name: value for name, value in zip(_TELLING, told, strict=True) if value is not None}
            arrival = self._read_arrival(replace(request, target=b"", headers=[], fields=said), service, https=https)
            if sum(map(len, said.values())) <= _ARRIVAL_BYTES_MAX:
                if len(self._arrivals) == _ARRIVALS_MAX:
                    del self._arrivals[next(iter(self._arrivals))]
                self._arrivals[key] = arrival
        return Visit(
            request,
            service,
            _NOTHING,
            client,
            https,
            by_cookie=False,
            document=arrival.shown.document,
            arrival=arrival,
        )

    def _read_arrival(self, request: Request, service: RoomService, *, https: bool) -> Arrival:
        """Read what a request says of itself that brings no token."""
        room, fields = service.room, request.fields
        document, safe = policy.is_document(request.method, fields), request.method in _SAFE
        shown = Shown(
            document=document,
            safe=safe,
            prefetch=policy.is_prefetch(fields),
            crawler=document and policy.is_crawler(fields),
            preflight=cors.is_preflight(request.method, fields),
            from_here=policy.same_site(fields, request.host) is not False,
        )
        form = self._cookies[room.name].form(request.host, https=https)
        return Arrival(
            shown,
            self._in_words(request, room.name),
            _is_scripted(request),
            form.around(answers.ticket_cookie_s(room)),
        )

    def _visit(self, request: Request, service: RoomService) -> Visit:
        """Read what a request carries for a room."""
        room = service.room
        client, https = policy.client_address(request.headers, request.peer, self._trusted)
        cookie = self._cookies[room.name]
        names = cookie.form(request.host, https=https).names
        cookies = policy.cookies(request.headers, names)
        by_header: list[tuple[str, type[Ticket | Pass] | None]] = []
        for name, kind in ((b"waitroom-ticket", Ticket), (b"waitroom-pass", Pass)):
            if (value := request.fields.get(name)) is not None:
                by_header.append((value.decode("latin-1"), kind))
        carried = _read(service, cookies, by_header)
        if carried.ticket is None and carried.entry_pass is None and not carried.newer:
            others = policy.cookies(request.headers, cookie.names - names)
            if others:
                cookies = [*cookies, *others]
                carried = _read(service, cookies, by_header)
        for reason in carried.invalid:
            self._note(f"token-{reason}", room.name, client)
        document = policy.is_document(request.method, request.fields)
        return Visit(request, service, carried, client, https, bool(cookies), document)

    def _forward(self, visit: Visit, decision: Forward, cookies: Headers | None = None) -> Relay:
        """Send the request on, with what the origin may know of its visitor."""
        room, service, request = visit.service.room, visit.service, visit.request
        if request.method == b"POST":
            first = forms.as_first_sent(room.name, request.headers, _sender(request))
            request = request if first is None else replace(request, headers=first)
        entry_pass = decision.entry_pass
        ours: Headers = []
        if entry_pass is None:
            self._note(decision.reason, room.name, visit.client)
            service.go_around(decision.reason)
        else:
            ours = [
                (b"Waitroom-Room", room.name.encode()),
                (b"Waitroom-Number", b"%d" % entry_pass.number),
                (b"Waitroom-Visitor", entry_pass.visitor.encode()),
                (b"Waitroom-Admitted-At", b"%d" % entry_pass.admitted_ms),
                (b"Waitroom-Assertion", self._assertion(visit.request, entry_pass)),
            ]
        due = cookies or []

        def edit(status: int, headers: Headers) -> Headers:
            from_origin = policy.from_origin(headers, self._our_cookies)
            kept = from_origin.headers
            if entry_pass is not None and from_origin.commands:
                self._heed(service, entry_pass, from_origin.commands)
            given = due
            renewed = service.renewed(entry_pass) if entry_pass is not None and visit.by_cookie and not given else None
            private = visit.document and service.view.state is not RoomState.OPEN and not room.cacheable
            if given or private:
                kept = policy.private_cache(kept)
            # A new end rides only on an answer that no shared cache may hand to somebody else.
            if renewed is not None and not policy.shared_cache_may_keep(status, kept):
                given = self._pass_cookies(visit, renewed)
            return [*kept, *given]

        return self._relay(request, room.name, ours, edit, due, place_kept=entry_pass is not None)

    def _join(self, visit: Visit, *, form: bool) -> Verdict | Awaitable[Verdict]:
        """Give a place, or let straight in; unless this address took its share already, or it is for accounts only."""
        member = self._member(visit)
        if isinstance(member, members.Unknown):
            return self._nobody(visit, member)
        wait_s = self._joins.wait_s(visit.client, self._clock.monotonic_s()) if self._joins.limits else 0.0
        if wait_s:
            self._note("joins-per-client", visit.service.room.name, visit.client)
            return self._pages_for(visit).busy(self._page_url(visit.request, form=form), math.ceil(wait_s))
        return self._joined(visit, member, form=form)

    def _member(self, visit: Visit) -> bytes | members.Unknown | None:
        """Return the account whose request this is; None where places belong to no account."""
        name = visit.service.room.member_header
        if name is None:
            return None
        return members.read(visit.request.headers, name, trusted=self._is_proxy(visit.request.peer))

    def _nobody(self, visit: Visit, why: members.Unknown) -> Reply:
        """Answer who is not signed in, where places belong to accounts: there is none for them."""
        self._note(why, visit.service.room.name, visit.client)
        if not visit.document:
            words = "Places in this line belong to accounts; sign in first."
            return self._readable(visit.request, visit.service.room.name, answers.refused(403, words, visit.service))
        return self._pages_for(visit).nobody(self._page_url(visit.request, form=visit.request.method not in _SAFE))

    def _heed(self, service: RoomService, entry_pass: Pass, said: tuple[tuple[bytes, bytes], ...]) -> None:
        """Do what the origin says on an answer to somebody inside."""
        found = commands.read(said)
        room = service.room.name
        if found.revoke:
            service.revoke(entry_pass)
            self._note("revoked", room, number=entry_pass.number)
        if found.extend_ms:
            service.extend(entry_pass, found.extend_ms)
        if found.stock is not None:
            service.say_stock(Stock(*found.stock))
        if found.ended is not None:
            service.end_line(found.ended)
            self._note(f"origin-{found.ended}", room, number=entry_pass.number)
        for word in found.unknown:
            logger.warning("the origin says %s", word, extra={"reason": "unknown-command", "room": room})

    def _joined(self, visit: Visit, member: bytes | None, *, form: bool) -> Awaitable[Verdict]:
        """Join with whoever else comes now. No task: what is made of it is made when the commit is done."""
        service = visit.service

        def made(joined: Joined, told: Told) -> Verdict:
            reach("join-answered")
            if joined.end_ms:
                return self._let_in(visit, service.joined_pass(joined))
            if not joined.number:
                return self._turn_away(visit, _REFUSED[told.state])
            ticket = service.joined_text(joined)
            if visit.arrival is not None:
                return visit.arrival.page(service, told, self._page_url(visit.request, form=form), ticket)
            return self._waiting(visit, told, self._ticket_cookies(visit, ticket), form=form)

        return service.joining(made, lambda error: self._away(visit, str(error)), member=member)

    async def _admit(self, visit: Visit, decision: Admit) -> Verdict:
        """Trade the ticket for a pass, and forward the very request that brought it."""
        ticket, service = decision.ticket, visit.service
        claimed = await self._claim(visit, ticket)
        if claimed.end_ms:
            return self._let_in(visit, service.claimed_pass(ticket, claimed))
        if claimed.gone:
            verdict = self._join(visit, form=decision.form)
            return verdict if isinstance(verdict, Reply | Relay | Gather) else await verdict
        return self._waiting(visit, self._not_yet(visit, ticket, claimed, whole=True), [], form=decision.form)

    async def _claim(self, visit: Visit, ticket: Ticket) -> Claimed:
        """Return what a claim comes to; while the store is away, nothing yet."""
        try:
            claimed = await visit.service.claim(ticket)
        except StoreAway as error:
            self._note("store-away", visit.service.room.name, visit.client, why=str(error))
            claimed = visit.service.unclaimed(ticket)
        reach("claim-answered")
        return claimed

    def _let_in(self, visit: Visit, entry_pass: Pass) -> Relay:
        """Forward the request that brought a place, or found none needed, and give the pass with its answer."""
        return self._forward(visit, Forward("pass", entry_pass), self._pass_cookies(visit, entry_pass))

    def _away(self, visit: Visit, why: str) -> Reply:
        """Answer who is new, or needs the record, while it is away: no place, no number, and nothing taken away."""
        self._note("store-away", visit.service.room.name, visit.client, why=why)
        if not visit.document:
            reply = answers.refused(503, "Try again in a moment.", visit.service, answers.RETRY_S)
            return self._readable(visit.request, visit.service.room.name, reply)
        return self._pages_for(visit).away(self._page_url(visit.request, form=visit.request.method not in _SAFE))

    def _not_yet(self, visit: Visit, ticket: Ticket, claimed: Claimed, *, whole: bool) -> Told:
        """Return what a visitor is told whose claim found no slot, or the minute spent."""
        service = visit.service
        state = VisitorState.CALLED if claimed.called else VisitorState.MISSED
        told = service.waiting(ticket.number, state, whole=whole)
        if claimed.retry_ms:
            retry_s = claimed.retry_ms / 1000
            told = told._replace(refresh_s=max(1.0, math.ceil(retry_s) if whole else retry_s))
        return told

    def _waiting(self, visit: Visit, told: Told, cookies: Headers, *, form: bool) -> Reply:
        page_url = self._page_url(visit.request, form=form)
        scripted = _is_scripted(visit.request)
        return self._pages_for(visit).waiting(visit.service, told, page_url, cookies, form=form, scripted=scripted)

    def _told_where(self, visit: Visit) -> Reply | None:
        """Tell an app that asks for a page's address as JSON where its visitor stands, if they have a place."""
        request, service = visit.request, visit.service
        if visit.carried.ticket is None or request.method not in _SAFE or not policy.prefers_json(request.fields):
            return None
        told = service.told(visit.carried)
        if told.state is VisitorState.NONE:
            return None
        extra = {"cfWaitingRoom": cloudflare.waiting_room(service, told, self._clock.wall_s())}
        return answers.told_json(service, told, extra, self._resigned(visit), service.room.queueing_status_code)

    def _turn_away(self, visit: Visit, refusal: Refusal) -> Reply | Gather:
        self._note(refusal, visit.service.room.name, visit.client)
        page_url = self._page_url(visit.request, form=visit.request.method not in _SAFE)
        match refusal:
            case Refusal.PREFETCH:
                words = "This page is not made ahead of time; open it."
                return answers.refused(503, words, visit.service, answers.RETRY_S)
            case Refusal.CRAWLER:
                words = "People wait in line here. Please come back later."
                return answers.refused(503, words, visit.service, answers.CRAWLER_RETRY_S)
            case Refusal.PREFLIGHT:
                callers = self._callers[visit.service.room.name]
                allowed = cors.answer_to_preflight(visit.request.fields, callers, framing.METHODS)
                return Answers.preflight(visit.service, allowed)
            case Refusal.NOT_A_DOCUMENT:
                reply = self._told_where(visit) or Answers.turned_away(visit.service)
                return self._readable(visit.request, visit.service.room.name, reply)
            case Refusal.CROSS_SITE_FORM:
                return self._once_more(visit, page_url)
            case Refusal.FULL:
                return self._pages_for(visit).full(visit.service, page_url)
            case Refusal.REJECTED:
                return self._pages_for(visit).ended(visit.service, VisitorState.REJECTED, page_url)
            case Refusal.CLOSED:
                return self._pages_for(visit).ended(visit.service, VisitorState.CLOSED, page_url)
            case Refusal.SOLD_OUT:
                return self._pages_for(visit).ended(visit.service, VisitorState.SOLD_OUT, page_url)
            case _:
                assert_never(refusal)

    def _once_more(self, visit: Visit, page_url: str) -> Reply | Gather:
        """Have another site's form sent again from here, where that is the same form."""
        request = visit.request
        if not forms.can_be_read(request.fields):
            return self._pages_for(visit).form_lost(page_url)

        def reply(body: bytes | None) -> Reply:
            fields = None if body is None else forms.read(body)
            if fields is None:
                return self._pages_for(visit).form_lost(page_url)
            trail = forms.trail(visit.service.room.name, request.headers)
            return self._pages_for(visit).form(FormView(request.target.decode("latin-1"), trail, fields))

        return Gather(forms.FORM_BYTES_MAX, reply)

    # -- paths of ours ------------------------------------------------------------------------------------------

    def _own(self, request: Request, own: OwnPath) -> Verdict | Awaitable[Verdict]:
        if own.kind is OwnKind.INVITE and request.method == b"POST":
            method = b"POST"
        else:
            method = b"POST" if own.kind in _POSTED else b"GET"
        if own.kind in {OwnKind.UNKNOWN, OwnKind.ASSET}:
            return answers.text(404, "There is nothing here.")
        if request.method != method and not (method == b"GET" and request.method == b"HEAD"):
            allowed = b"POST" if method == b"POST" else b"GET, HEAD"
            return answers.text(405, f"Use {method.decode()}.", (b"Allow", allowed))
        if own.kind is OwnKind.LIVE:
            return answers.text(200, "ok")
        if own.kind is OwnKind.READY:
            return self._ready()
        service = self._services.get(own.name)
        if service is None:
            return answers.text(404, "There is no such room.")
        if own.kind is OwnKind.NOW:
            return answers.shared_status(service, request.fields.get(b"if-none-match"))
        if own.kind is OwnKind.DRAW:
            return answers.shared_draws(service, request.fields.get(b"if-none-match"))
        visit = self._visit(request, service)
        if own.kind is OwnKind.ME:
            return self._me(visit, hidden=own.hidden)
        if own.kind is OwnKind.INVITE and method == b"GET":
            good = service.invite(own.code) is not None
            return self._pages_for(visit).invite(self._page_url(request, form=False)) if good else self._spent(visit)
        if (visit.by_cookie or visit.document) and policy.same_site(request.fields, request.host) is False:
            # A cookie travels with other sites' forms too: nobody else's page may spend or end a visitor's turn. And
            # where it does not travel, what the form is given would be set over the place that we cannot see.
            self._note("cross-site", service.room.name, visit.client)
            return answers.refused(403, "Not from another site.", service)
        if own.kind is OwnKind.JOIN:
            return self._api_join(visit)
        if own.kind is OwnKind.CLAIM:
            return self._api_claim(visit)
        if own.kind is OwnKind.MORE:
            return self._api_more(visit)
        if own.kind is OwnKind.INVITE:
            return self._redeem(visit, own.code)
        return self._leave(visit)

    def _redeem(self, visit: Visit, code: str) -> Verdict | Awaitable[Verdict]:
        """Use an invite; whoever is inside already keeps it."""
        if visit.carried.entry_pass is not None:
            return answers.seen_there(_front(visit.service.room), [])
        if visit.carried.newer:
            return self._away(visit, "its generation is not known yet")
        invite = visit.service.invite(code)
        member = self._member(visit)
        if isinstance(member, members.Unknown):
            return self._nobody(visit, member)
        return self._spent(visit) if invite is None else self._redeemed(visit, invite, member)

    async def _redeemed(self, visit: Visit, invite: Invite, member: bytes | None) -> Verdict:
        service, ticket = visit.service, visit.carried.ticket
        try:
            joined = await service.redeem(invite, ticket, member)
        except StoreAway as error:
            return self._away(visit, str(error))
        if joined.spent:
            return self._spent(visit)
        if not joined.number:
            return self._turn_away(visit, _REFUSED[service.refused()])
        self._note("invited", service.room.name, visit.client, number=joined.number)
        if joined.end_ms:
            cookies = self._pass_cookies(visit, service.joined_pass(joined))
        elif ticket is not None and joined.number == ticket.number:
            cookies = []  # the place they had, in both lines now
        else:
            cookies = self._ticket_cookies(visit, service.joined_text(joined))
        return answers.seen_there(_front(service.room), cookies)

    def _spent(self, visit: Visit) -> Reply:
        self._note("invite-spent", visit.service.room.name, visit.client)
        return self._pages_for(visit).spent(_front(visit.service.room))

    def _ready(self) -> Reply:
        """Say whether this worker may serve, and what an operator would want to know if it does."""
        if self.draining:
            return answers.text(503, "draining", (b"Retry-After", b"1"))
        notes = [note for service in self._services.values() for note in service.notes()]
        return answers.text(200, "\n".join(["ok", *notes]))

    def _me(self, visit: Visit, *, hidden: bool) -> Reply:
        service, entry_pass = visit.service, visit.carried.entry_pass
        told = service.told(visit.carried, hidden=hidden)
        renewed = service.renewed(entry_pass) if entry_pass is not None and visit.by_cookie else None
        cookies = [] if renewed is None else self._pass_cookies(visit, renewed)
        if entry_pass is None and visit.carried.resign and told.state is not VisitorState.NONE:
            cookies += self._resigned(visit)
        return answers.told_json(service, told, {"receipt": service.receipt(visit.carried)}, cookies)

    def _api_join(self, visit: Visit) -> Reply | Awaitable[Reply]:
        """Join as an app does; whoever holds a place or a pass already is told about it and gets no other."""
        service, carried = visit.service, visit.carried
        if carried.entry_pass is not None:
            text = service.pass_text(carried.entry_pass)
            return answers.told_json(service, service.told(carried), {"pass": text}, [])
        if carried.ticket is not None:
            text = service.ticket_text(carried.ticket)
            return answers.told_json(service, service.told(carried), {"ticket": text}, [])
        member = self._member(visit)
        if isinstance(member, members.Unknown):
            return self._nobody(visit, member)
        key = visit.request.fields.get(b"idempotency-key")
        if key is not None and not 0 < len(key) <= IDEMPOTENCY_KEY_CHARS_MAX:
            words = f"Idempotency-Key: 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters."
            return answers.refused(400, words, service)
        view, room = service.view, service.room
        full = room.max_waiting is not None and view.present >= room.max_waiting and view.state is not RoomState.OPEN
        # With a key or an account it may be the repeat of a join that took the last place: the store knows.
        if full and key is None and member is None:
            return answers.told_json(service, Told(VisitorState.FULL, refresh_s=room.refresh.far_s), {}, [])
        wait_s = self._joins.wait_s(visit.client, self._clock.monotonic_s())
        if wait_s:
            self._note("joins-per-client", room.name, visit.client)
            words = "Too many joins from this address; try again later."
            return answers.refused(429, words, service, math.ceil(wait_s))
        return self._api_joined(visit, None if key is None else key.decode("latin-1"), member)

    async def _api_joined(self, visit: Visit, key: str | None, member: bytes | None) -> Reply:
        service = visit.service
        try:
            joined, told = await service.join(key, member)
        except StoreAway as error:
            return self._away(visit, str(error))
        reach("join-answered")
        if joined.end_ms:
            entry_pass = service.joined_pass(joined)
            extra = {"pass": service.pass_text(entry_pass)}
            return answers.told_json(service, told, extra, self._pass_cookies(visit, entry_pass))
        if not joined.number:
            return answers.told_json(service, told, {}, [])
        text = service.joined_text(joined)
        return answers.told_json(service, told, {"ticket": text}, self._ticket_cookies(visit, text))

    def _api_claim(self, visit: Visit) -> Reply | Awaitable[Reply]:
        service, carried = visit.service, visit.carried
        if carried.entry_pass is not None:
            extra = {"pass": service.pass_text(carried.entry_pass)}
            return answers.told_json(service, service.told(carried), extra, [])
        if carried.ticket is None:
            return answers.told_json(service, service.told(carried), {}, [])
        return self._api_claimed(visit, carried.ticket)

    async def _api_claimed(self, visit: Visit, ticket: Ticket) -> Reply:
        service = visit.service
        told = service.told(visit.carried)
        if told.state is VisitorState.WAITING:
            return answers.told_json(service, told, {}, [])
        claimed = await self._claim(visit, ticket)
        if claimed.gone:
            return answers.told_json(service, Told(VisitorState.NONE), {}, [])
        if not claimed.end_ms:
            return answers.told_json(service, self._not_yet(visit, ticket, claimed, whole=False), {}, [])
        entry_pass = service.claimed_pass(ticket, claimed)
        told = Told(VisitorState.ADMITTED, ticket.number, pass_until=claimed.end_ms)
        extra = {"pass": service.pass_text(entry_pass)}
        return answers.told_json(service, told, extra, self._pass_cookies(visit, entry_pass))

    def _api_more(self, visit: Visit) -> Reply:
        """Ask for more time before a turn is missed; when it ends then is told with the next look."""
        if visit.carried.ticket is not None and visit.carried.entry_pass is None:
            visit.service.more(visit.carried.ticket)
        return self._me(visit, hidden=False)

    async def _leave(self, visit: Visit) -> Reply:
        service = visit.service
        try:
            await service.leave(visit.carried)
        except StoreAway as error:  # it is asked for again until it is known; the visitor need not wait for that
            self._note("store-away", service.room.name, visit.client, why=str(error))
        reach("release-answered")
        cookies = self._cookies[service.room.name].taken(visit.request)
        if visit.document:
            return self._pages_for(visit).left(_came_from(visit.request) or "/", cookies)
        return answers.told_json(service, Told(VisitorState.NONE), {}, cookies)

    # -- how ----------------------------------------------------------------------------------------------------

    def _relay(
        self,
        request: Request,
        room: str = "",
        ours: Headers | None = None,
        edit: Callable[[int, Headers], Headers] | None = None,
        cookies: Headers | None = None,
        *,
        place_kept: bool = False,
    ) -> Relay:
        """Send a request to its origin; ``room`` is the name of the one that it passed, if any.

        ``cookies`` go out even with the page that stands in for a failed origin.
        """
        origin = self._origin(request, room)
        trusted = self._is_proxy(request.peer)
        client, https = policy.client_address(request.headers, request.peer, self._trusted if trusted else ())
        headers = policy.toward_origin(
            request.headers,
            peer=request.peer,
            trusted=trusted,
            scheme="https" if https else "http",
            host=request.fields.get(b"host", b""),
            ours=ours or (),
            cookie_names=self._our_cookies,
            withheld=self._secret_headers,
            identities=self._identities,
            tunnel=request.upgrade is not None,
            expect=True,
        )

        def broke(error: UpstreamError) -> None:
            known = {"why": error.why} if error.why else {}
            self._note(f"origin-{error.reason}", room, client, origin=str(origin.address), **known)

        def fallback(error: UpstreamError) -> Reply:
            broke(error)
            reply = self._in_words(request, room).origin_failed(
                error.status,
                self._page_url(request, form=request.method not in _SAFE),
                cookies or [],
                document=policy.is_document(request.method, request.fields),
                again=request.method in _REPEATABLE,
                place_kept=place_kept,
            )
            return self._readable(request, room, reply)

        return Relay(origin, headers, edit or self._plain_edit, fallback, broke)

    def _origin(self, request: Request, room: str) -> Origin:
        """Return what is behind the room, or behind the site where the room has no origin of its own."""
        address = self._ways.origin(request.host, room)
        assert address is not None, "a host of no site is refused before anything else"
        return self._origins[address]

    def _pages_for(self, visit: Visit) -> Answers:
        return self._in_words(visit.request, visit.service.room.name)

    def _in_words(self, request: Request, room: str) -> Answers:
        """Return a room's pages in its visitor's language."""
        spoken = self._pages[room]
        return spoken[policy.language(request.fields, tuple(spoken))]

    def _readable(self, request: Request, room: str, reply: Reply) -> Reply:
        """Return an answer about a room such that the page of an origin that may call the room can read it."""
        if callers := self._callers.get(room):
            reply.headers += cors.readable(request.fields, callers)
        return reply

    def _assertion(self, request: Request, entry_pass: Pass) -> bytes:
        """Sign what is being forwarded. The wall clock says when: it is the origin's own that will judge it."""
        host, now_ms = request.fields.get(b"host", b""), int(self._clock.wall_s() * 1000)
        return self._signer.sign(entry_pass, request.method, host, request.target, now_ms)

    def _plain_edit(self, _: int, headers: Headers) -> Headers:
        return policy.from_origin(headers, self._our_cookies).headers

    @staticmethod
    def _page_url(request: Request, *, form: bool) -> str:
        """Return where the page goes at the turn: this URL; for a form, the page it was on if that is of this host."""
        came_from = _came_from(request) if form else None
        return came_from or request.target.decode("latin-1")

    def _resigned(self, visit: Visit) -> Headers:
        """Return the cookie of a ticket signed anew, when its key is not the newest any more: one day that one goes."""
        ticket = visit.carried.ticket
        if ticket is None or not (visit.carried.resign and visit.by_cookie):
            return []
        return self._ticket_cookies(visit, visit.service.ticket_text(ticket))

    def _ticket_cookies(self, visit: Visit, ticket: str) -> Headers:
        return self._given(visit, ticket, answers.ticket_cookie_s(visit.service.room))

    def _pass_cookies(self, visit: Visit, entry_pass: Pass) -> Headers:
        max_age_s = answers.pass_cookie_s(visit.service, entry_pass)
        return self._given(visit, visit.service.pass_text(entry_pass), max_age_s)

    def _given(self, visit: Visit, token: str, max_age_s: int) -> Headers:
        cookie = self._cookies[visit.service.room.name]
        return cookie.given(visit.request, token, max_age_s, https=visit.https)

    def _note_speaker(self, request: Request, room: str) -> None:
        """Count a peer that would hold a bypass and speaks for somebody we are not told of; log each peer once."""
        listed = policy.is_trusted(request.peer, self._trusted)
        reason = "unnamed-client" if listed else "unlisted-proxy"
        if request.peer in self._speakers or len(self._speakers) == SPEAKERS_MAX:
            self.counts[reason, room] += 1
            return
        self._speakers.add(request.peer)
        why = "it does not say for whom it asks" if listed else "it speaks for others, and is in no trusted_proxies"
        self._note(reason, room, request.peer, why=f"no bypass holds for it: {why}")

    def _note(self, reason: str, room: str, client: str = "", **known: object) -> None:
        """Count what was not simply forwarded, and log it: at most ten lines a second a reason."""
        self.counts[reason, room] += 1
        logger.info("%s", reason, extra={"reason": reason, "room": room, "client": client, **known})


def _front(room: Room) -> str:
    """Return where the room's pages begin, as its first rule names it."""
    rule = room.match[0]
    path = quote(rule.path, safe="/!$&'()*+,=:@")  # a rule has it decoded
    return f"{path}?{urlencode(rule.query)}" if rule.query else path


def _read(service: RoomService, cookies: list[str], by_header: list[tuple[str, type[Ticket | Pass] | None]]) -> Carried:
    return service.read([*((text, None) for text in cookies), *by_header]) if cookies or by_header else Carried()


def _is_scripted(request: Request) -> bool:
    """Whether a browser showed that it runs scripts, which keep a page up to date."""
    return b"sec-fetch-mode" in request.fields or b"sec-fetch-site" in request.fields


def _came_from(request: Request) -> str | None:
    """Return the path of the shop's page of this host that sent a form; None where nothing says so."""
    path = _sender(request)
    return None if path is None or path.startswith(ways.OWN) else path.decode("latin-1")


def _sender(request: Request) -> bytes | None:
    """Return the path of the page of this host that sent a request."""
    return policy.path_on(request.fields.get(b"referer", b""), request.fields.get(b"host", b""))
