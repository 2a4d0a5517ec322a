"""Joins by the thousand: what they ask of the record, and that what is made once for many is right for each."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rooms import room

from waitroom.build import pages_of
from waitroom.clock import SystemClock
from waitroom.config import load
from waitroom.core.assertion import AssertionSigner
from waitroom.core.tokens import Keyring
from waitroom.errors import StoreAway
from waitroom.model import Refresh, Ticket
from waitroom.service import Batch, RoomService
from waitroom.store.memory import MemoryStore
from waitroom.store.notes import Notes
from waitroom.store.remote import RemoteStore
from waitroom.store.serving import StoreServer
from waitroom.store.sqlite import SqliteStore
from waitroom.testing import FakeClock
from waitroom.ticker import Ticker
from waitroom.web import answers
from waitroom.web import desk as desks
from waitroom.web.desk import Desk
from waitroom.web.joinlimit import JoinLimit
from waitroom.web.messages import Relay, Reply, Request

CONFIG = """\
listen: 127.0.0.1:0
origin: http://127.0.0.1:9
limits: {joins_per_client: null}
trusted_proxies: [10.0.0.0/8]
rooms:
  - name: launch
    match: [{path: /event/}]
    always_queue: true
    total_active_users: 1
    admission: fixed
    languages: [en, ko, ja]
"""
BROWSER = {
    b"Host": b"shop.example",
    b"User-Agent": b"Mozilla/5.0 (X11; Linux x86_64) Chrome/139.0.0.0",
    b"Accept": b"text/html,application/xhtml+xml,*/*;q=0.8",
    b"Accept-Language": b"ko-KR,ko;q=0.9,en;q=0.8",
    b"Sec-Fetch-Mode": b"navigate",
    b"Sec-Fetch-Dest": b"document",
    b"Sec-Fetch-Site": b"none",
}
KEYRING = Keyring(["k" * 40])
TICKET = re.compile(r"waitroom_launch=(t\.[^;]+);")


def ask(target=b"/event/", method=b"GET", peer="192.0.2.1", **more):
    """Return a request as the wire makes it: a browser's first one, with headers added, changed, or (None) left out."""
    given_headers = BROWSER | {name.replace("_", "-").encode(): value for name, value in more.items()}
    headers = [(name, value) for name, value in given_headers.items() if value is not None]
    fields = {name.lower(): value for name, value in headers}
    return Request(method, target, "1.1", headers, fields, "shop.example", peer)


class Worker:
    """One worker's desk, on a record of its own."""

    def __init__(self, tmp_path, store, view):
        file = tmp_path / "waitroom.yaml"
        file.write_text(CONFIG)
        stated = load(file, {})
        clock = SystemClock()
        [room] = stated.rooms
        self.service = RoomService(room, view, store, KEYRING, clock)
        self.ticker = Ticker([self.service], store)
        self.desk = Desk(
            stated,
            {room.name: self.service},
            dict.fromkeys(stated.origins()),
            pages_of(stated),
            JoinLimit(None, spare_private=True),
            signer=AssertionSigner("k" * 40),
            clock=clock,
        )

    async def answer(self, request):
        """Return the desk's verdict, whenever it comes."""
        verdict = self.desk(request)
        return verdict if isinstance(verdict, Reply | Relay) else await verdict


@contextlib.asynccontextmanager
async def worker(tmp_path):
    """Run a worker on a keeper of its own: SQLite behind a Unix socket, as in the product."""
    file = tmp_path / "waitroom.yaml"
    file.write_text(CONFIG)
    record = SqliteStore(load(file, {}).rooms, SystemClock(), tmp_path / "record.db", Notes(tmp_path / "notes"))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("")
    listening.listen()
    server = StoreServer(record, listening)
    await server.start()
    store = RemoteStore(listening.getsockname())
    try:
        yield Worker(tmp_path, store, await store.snapshot("launch")), server, record
    finally:
        await store.close()
        await server.close()
        await record.close()


