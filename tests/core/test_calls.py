"""What a room's own answers say to the pages of other origins."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitroom.core.cors import HEADERS_BYTES_MAX, answer_to_preflight, is_preflight, readable

ALLOWED = frozenset({b"https://app.example"})
METHODS = frozenset({b"PUT", b"POST"})


def asked(origin=b"https://app.example", method=b"PUT", **more):
    """Return the fields of a preflight."""
    names = {name.replace("_", "-").encode(): value for name, value in more.items()}
    return {b"origin": origin, b"access-control-request-method": method, **names}


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        (b"OPTIONS", asked(), True),
        (b"GET", asked(), False),
        (b"OPTIONS", {b"origin": b"https://app.example"}, False),
        (b"OPTIONS", {b"access-control-request-method": b"PUT"}, False),
    ],
)
def test_a_preflight_is_told_from_other_options(method, fields, expected):
    """It takes the method, an origin, and the method that is asked for."""
    assert is_preflight(method, fields) is expected


def test_a_listed_origin_is_allowed_what_it_asks_for():
    """Its own name, with credentials, the method, the headers, and for how long the browser may remember it."""
    fields = asked(access_control_request_headers=b"content-type,waitroom-pass, x_y")
    assert dict(answer_to_preflight(fields, ALLOWED, METHODS)) == {
        b"Access-Control-Allow-Origin": b"https://app.example",
        b"Access-Control-Allow-Credentials": b"true",
        b"Access-Control-Max-Age": b"60",
        b"Access-Control-Allow-Methods": b"PUT",
        b"Access-Control-Allow-Headers": b"content-type,waitroom-pass, x_y",
    }


@pytest.mark.parametrize(
    "origin",
    [
        b"null",
        b"*",
        b"",
        b"https://APP.example",
        b"http://app.example",
        b"https://app.example:443",
        b"https://app.example.evil.example",
        b"https://evil.example/https://app.example",
        b"https://app.example ",
        b"https://app.example, https://app.example",
    ],
)
def test_any_other_origin_is_allowed_nothing(origin):
    """Origins are compared as browsers write them, byte for byte; what differs is another one."""
    assert answer_to_preflight(asked(origin), ALLOWED, METHODS) is None
    assert answer_to_preflight(asked(origin), frozenset(), METHODS) is None
    assert readable({b"origin": origin}, ALLOWED) == []


@pytest.mark.parametrize("method", [b"BREW", b"put", b"", b"PUT,POST", b"*"])
def test_a_method_that_is_not_forwarded_is_not_allowed(method):
    """The answer leaves it out, and the browser refuses the call."""
    assert b"Access-Control-Allow-Methods" not in dict(answer_to_preflight(asked(method=method), ALLOWED, METHODS))


@pytest.mark.parametrize(
    "names", [b"", b"a b", b"a,,b", b",", b"a:b", b'"a"', b"\xe9", b"a\x00", b"x" * (HEADERS_BYTES_MAX + 1)]
)
def test_headers_that_are_none_are_not_allowed(names):
    """What is no list of names, or is longer than any, is not given back."""
    fields = asked(access_control_request_headers=names)
    assert b"Access-Control-Allow-Headers" not in dict(answer_to_preflight(fields, ALLOWED, METHODS))


@given(origin=st.binary(), method=st.binary(), names=st.binary())
def test_whatever_is_asked_the_answer_can_be_sent(origin, method, names):
    """Nothing of the request gets into the answer that could end its line, and no origin but the listed one."""
    headers = answer_to_preflight(
        asked(origin, method, access_control_request_headers=names), ALLOWED | {origin[:0]}, METHODS
    )
    for name, value in headers or []:
        assert re.fullmatch(rb"[\t -~]*", value), name


def test_a_refusal_can_be_read_by_the_page_of_a_listed_origin():
    """With what it needs in order to wait: the state, and when to come back."""
    assert dict(readable({b"origin": b"https://app.example"}, ALLOWED)) == {
        b"Access-Control-Allow-Origin": b"https://app.example",
        b"Access-Control-Allow-Credentials": b"true",
        b"Access-Control-Expose-Headers": b"Retry-After, Waitroom-State",
        b"Vary": b"Origin",
    }
    assert readable({}, ALLOWED) == []
