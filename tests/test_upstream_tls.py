"""TLS toward the origin: who is trusted, what is asked, and what the operator reads when it fails."""

import asyncio
import contextlib
import socket
import ssl
import threading
import warnings

import pytest
from certificates import make, serving, showing
from raw_sockets import RawOrigin, answers, until
from test_upstream import OK, Asker

from waitroom.model import Address, OriginTls
from waitroom.upstream import tls

CA = make("our CA", authority=True)
TRUSTING = OriginTls(CA.pem)


def at_home(*addresses):
    """Return a resolver that finds every name on this machine."""

    async def lookup(host, port):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return lookup


def asker(port, known_by=TRUSTING, host="shop.internal"):
    """Return who asks an origin on this machine that is known as ``host``."""
    return Asker(Address(host, port, https=True, tls=known_by), lookup=at_home("127.0.0.1"))


async def test_an_https_origin_is_verified_and_told_the_name():
    """TLS is spoken with the origin's name in SNI, for HTTP/1.1 only; without anybody to vouch for it: 502, unsent."""
    told = []
    context = serving(issuer=CA)
    context.sni_callback = lambda _sock, name, _context: told.append(name)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with RawOrigin(answers(OK, OK, OK), context) as raw:
        async with asker(raw.port) as asking:
            for _ in range(2):
                assert (await asking.ask()).body == b"ok"
            (link,) = asking.origin._links
            assert link.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert told == ["shop.internal"]
        for unknown in (None, OriginTls(make("our CA", authority=True).pem)):
            async with asker(raw.port, unknown) as asking:
                notes = await asking.ask(b"POST")
                assert (notes.error.reason, notes.error.status, notes.error.sent) == ("tls", 502, False)
        assert len(raw.requests) == 2


async def test_a_server_name_is_told_and_checked_instead_of_the_host():
    """``server_name`` is what the origin hears and what its certificate must be for, whatever its address is."""
    told = []
    context = serving("shop.internal", CA)
    context.sni_callback = lambda _sock, name, _context: told.append(name)
    async with RawOrigin(answers(OK), context) as raw:
        for host in ("127.0.0.1", "elsewhere.internal"):
            async with asker(raw.port, OriginTls(CA.pem, "shop.internal"), host) as asking:
                assert (await asking.ask()).body == b"ok"
        assert told == ["shop.internal"] * 2
        async with asker(raw.port, OriginTls(CA.pem, "other.internal")) as asking:
            assert (await asking.ask()).error.reason == "tls"


async def test_an_origin_may_be_known_by_its_address():
    """A certificate for an address is good for that address, and for no other."""
    async with RawOrigin(answers(OK), serving("127.0.0.1", CA)) as raw:
        async with asker(raw.port, host="127.0.0.1") as asking:
            assert (await asking.ask()).body == b"ok"
        async with asker(raw.port, OriginTls(CA.pem, "127.0.0.2"), host="127.0.0.1") as asking:
            assert "not valid for 127.0.0.2" in (await asking.ask()).error.why


async def test_the_very_certificate_or_an_intermediate_suffices():
    """A file with the origin's own certificate, or only with who signed it, vouches for it; any Python says so."""
    intermediate = make("our second CA", CA, authority=True)
    alone = make("shop.internal", intermediate)
    for trusted in (intermediate.pem, alone.pem):
        async with RawOrigin(answers(OK), showing(alone)) as raw, asker(raw.port, OriginTls(trusted)) as asking:
            assert (await asking.ask()).body == b"ok"


def test_no_version_before_tls_1_2_is_offered():
    """Nothing in the system's configuration lowers what we speak."""
    for known_by in (None, TRUSTING):
        context = tls.context(known_by)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname


def test_an_authority_of_one_s_own_stands_instead_of_all_others():
    """Who names an authority trusts no other one."""
    assert [made["subject"] for made in tls.context(TRUSTING).get_ca_certs()] == [((("commonName", "our CA"),),)]


def outdated():
    """Return a server of long ago."""
    context = serving(issuer=CA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def demanding(version):
    """Return a server that wants a certificate of its client."""
    context = serving(issuer=CA)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=CA.pem)
    context.maximum_version = version
    return context


def choosy():
    """Return a server that knows no name."""
    context = serving(issuer=CA)
    context.sni_callback = lambda *_: ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    return context


