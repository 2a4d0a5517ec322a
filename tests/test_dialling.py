"""Names and addresses of the origin, in virtual time: what is looked up, what is tried, and when.

The loop's clock jumps to its next timer, so that minutes pass at once; resolver and network are the test's.
"""

import asyncio
import gc
import selectors
import socket
import ssl
import threading

import pytest
from raw_sockets import until

from waitroom.errors import UpstreamError, UpstreamTimeout
from waitroom.model import Address
from waitroom.upstream import tls
from waitroom.upstream.dialler import HEAD_START_S, SHUN_S, Dialler
from waitroom.upstream.names import (
    ADDRESSES_MAX,
    AGAIN_S,
    FRESH_S,
    KEPT_S,
    PATIENCE_S,
    Names,
    in_thread,
)

LIMIT_S = 3.0
V4, V6 = socket.AF_INET, socket.AF_INET6


class Jumping(selectors.DefaultSelector):
    """Waits for nothing: what it is told to wait becomes the time that has passed."""

    passed_s = 0.0

    def select(self, timeout=None):
        """Return what is ready now."""
        assert timeout is not None, "everybody waits, and for nothing that will come"
        self.passed_s += max(timeout, 0)
        return super().select(0)


def play(script):
    """Run a coroutine function that takes the loop in virtual time, and let it leave nothing behind."""
    selector = Jumping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.passed_s
    wrong = []
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    try:
        loop.run_until_complete(script(loop))
        loop.run_until_complete(asyncio.sleep(3600))
        assert asyncio.all_tasks(loop) == set()
    finally:
        loop.close()
    gc.collect()
    assert not wrong


