"""A form of another site's page, on its way into a page of ours and back into a request."""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitroom.core.forms import (
    FIELDS_MAX,
    FORM_BYTES_MAX,
    TRAIL_CHARS_MAX,
    as_first_sent,
    can_be_read,
    read,
    trail,
)

FORM = b"application/x-www-form-urlencoded"
ASSIGNED = [byte for byte in range(256) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)]


def sent(fields):
    """Return the body that a browser makes of a page's fields where the form's encoding is windows-1252."""

    def escaped(text):
        data = b"".join(bytes([ord(c)]) if 0x80 <= ord(c) <= 0x9F else c.encode("cp1252") for c in text)
        return quote_from_bytes(data, safe="*-._ ").replace("~", "%7E").replace(" ", "+")

    return "&".join(f"{escaped(name)}={escaped(value)}" for name, value in fields).encode()


def written(pairs):
    """Return the body that a browser makes of bytes, whatever the encoding of its page."""

    def escaped(data):
        return quote_from_bytes(data, safe="*-._ ").replace("~", "%7E").replace(" ", "+")

    return "&".join(f"{escaped(name)}={escaped(value)}" for name, value in pairs).encode()


def test_the_characters_are_those_of_browsers():
    """All that windows-1252 assigns, and for the five bytes it does not the control characters of their number."""
    ((_, value),) = read(b"a=" + b"".join(b"%%%02X" % byte for byte in range(256) if byte not in (0, 10, 13)))
    expected = [bytes([byte]).decode("cp1252") if byte in ASSIGNED else chr(byte) for byte in range(256)]
    assert list(value) == [char for byte, char in enumerate(expected) if byte not in (0, 10, 13)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"a=b",
        b"a=1&a=2&b=3&a=4",
        b"a=&b=",
        b"name=%B0%E1%C1%A6+%BF%CF%B7%E1",  # euc-kr, as Korean payment pages send it
        b"name=%E7%B5%90%E6%B8%88",
        b"a+b=c+d&%2B=%25",
        b"%ED%A0%80=%F4%90%80%80",
        b"submit=1&action=2&isindex=3&__proto__=4",
        b"crlf=a%0D%0Ab%0D%0A%0D%0A",
        b"%3C%2Fscript%3E=%22%27%26amp%3B",
        b"&".join(b"a=%d" % number for number in range(FIELDS_MAX)),
    ],
)
def test_what_a_browser_wrote_goes_out_as_it_came_in(body):
    """In whatever encoding: the same bytes, names and values, the same fields in the same order."""
    assert sent(read(body)) == body


@given(st.lists(st.tuples(st.binary(min_size=1), st.binary()), max_size=20))
def test_any_form_that_is_sent_again_is_the_same(pairs):
    """Whatever the bytes are, the form either goes out again as it was, or is not sent again."""
    body = written(pairs)
    fields = read(body)
    if fields is not None:
        assert sent(fields) == body
        assert not any(re.search(r"\0|\r(?!\n)|(?<!\r)\n", text) for field in fields for text in field)
    else:
        assert re.search(rb"%0[0AD]|_charset_", body, re.IGNORECASE)


@given(st.binary(max_size=400))
def test_no_bytes_are_too_odd_to_be_read(body):
    """Broken escapes, bare signs, anything: there is an answer, and each character of it is one byte."""
    for field in read(body) or []:
        for text in field:
            assert all(ord(char) < 256 or char.encode("cp1252") for char in text)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"a", [("a", "")]),
        (b"&&a=1&&", [("a", "1")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a=%&b=%4&c=%zz&%4=%", [("a", "%"), ("b", "%4"), ("c", "%zz"), ("%4", "%")]),
        (b"a=%ea b", [("a", "ê b")]),
        (b"a=\r%0A%0d\n%250D%%300D", [("a", "\r\n\r\n%0D%00D")]),
    ],
)
def test_what_no_browser_wrote_means_the_same(body, fields):
    """Other spellings go out in a browser's own, with the fields that a shop would have read."""
    assert read(body) == fields