def lines(reply):
    """Return the header lines of an answer, sorted, however they were made."""
    made = b"".join(b"%b: %b\r\n" % field for field in reply.headers) + reply.ready
    return sorted(made.decode().splitlines())


def ticket_of(reply):
    """Return the ticket that an answer gives."""
    [found] = TICKET.findall("\n".join(lines(reply)))
    ticket = KEYRING.read(found)
    assert isinstance(ticket, Ticket)
    return ticket


async def test_a_thousand_joins_are_a_few_operations_of_the_record_and_a_thousand_polls_none(tmp_path):
    """All that come while a commit runs are the next one's: 20 for 1,000 is the bar. Who waits asks the record nothing.

    Numbers go out in the order in which the requests were taken, and each is in its visitor's page and ticket.
    """
    async with worker(tmp_path) as (house, server, record):
        before, commits = server.operations, record._file.commits
        replies = await asyncio.gather(*(house.answer(ask(b"/event/?%d" % (one % 7))) for one in range(1_000)))
        assert server.operations - before <= 20
        assert record._file.commits - commits <= 20
        assert [ticket_of(reply).number for reply in replies] == list(range(1, 1_001))
        assert all(b'data-number="%d"' % number in reply.body for number, reply in enumerate(replies, 1))
        assert len({ticket_of(reply).visitor for reply in replies}) == 1_000
        before = server.operations
        for reply in replies:
            [token] = TICKET.findall("\n".join(lines(reply)))
            told = await house.answer(ask(b"/.waitroom/launch/me", Cookie=b"waitroom_launch=" + token.encode()))
            assert b'"state":"waiting"' in told.body
        assert server.operations == before


async def test_nothing_is_answered_before_its_commit(tmp_path, monkeypatch):
    """While the record is being written nobody who joined has an answer; all of them have one as soon as it is."""
    async with worker(tmp_path) as (house, _, record):
        written, write = asyncio.Event(), record._write_file
        go_on = asyncio.Event()
        loop = asyncio.get_running_loop()

        def held(found):
            write(found)
            loop.call_soon_threadsafe(written.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()

        monkeypatch.setattr(record, "_write_file", held)
        told = [asyncio.ensure_future(house.answer(ask())) for _ in range(100)]
        await written.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(one.done() for one in told)
        go_on.set()
        assert {ticket_of(reply).number for reply in await asyncio.gather(*told)} == set(range(1, 101))


async def test_when_the_record_is_away_a_crowd_is_told_so(tmp_path):
    """Each who wanted a place gets the page that tries again, and no cookie."""
    async with worker(tmp_path) as (house, _, record):
        record.away = "the disk is full"
        for reply in await asyncio.gather(*(house.answer(ask()) for _ in range(50))):
            assert reply.status == 503
            assert not any("Set-Cookie" in line for line in lines(reply))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"Accept_Language": b"ja"},
        {"Accept_Language": None, "Sec_Fetch_Mode": None, "Sec_Fetch_Site": None},
        {"method": b"POST", "Referer": b"https://shop.example/event/form?a=1"},
        {"method": b"HEAD"},
        {"target": b"/event/?a=%3Cb%3E&c='d'"},
        {"peer": "10.0.0.7", "X_Forwarded_For": b"192.0.2.9", "X_Forwarded_Proto": b"https"},
        {"Cookie": b"session=1; waitroom=2"},
        {"Cookie": b"session=1; __Host-waitroom_launch=old"},
    ],
)
async def test_who_comes_with_the_words_of_others_is_answered_as_if_alone(tmp_path, monkeypatch, more):
    """An answer from what is remembered is the one that is worked out, but for the number: head and page, each byte."""
    async with worker(tmp_path) as (house, _, _):
        alone = await house.answer(ask(**more))
        with monkeypatch.context() as apart:
            apart.setattr(Desk, "_arrive", lambda *_: None)
            worked_out = await house.answer(ask(**more))
        together = await house.answer(ask(**more))
        assert alone.status == worked_out.status == together.status == 200
        numbers = [ticket_of(reply).number for reply in (alone, worked_out, together)]
        assert numbers == [1, 2, 3]

        def blank(reply):
            ticket = ticket_of(reply)
            said = [line for line in lines(reply) if "waitroom_launch=t." not in line]
            cookie = next(line for line in lines(reply) if "waitroom_launch=t." in line)
            body = re.sub(rb'data-(number|ahead|wait)="[^"]*"|<(strong|dd|span)[^>]*>[^<]*<', b"", reply.body)
            return [*said, cookie.replace(KEYRING.sign_ticket(ticket), "")], body

        assert blank(worked_out) == blank(together)