class Resolver:
    """Answers with ``found``, or fails with it, after ``delay_s``; ``asked`` are the times it was asked at."""

    def __init__(self, loop, *found, delay_s=0.0):
        self.loop = loop
        self.found = found
        self.delay_s = delay_s
        self.asked = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, host, port):
        """Look up."""
        self.asked.append(self.loop.time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.at_once -= 1
        if isinstance(self.found[0], Exception):
            raise self.found[0]
        return [(V6 if ":" in host else V4, socket.SOCK_STREAM, 6, "", (host, port)) for host in self.found]


def names(resolver):
    """Return the names of an origin behind a resolver."""
    return Names("shop.internal", 80, resolver)


async def answer(subject, loop, limit_s=LIMIT_S):
    """Return what addresses come of it, or the reason why none do, and how long that took."""
    began = loop.time()
    try:
        found = [host for _, host in await subject.addresses(began + limit_s)]
    except UpstreamError as error:
        found = error.reason
    return found, pytest.approx(loop.time() - began, abs=1e-6)


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_flood_of_connections_is_no_flood_of_lookups():
    """Who asks while a name is looked up waits for the same answer, and it is good for a moment after."""

    async def script(loop):
        resolver = Resolver(loop, "192.0.2.1", delay_s=0.5)
        subject = names(resolver)
        for _ in range(3):
            assert await asyncio.gather(*[answer(subject, loop) for _ in range(100)]) == [(["192.0.2.1"], 0.5)] * 100
            assert await answer(subject, loop) == (["192.0.2.1"], 0)
            await asyncio.sleep(FRESH_S)
        assert resolver.asked == [0.0, 0.5 + FRESH_S, 1.0 + 2 * FRESH_S]

    play(script)


def test_a_name_that_moves_is_followed():
    """What was found is used for a moment only, however busy the origin is."""

    async def script(loop):
        resolver = Resolver(loop, "192.0.2.1")
        subject = names(resolver)
        assert (await answer(subject, loop))[0] == ["192.0.2.1"]
        resolver.found = ("192.0.2.2",)
        await asyncio.sleep(FRESH_S)
        assert (await answer(subject, loop))[0] == ["192.0.2.2"]

    play(script)


def test_a_resolver_that_hangs_holds_one_lookup():
    """Everybody waits for it within connect_timeout, and no more lookups than one are under way."""

    async def script(loop):
        resolver = Resolver(loop, "192.0.2.1", delay_s=50)
        subject = names(resolver)
        for _ in range(5):
            assert await asyncio.gather(*[answer(subject, loop) for _ in range(20)]) == [("resolve", LIMIT_S)] * 20
        assert (len(resolver.asked), resolver.most_at_once) == (1, 1)
        await asyncio.sleep(50 - loop.time())
        assert await answer(subject, loop) == (["192.0.2.1"], 0), "an answer is taken however late it comes"

    play(script)


def test_while_a_lookup_fails_the_last_addresses_are_used_for_so_long(caplog):
    """A shop does not vanish because its resolver does, but it is not believed for ever to be where it was."""

    async def script(loop):
        resolver = Resolver(loop, "192.0.2.1")
        subject = names(resolver)
        await answer(subject, loop)
        resolver.found = (socket.gaierror(-3, "Temporary failure in name resolution"),)
        await asyncio.sleep(FRESH_S)
        assert await answer(subject, loop) == (["192.0.2.1"], 0)
        await asyncio.sleep(KEPT_S - FRESH_S - 0.1)
        assert await answer(subject, loop) == (["192.0.2.1"], 0)
        await asyncio.sleep(0.1)
        assert await answer(subject, loop) == ("unresolved", 0)

    play(script)
    assert "looking up shop.internal fails: Temporary failure in name resolution; the last addresses are" in caplog.text


def test_while_a_lookup_hangs_the_last_addresses_are_used(caplog):
    """Who began the lookup waits a moment for it, and nobody after that."""

    async def script(loop):
        resolver = Resolver(loop, "192.0.2.1")
        subject = names(resolver)
        await answer(subject, loop)
        resolver.delay_s = 1000
        await asyncio.sleep(FRESH_S)
        assert await answer(subject, loop) == (["192.0.2.1"], PATIENCE_S)
        assert await answer(subject, loop) == (["192.0.2.1"], 0)
        await asyncio.sleep(FRESH_S)
        assert await answer(subject, loop) == (["192.0.2.1"], 0)
        assert resolver.asked == [0.0, FRESH_S]
        await asyncio.sleep(KEPT_S)
        assert await answer(subject, loop) == ("resolve", LIMIT_S)
        subject.close()

    play(script)
    assert "takes too long" in caplog.text


def test_a_resolver_that_said_no_is_not_asked_again_at_once():
    """A name that is not there is looked up once a moment, whoever wants to go there."""

    async def script(loop):
        resolver = Resolver(loop, socket.gaierror(-2, "Name or service not known"))
        subject = names(resolver)
        assert [await answer(subject, loop) for _ in range(50)] == [("unresolved", 0)] * 50
        assert len(resolver.asked) == 1
        with pytest.raises(UpstreamError) as caught:
            await subject.addresses(loop.time() + 1)
        assert caught.value.why == "looking up shop.internal fails: Name or service not known"
        assert not caught.value.sent
        resolver.found = ("192.0.2.1",)
        await asyncio.sleep(AGAIN_S)
        assert (await answer(subject, loop))[0] == ["192.0.2.1"]

    play(script)


@pytest.mark.parametrize("failure", [UnicodeError("label too long"), OSError("odd")])
def test_a_name_that_cannot_be_asked_for_is_unresolved(failure):
    """Whatever a resolver says against a name, the visitor's request was not sent."""

    async def script(loop):
        assert (await answer(names(Resolver(loop, failure)), loop))[0] == "unresolved"

    play(script)


def test_an_answer_without_an_address_is_none():
    """A name that has no address of a kind we speak is as good as unknown."""

    async def empty(host, port):
        return [(V6, socket.SOCK_STREAM, 6, "", (10, b"odd"))]

    async def script(loop):
        with pytest.raises(UpstreamError, match="unresolved") as caught:
            await names(empty).addresses(1.0)
        assert caught.value.why == "looking up shop.internal fails: it has no address"

    play(script)


@pytest.mark.parametrize(("host", "family"), [("192.0.2.7", V4), ("2001:db8::7", V6)])
def test_an_address_is_never_looked_up(host, family):
    """An origin given by its address is there, resolver or not."""

    async def script(loop):
        assert await Names(host, 80, None).addresses(1.0) == ((family, host),)

    play(script)


def test_of_a_long_answer_so_many_addresses_are_heeded_and_families_take_turns():
    """The resolver's preference stays, but a family that leads nowhere is not tried to its end first."""

    async def script(loop):
        found = await answer(names(Resolver(loop, "::1", "::2", "::3", "192.0.2.1", "192.0.2.2", "::1")), loop)
        assert found[0] == ["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"]
        many = await answer(names(Resolver(loop, *[f"10.0.{place}.1" for place in range(200)])), loop)
        assert many[0] == [f"10.0.{place}.1" for place in range(ADDRESSES_MAX)]

    play(script)


def test_a_fault_of_ours_in_a_lookup_is_raised():
    """What nobody foresaw reaches whoever waits, and the next one looks up anew."""

    async def script(loop):
        resolver = Resolver(loop, RuntimeError("odd"))
        subject = names(resolver)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="odd"):
                await subject.addresses(loop.time() + 1)
        assert len(resolver.asked) == 2

    play(script)