@pytest.mark.parametrize(
    "body",
    [
        b"a=%00",
        b"%00=a",
        b"a=%0A",
        b"a=%0D",
        b"a=%0A%0D",
        b"a=%0d%0d%0a",
        b"a=%0d%0a%0a",
        b"a=%0D&%0A=b",
        b"a=\r%0D\n",
        b"a%0D=1",
        b"a=\n",
        b"=a",
        b"a=1&=2",
        b"_charset_=utf-8",
        b"_ChArSeT%5F",
        b"&".join(b"a" for _ in range(FIELDS_MAX + 1)),
        b"a&" * (FORM_BYTES_MAX // 2),
    ],
)
def test_what_a_page_cannot_carry_is_not_attempted(body):
    """A NUL, half a line end, a field without a name, one that the browser fills in, more fields than any form has."""
    assert read(body) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({b"content-type": FORM}, True),
        ({b"content-type": b" Application/X-WWW-Form-URLencoded "}, True),
        ({}, False),
        ({b"content-type": b"text/plain"}, False),
        ({b"content-type": b"multipart/form-data; boundary=x"}, False),
        ({b"content-type": FORM + b"; charset=euc-kr"}, False),
        ({b"content-type": FORM, b"content-encoding": b"gzip"}, False),
        ({b"content-type": FORM, b"expect": b"100-continue"}, False),
    ],
)
def test_only_a_plain_form_is_read(fields, expected):
    """What the page would send with other headers than it came with is not read at all."""
    assert can_be_read(fields) is expected


FIRST = [
    (b"Host", b"shop.example"),
    (b"Origin", b"https://pay.example"),
    (b"Referer", b"https://pay.example/done?a=b&c=%20"),
    (b"Cookie", b"sid=1; x=2"),
    (b"Sec-Fetch-Site", b"cross-site"),
    (b"Cookie", b"y=3"),
]
AGAIN = [
    (b"Host", b"shop.example"),
    (b"Origin", b"https://shop.example"),
    (b"Sec-Fetch-Site", b"same-origin"),
    (b"Referer", b"https://shop.example/.waitroom/launch/form"),
    (b"Cookie", b"lax=8; sid=1; waitroom_launch=p.1; x=2"),
    (b"COOKIE", b"strict=9"),
    (b"cookie", b"y=3"),
    (b"Content-Type", FORM),
]


def test_the_repeat_becomes_what_came_first():
    """It comes from who sent it, and brings no cookie that did not come with the form."""
    assert as_first_sent("launch", AGAIN, trail("launch", FIRST).encode()) == [
        (b"Host", b"shop.example"),
        (b"Origin", b"https://pay.example"),
        (b"Sec-Fetch-Site", b"cross-site"),
        (b"Referer", b"https://pay.example/done?a=b&c=%20"),
        (b"Cookie", b"sid=1; x=2"),
        (b"cookie", b"y=3"),
        (b"Content-Type", FORM),
    ]


def test_who_did_not_say_who_they_are_still_does_not():
    """Of a form without Origin and Referer the repeat has none either, and no cookie."""
    assert as_first_sent("launch", AGAIN, trail("launch", [(b"Origin", b"x y"), (b"Host", b"a")]).encode()) == [
        (b"Host", b"shop.example"),
        (b"Sec-Fetch-Site", b"cross-site"),
        (b"Content-Type", FORM),
    ]


@pytest.mark.parametrize(
    "came_from", [None, b"/", b"/event/?a=b", b"/.waitroom/launch/form", b"/.waitroom/other/form?origin=x", b"/form?a"]
)
def test_what_is_no_repeat_stays_as_it_is(came_from):
    """Only our own page, and of this room, says that a form is sent again."""
    assert as_first_sent("launch", AGAIN, came_from) is None


@given(st.binary())
def test_a_trail_that_was_made_up_puts_nothing_into_a_header_that_ends_it(query):
    """Whatever a client states there, each header it comes to is one line of visible characters."""
    forged = b"origin=" + quote_from_bytes(query).encode() + b"&" + query
    for name, value in as_first_sent("launch", AGAIN, b"/.waitroom/launch/form?" + forged):
        if name in {b"Origin", b"Referer"}:
            assert re.fullmatch(rb"[!-~]+", value)


def test_a_trail_has_an_end():
    """Cookies beyond it are left out, so that the browser does not cut it; who sent the form is always in it."""
    cookies = b"; ".join(b"%d%b=1" % (number, b"n" * 90) for number in range(99))
    long = trail("launch", [(b"Cookie", cookies), (b"Origin", b"https://" + b"p" * 480), (b"Referer", b"x" * 501)])
    assert 2_000 < len(long) <= TRAIL_CHARS_MAX
    assert long.startswith("/.waitroom/launch/form?origin=https%3A%2F%2Fppp")
    assert len(re.findall("cookie=", long)) < 40
    assert "referer" not in long