DAY_S = 86_400
FAULTS = {
    "name": (
        lambda: serving("other.internal", CA),
        "its certificate is not valid for shop.internal; write a name that",
    ),
    "address": (lambda: serving("127.0.0.1", CA), "its certificate is not valid for shop.internal; write a name that"),
    "expired": (lambda: serving(issuer=CA, begins_s=-2 * DAY_S, ends_s=-DAY_S), "its certificate has expired"),
    "early": (lambda: serving(issuer=CA, begins_s=DAY_S, ends_s=2 * DAY_S), "its certificate is not valid yet, or"),
    "self-signed": (
        serving,
        "nobody whom we trust vouches for its certificate; name who signed it in `origin_",
    ),
    "unknown": (lambda: serving(issuer=make("X", authority=True)), "nobody whom we trust vouches for its certificate;"),
    "authority": (lambda: serving(issuer=make("Y", CA)), "nobody whom we trust vouches for its certificate;"),
    "old": (outdated, "it speaks no version of TLS that is safe, 1.2 or later"),
    "client-1.2": (lambda: demanding(ssl.TLSVersion.TLSv1_2), "it takes none of the ciphers that are safe, or wants a"),
    "unnamed": (choosy, "it serves no shop.internal; write a name that it serves in `origin_tls.server_name`"),
    "http": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak TLS on this port; write http:// if that is meant"),
    "mail": (b"220 mail\r\n", "it does not speak TLS on this port;"),
    "silent": (b"", "it ended the connection before TLS was agreed on"),
    "alert": (b"\x15\x03\x03\x00\x02\x02\x50", "TLS fails (tlsv1 alert internal error)"),
}


def serve_once(listener, speaks):
    """Take one connection and do what is to be done to it, in blocking calls: only these send every TLS alert."""
    with listener, listener.accept()[0] as sock:
        sock.settimeout(5)
        if isinstance(speaks, bytes):
            sock.recv(65536)
            sock.sendall(speaks)
            return
        with contextlib.suppress(OSError):
            speaks.wrap_socket(sock, server_side=True).recv(65536)


@contextlib.asynccontextmanager
async def serving_once(speaks):
    """Give the port of a server that takes one connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve_once, args=(listener, speaks))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        await asyncio.to_thread(thread.join, 10)


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_operator_reads_in_plain_words_what_is_wrong_with_tls(fault):
    """Not OpenSSL's words but what is wrong, and the setting that mends it; the visitor's request was never sent."""
    speaks, expected = FAULTS[fault]
    async with serving_once(speaks() if callable(speaks) else speaks) as port, asker(port) as asking:
        error = (await asking.ask(b"POST")).error
    assert (error.reason, error.status, error.sent) == ("tls", 502, False)
    assert error.why.startswith(f"127.0.0.1: {expected}")
    assert "_ssl.c" not in error.why


async def test_an_origin_that_wants_a_certificate_after_all_is_told_of():
    """TLS 1.3 says only after the handshake that a client must show a certificate; the operator reads it too."""
    async with serving_once(demanding(ssl.TLSVersion.TLSv1_3)) as port, asker(port) as asking:
        error = (await asking.ask()).error
    assert (error.reason, error.why) == ("reset", "it wants a certificate of us, and we show none")


@pytest.mark.parametrize("code", [18, 19, 20, 21, 2, 23, 26, 62, 64, 66, 67, 68, 79])
def test_every_verdict_on_a_certificate_has_words(code):
    """What OpenSSL finds is said in our words; what nobody foresaw in its own, and without the place in its source."""
    error = ssl.SSLCertVerificationError(1, "[SSL: X] certificate verify failed: odd (_ssl.c:1)")
    error.verify_code, error.verify_message = code, "odd"
    assert ("refused (odd)" in tls.words(error, "a")) == (code == 79)


@pytest.mark.parametrize("goodbye", [True, False])
async def test_under_tls_only_the_origin_s_own_goodbye_ends_an_answer(goodbye):
    """An answer until the close is whole when close_notify came; a mere FIN cuts it."""

    def serve(listener):
        with listener, listener.accept()[0] as sock:
            secured = serving(issuer=CA).wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
            secured.recv(65536)
            secured.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            if goodbye:
                with contextlib.suppress(OSError):
                    secured.unwrap()
            secured.close()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(listener,))
    thread.start()
    async with asker(listener.getsockname()[1]) as asking:
        notes = await asking.ask()
    thread.join(10)
    assert notes.body == b"half"
    assert (notes.error is None) == goodbye
    assert goodbye or notes.error.reason == "cut"


async def test_a_slow_address_is_overtaken_and_closed(monkeypatch):
    """Beside an address that takes connections and says nothing the next is tried; the first is left, and closed."""
    monkeypatch.setattr("waitroom.upstream.dialler.HEAD_START_S", 0.02)
    silent = []

    async def says_nothing(reader, writer):
        silent.append(writer)
        await reader.read()
        silent.append("left")
        writer.close()

    async with RawOrigin(answers(OK, OK), serving(issuer=CA)) as raw:
        server = await asyncio.start_server(says_nothing, "127.0.0.2", raw.port)
        address = Address("shop.internal", raw.port, https=True, tls=TRUSTING)
        async with Asker(address, lookup=at_home("127.0.0.2", "127.0.0.1")) as asking:
            assert (await asking.ask()).body == b"ok"
            await until(lambda: silent[-1] == "left")
            assert asking.origin.open == 1
            both = [asking.begin(), asking.begin()]
            await until(lambda: all(notes.over for notes in both))
        assert len(silent) == 2
        server.close()