async def test_a_lookup_has_a_thread_of_its_own(monkeypatch):
    """However many resolvers hang, another name is looked up; and a lookup nobody waits for any more hurts nobody."""
    release = threading.Event()
    real = socket.getaddrinfo

    def some_hang(host, port, **more):
        if host.startswith("hangs"):
            release.wait(10)
        return real("127.0.0.1", port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", some_hang)
    wrong = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    hanging = [asyncio.ensure_future(in_thread(f"hangs-{place}.internal", 80)) for place in range(40)]
    await asyncio.sleep(0)
    found = await asyncio.wait_for(in_thread("well.internal", 80), 20)
    assert [where[0] for _, _, _, _, where in found] == ["127.0.0.1"]
    hanging[0].cancel()
    release.set()
    assert sum(isinstance(one, list) for one in await asyncio.gather(*hanging, return_exceptions=True)) == 39
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("lookup hangs")])
    await asyncio.sleep(0)
    assert not wrong


async def test_a_lookup_fails_as_the_resolver_does(monkeypatch):
    """Its error is raised where it is waited for; where no thread can be had, that is one too."""
    with pytest.raises(UnicodeError):
        await in_thread("a" * 70, 80)
    monkeypatch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("can't start")))
    with pytest.raises(OSError, match="no thread"):
        await in_thread("shop.internal", 80)


def test_a_lookup_may_outlive_its_loop(monkeypatch):
    """A resolver that answers after everything has ended finds nobody, and says nothing."""
    release, said = threading.Event(), []

    def late(*_, **__):
        release.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", late)
    monkeypatch.setattr(threading, "excepthook", said.append)

    async def script():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread("shop.internal", 80), 0.01)

    asyncio.run(script())
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "lookup shop.internal"]
    release.set()
    thread.join(5)
    assert not thread.is_alive()
    assert not said


# --- addresses ------------------------------------------------------------------------------------------------------


class FakeLink:
    """A link that notes when it is dropped."""

    dropped = False

    def drop(self):
        """Note it."""
        self.dropped = True


class Network:
    """What becomes of a connection to each address: seconds until it stands, an error at once, None for never."""

    def __init__(self, loop, **fates):
        self.loop = loop
        self.fates = {name.replace("a", "192.0.2."): fate for name, fate in fates.items()}
        self.tried = []
        self.given_up = []
        self.links = []

    async def __call__(self, made, host, port, **more):
        """Connect."""
        fate = self.fates[host]
        self.tried.append((host.rpartition(".")[2], pytest.approx(self.loop.time(), abs=1e-6)))
        if isinstance(fate, Exception):
            raise fate
        try:
            await asyncio.sleep(1e9 if fate is None else fate)
        except asyncio.CancelledError:
            self.given_up.append(host.rpartition(".")[2])
            raise
        self.links.append(made())
        self.links[-1].host = host.rpartition(".")[2]
        return None, self.links[-1]

    def dialler(self, *, https=False, limit_s=LIMIT_S, order=None):
        """Return what dials an origin that has all these addresses."""
        resolver = Resolver(self.loop, *(order or self.fates))
        address = Address("shop.internal", 80, https=https)
        return Dialler(address, limit_s, FakeLink, lookup=resolver, connect=self)


