"""Assertions: one line of text for each request, whatever is in the request, and a key that does nothing else."""

from __future__ import annotations

import hmac
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from waitroom.core.assertion import AssertionSigner, assertion_key
from waitroom.core.tokens import Keyring, key_id
from waitroom.errors import InvalidToken
from waitroom.model import Pass, Ticket

KEY, OTHER = "k" * 32, "o" * 32
PASS = Pass("launch", 1, 1234, "0123456789abcdef", 1_700_000_000_000, 1_700_000_300_000)
MADE_MS = 1_700_000_123_456


def signed(method=b"GET", host=b"shop.example", target=b"/event/", *, key=KEY, made_ms=MADE_MS):
    """Return an assertion of the pass for a request."""
    return AssertionSigner(key).sign(PASS, method, host, target, made_ms)


def test_it_states_the_pass_and_the_request():
    """Room, number, visitor, both times, method and host stand in it as they are, after the id of the signing key."""
    fields = signed(b"POST", b"Shop.example:8080").decode().split(";")
    visitor, times = "0123456789abcdef", ["1700000000000", "1700000123456"]
    assert fields[:9] == ["1", key_id(KEY), "launch", "1234", visitor, *times, "POST", "shop.example:8080"]
    assert len(fields) == 11


def test_its_length_does_not_hang_on_the_target():
    """A URL of eight kilobytes makes no longer a header than the shortest; the longest host there can be fits too."""
    longest = Pass("a-room-name-of-forty-characters-in-length", 1, 2**53, "f" * 32, 2**50, 2**50)
    assert len(signed()) == len(signed(target=b"/event/?" + b"x" * 8192)) < 256
    most = AssertionSigner(KEY).sign(longest, b"UNSUBSCRIBE", b"h" * 253 + b":65535", b"/", 2**50)
    assert len(most) < 560


@given(method=st.binary(max_size=20), host=st.binary(max_size=40), target=st.binary(max_size=200))
def test_no_request_breaks_the_line(method, host, target):
    """Delimiters, line breaks, NUL and bytes beyond ASCII in a request end in a header that has eleven fields."""
    text = signed(method, host, target)
    assert re.fullmatch(rb"[\x21-\x7e]+", text)
    assert text.count(b";") == 10


REQUEST = st.tuples(*[st.binary(max_size=6) | st.text("aA;%3bB?/\n", max_size=6).map(str.encode)] * 3)


@given(one=REQUEST, other=REQUEST)
def test_two_requests_never_sign_alike(one, other):
    """Whatever is moved between method, host and target, or spelled otherwise, signs otherwise; a host's case not."""
    assume((one[0], one[1].lower(), one[2]) != (other[0], other[1].lower(), other[2]))
    assert signed(*one) != signed(*other)
    assert signed(*one) == signed(one[0], one[1].lower(), one[2])


def test_each_fact_is_signed():
    """Another number, visitor, time or key gives another signature."""
    passes = [PASS, Pass("launch", 1, 1235, PASS.visitor, PASS.admitted_ms, 1), Pass("launch", 1, 1234, "f" * 16, 1, 1)]
    texts = [AssertionSigner(KEY).sign(one, b"GET", b"h", b"/", MADE_MS) for one in passes]
    texts += [signed(), signed(made_ms=MADE_MS + 1), signed(key=OTHER)]
    assert len({text.rpartition(b";")[2] for text in texts}) == len(texts)


def test_the_derived_key_opens_nothing_else():
    """With the key that the origin gets no ticket or pass can be read, made or signed by hand, and ours is not told."""
    derived = assertion_key(KEY)
    keyring, deceiver = Keyring([KEY]), Keyring([derived])
    ticket, entry_pass = Ticket("launch", 1, 7, "0123456789abcdef", 1), PASS
    for text in (keyring.sign_ticket(ticket), keyring.sign_pass(entry_pass)):
        with pytest.raises(InvalidToken):
            deceiver.read(text)
        stated, _, signature = text.rpartition(".")
        signer = keyring._signers[text[0], key_id(KEY)]
        assert signer.derive_key() != bytes.fromhex(derived.partition(".")[2])
        assert hmac.digest(derived.encode(), stated.encode(), "sha256") != signer.get_signature(stated)
        assert signature
    for text in (deceiver.sign_ticket(ticket), deceiver.sign_pass(entry_pass)):
        for named in (text, text.replace(key_id(derived), key_id(KEY))):
            with pytest.raises(InvalidToken):
                keyring.read(named)
    assert KEY not in derived


def test_a_derived_key_is_known_by_the_name_of_its_key():
    """Its first eight letters are the id that stands in tokens and in ``waitroom keys list``."""
    assert re.fullmatch(key_id(KEY) + r"\.[0-9a-f]{64}", assertion_key(KEY))
    assert assertion_key(KEY) != assertion_key(OTHER)