WORDS = st.fixed_dictionaries(
    {},
    optional={
        "Accept": st.sampled_from([None, b"text/html", b"*/*", b"application/json", b"image/avif,*/*"]),
        "User_Agent": st.sampled_from([None, b"Mozilla/5.0", b"Googlebot/2.1", b"x" * 3000]),
        "Sec_Fetch_Mode": st.sampled_from([None, b"navigate", b"cors", b"no-cors"]),
        "Sec_Fetch_Dest": st.sampled_from([None, b"document", b"iframe", b"image", b"empty"]),
        "Sec_Fetch_Site": st.sampled_from([None, b"none", b"cross-site", b"same-origin"]),
        "Sec_Purpose": st.sampled_from([b"prefetch", b"prefetch;prerender"]),
        "Purpose": st.sampled_from([b"preview", b"other"]),
        "X_Moz": st.just(b"prefetch"),
        "X_Purpose": st.just(b"preview"),
        "X_Requested_With": st.just(b"XMLHttpRequest"),
        "Origin": st.sampled_from([b"https://shop.example", b"https://evil.example", b"null"]),
        "Referer": st.sampled_from([b"https://shop.example/event/a", b"https://evil.example/"]),
        "Access_Control_Request_Method": st.just(b"POST"),
        "X_Forwarded_Proto": st.sampled_from([b"https", b"http"]),
        "Cookie": st.sampled_from([b"a=b", b"waitroom_launch=", b"waitroom_launch=junk"]),
        "Waitroom_Ticket": st.just(b"junk"),
        "method": st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS"]),
        "peer": st.sampled_from(["192.0.2.1", "10.0.0.7", "unix"]),
    },
)


@pytest.fixture(scope="module")
def desk_alone(tmp_path_factory):
    """Return a worker whose record nobody asks."""
    store = MemoryStore([room()], SystemClock())
    return Worker(tmp_path_factory.mktemp("desk"), store, store._book.snapshot("launch", 1))


@settings(max_examples=200, deadline=None)
@example(many=[{"peer": peer, "X_Forwarded_Proto": b"https"} for peer in ("192.0.2.1", "10.0.0.7")])
@given(many=st.lists(WORDS, min_size=1, max_size=4))
def test_what_is_remembered_of_a_request_is_what_it_says(desk_alone, many):
    """Whatever requests came before, the gate is shown of each what it would be shown of it alone."""
    house, shown = desk_alone, []

    def decide(seen):
        shown.append(seen)
        return desks.TurnAway(desks.Refusal.PREFETCH)

    house.service.decide = decide
    for words in [*many, *many]:
        request = ask(**words)
        visit = house.desk._arrive(request, house.service)
        whole = house.desk._visit(request, house.service)
        assert (visit is None) == whole.by_cookie or b"waitroom-ticket" in request.fields
        if visit is None:
            continue
        assert (visit.client, visit.https, visit.document) == (whole.client, whole.https, whole.document)
        house.desk._decide(whole)
        assert visit.arrival.shown == shown.pop()
        form = house.desk._cookies["launch"].form(request.host, https=whole.https)
        assert visit.arrival.cookie == form.around(answers.ticket_cookie_s(house.service.room))