REFUSED = ConnectionRefusedError(111, "Connect call failed ('192.0.2.1', 80)")


def test_a_black_hole_costs_one_connection_a_moment_and_the_next_none():
    """The second address is tried beside a first that does not answer, and goes first for a while after."""

    async def script(loop):
        network = Network(loop, a1=None, a2=0.01)
        dialler = network.dialler()
        assert (await dialler.dial()).host == "2"
        assert loop.time() == pytest.approx(HEAD_START_S + 0.01)
        assert network.tried == [("1", 0), ("2", HEAD_START_S)]
        await asyncio.sleep(0)
        assert network.given_up == ["1"]
        for _ in range(5):
            network.tried.clear()
            await asyncio.sleep(FRESH_S)
            began = loop.time()
            assert (await dialler.dial()).host == "2"
            assert network.tried == [("2", began)]
        await asyncio.sleep(SHUN_S)
        network.tried.clear()
        assert (await dialler.dial()).host == "2"
        assert [host for host, _ in network.tried] == ["1", "2"]

    play(script)


def test_a_flood_beside_a_black_hole_is_served_at_once():
    """Connections that begin together each pay the head start; none waits for half of connect_timeout."""

    async def script(loop):
        network = Network(loop, a1=None, a2=0.01)
        dialler = network.dialler()
        links = await asyncio.gather(*[dialler.dial() for _ in range(100)])
        assert {link.host for link in links} == {"2"}
        assert loop.time() < 0.3

    play(script)


def test_an_address_that_refuses_has_no_head_start():
    """The next is tried at once, and the one that refused is tried last for a while."""

    async def script(loop):
        network = Network(loop, a1=REFUSED, a2=0.0)
        dialler = network.dialler()
        assert (await dialler.dial()).host == "2"
        assert (await dialler.dial()).host == "2"
        assert network.tried == [("1", 0), ("2", 0), ("2", 0)]

    play(script)


def test_a_slow_address_is_not_given_up_before_another_is_there():
    """The first goes on while the next is tried, and is taken if it is the first to stand."""

    async def script(loop):
        network = Network(loop, a1=HEAD_START_S + 0.1, a2=None)
        dialler = network.dialler()
        assert (await dialler.dial()).host == "1"
        assert (await dialler.dial()).host == "1"
        assert [host for host, _ in network.tried] == ["1", "2"] * 2

    play(script)


def test_shunned_addresses_are_tried_all_the_same_the_longest_shunned_first():
    """When all have failed none is out of the question."""

    async def script(loop):
        network = Network(loop, a1=REFUSED, a2=REFUSED, a3=REFUSED)
        dialler = network.dialler(order=["192.0.2.3", "192.0.2.1", "192.0.2.2"])
        for _ in range(2):
            with pytest.raises(UpstreamError, match="refused"):
                await dialler.dial()
            await asyncio.sleep(1)
        assert [host for host, _ in network.tried] == ["3", "1", "2"] * 2
        network.fates["192.0.2.2"] = 0.0
        assert (await dialler.dial()).host == "2"

    play(script)


def test_when_nothing_answers_every_address_was_tried_within_connect_timeout():
    """504, of which the log names each address; a short limit leaves none out."""

    async def script(loop):
        for limit_s in (LIMIT_S, 0.02):
            network = Network(loop, a1=None, a2=None, a3=None)
            began = loop.time()
            with pytest.raises(UpstreamTimeout, match="connect") as caught:
                await network.dialler(limit_s=limit_s).dial()
            assert loop.time() - began == pytest.approx(limit_s)
            assert [host for host, _ in network.tried] == ["1", "2", "3"]
            assert caught.value.why == "; ".join(f"192.0.2.{n}: no connection within {limit_s:g} s" for n in (1, 2, 3))
            await asyncio.sleep(0)
            assert network.given_up == ["1", "2", "3"]

    play(script)