async def test_no_more_arrivals_are_remembered_than_can_be_kept(tmp_path, monkeypatch):
    """Whoever sends other words every time, or very long ones, is answered, and takes no more memory."""
    monkeypatch.setattr(desks, "_ARRIVALS_MAX", 3)
    async with worker(tmp_path) as (house, _, _):
        for one in range(5):
            assert (await house.answer(ask(User_Agent=b"%d" % one))).status == 200
            assert (await house.answer(ask(b"/event/?%d" % one, User_Agent=b"0"))).status == 200
        assert len(house.desk._arrivals) == 3
        kept = set(house.desk._arrivals)
        assert (await house.answer(ask(User_Agent=b"x" * 3000))).status == 200
        assert set(house.desk._arrivals) == kept


async def test_a_view_that_changes_changes_what_is_remembered(tmp_path):
    """What was said to the room is told to the next who comes with the same words."""
    async with worker(tmp_path) as (house, _, _):
        for _ in range(10):
            told = await house.answer(ask())
        assert told.status == 200
        await house.service._store.operate("launch", {"message": "Size 270 is sold out."}, "test")
        await house.ticker.step(house.service)
        assert b"Size 270 is sold out." in (await house.answer(ask())).body
        await house.service._store.operate("launch", {"suspended": True}, "test")
        await house.ticker.step(house.service)
        assert isinstance(await house.answer(ask()), Relay)


async def test_the_unseen_are_counted_as_the_view_would(tmp_path):
    """How many are before who has just joined is counted once a view, and is what the view itself says of each."""
    clock = FakeClock()
    store = MemoryStore([room()], clock)
    service = RoomService(room(), await store.snapshot("launch"), store, KEYRING, clock)
    ticker = Ticker([service], store)
    for _ in range(3):
        await asyncio.gather(*(service.join() for _ in range(300)))
        clock.advance(0.25)
        for number in (*range(1, service.view.issued + 400, 37), service.view.issued + 900_000):
            assert service._ahead(number) == service.view.ahead(number), number
        await ticker.step(service)


@pytest.mark.parametrize("refresh", [Refresh(2, 10, 300, 0.3), Refresh(2, 60, 300, 0.3), Refresh(40, 60, 300, 0.3)])
@pytest.mark.parametrize("free", [1, 500])
async def test_the_first_interval_is_the_same_whether_remembered_or_worked_out(refresh, free):
    """Whoever joins is told to ask when their own place in line says, also where that is as late as it may be."""
    clock = FakeClock()
    stated = room(refresh=refresh, total_active_users=free, new_users_per_minute=600)
    store = MemoryStore([stated], clock)
    service = RoomService(stated, await store.snapshot("launch"), store, KEYRING, clock)
    told = []
    for ahead in range(0, 2_000, 50):
        service._joins._gathered = [None] * ahead
        told.append(service._first_s())
        assert told[-1] == service._told_s(ahead, first=True)
    service._joins._gathered = []
    assert service._first_s() == told[0]


async def test_a_fault_in_one_answer_is_nobody_elses():
    """What is made of one outcome fails for who asked for it, and the batch goes on."""
    batch = Batch(lambda wishes: asyncio.sleep(0, wishes))

    def made(outcome):
        raise LookupError(outcome)

    bad, good = batch.make(1, made), batch.add(2)
    assert await good == 2
    with pytest.raises(LookupError):
        await bad


async def test_nothing_is_made_for_who_has_gone():
    """An outcome that nobody waits for is not worked on; a store that is away is told to those who said what to do."""

    async def away(_):
        raise StoreAway("gone")

    made = []
    batch = Batch(lambda wishes: asyncio.sleep(0, wishes))
    left, stays = batch.make(1, made.append), batch.make(2, made.append)
    left.cancel()
    await stays
    assert made == [2]
    broken = Batch(away)
    told, raises = broken.make(1, made.append, str), broken.add(2)
    assert await told == "gone"
    with pytest.raises(StoreAway):
        await raises