def test_the_lookup_and_all_addresses_share_one_limit():
    """connect_timeout counts from the beginning."""

    async def script(loop):
        network = Network(loop, a1=None)
        dialler = network.dialler()
        dialler._names._lookup.delay_s = 1.0
        with pytest.raises(UpstreamTimeout, match="connect"):
            await dialler.dial()
        assert loop.time() == pytest.approx(LIMIT_S)

    play(script)


def test_a_failure_of_tls_is_not_hidden_behind_another():
    """Each address is named with what was wrong with it, and TLS, which wants mending, names the whole."""
    wrong_name = ssl.SSLCertVerificationError(1, "")
    wrong_name.verify_code, wrong_name.verify_message = 62, "Hostname mismatch"

    async def script(loop):
        network = Network(loop, a1=wrong_name, a2=REFUSED, a3=None, a4=OSError(113, "x"), a5=ConnectionResetError())
        with pytest.raises(UpstreamError) as caught:
            await network.dialler(https=True).dial()
        assert (caught.value.reason, caught.value.status, caught.value.sent) == ("tls", 502, False)
        assert caught.value.why.split("; 192.") == [
            f"192.0.2.1: {tls.words(wrong_name, 'shop.internal')}",
            "0.2.2: connection refused",
            "0.2.4: no route to host",
            "0.2.5: it ended the connection before TLS was agreed on",
            "0.2.3: no connection within 3 s",
        ]
        with pytest.raises(UpstreamError) as caught:
            await Network(loop, a1=None, a2=ConnectionResetError(104, ""), a3=OSError("odd")).dialler().dial()
        assert caught.value.reason == "refused"
        assert caught.value.why == (
            "192.0.2.2: connection reset by peer; 192.0.2.3: odd; 192.0.2.1: no connection within 3 s"
        )

    play(script)


def test_an_error_names_so_many_addresses():
    """A line of the log stays a line."""

    async def script(loop):
        network = Network(loop, **{f"a{place}": REFUSED for place in range(20)})
        with pytest.raises(UpstreamError) as caught:
            await network.dialler().dial()
        assert caught.value.why.endswith("192.0.2.7: connection refused; and 12 more addresses")

    play(script)


def test_a_connection_that_comes_too_late_is_closed():
    """Two that stand at once, and one given up in the moment that it stands: one is taken, the rest are closed."""

    async def script(loop):
        gate = asyncio.Event()

        class Together(Network):
            async def __call__(self, made, host, port, **more):
                self.tried.append(host)
                await gate.wait()
                self.links.append(made())
                return None, self.links[-1]

        network = Together(loop, a1=None, a2=None, a3=None)
        dialling = loop.create_task(network.dialler().dial())
        await asyncio.sleep(3 * HEAD_START_S)
        gate.set()
        link = await dialling
        await asyncio.sleep(0)
        assert len(network.links) == 3
        assert [other.dropped for other in network.links] == [other is not link for other in network.links]

    play(script)


def test_who_stops_dialling_leaves_nothing_behind():
    """Cancelled, every attempt is given up."""

    async def script(loop):
        network = Network(loop, a1=None, a2=None)
        dialling = loop.create_task(network.dialler().dial())
        await asyncio.sleep(2 * HEAD_START_S)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await asyncio.sleep(0)
        assert network.given_up == ["1", "2"]

    play(script)


def test_a_fault_of_ours_while_connecting_is_raised():
    """It is no failure of the origin's, and what else was tried is given up."""

    async def script(loop):
        network = Network(loop, a1=None, a2=RuntimeError("odd"))
        with pytest.raises(RuntimeError, match="odd"):
            await network.dialler().dial()
        await asyncio.sleep(0)
        assert network.given_up == ["1"]

    play(script)
