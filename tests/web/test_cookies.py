"""A room's cookie, as a strict browser keeps it: given once, it comes back, whatever was given before."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rooms import room

from waitroom.core import headers as policy
from waitroom.web.cookies import RoomCookie
from waitroom.web.messages import Request


def cookie_of(domain: str | None = None, same_site: str = "auto", *, secure: bool | None = None) -> RoomCookie:
    """Return the cookie of a room with these settings."""
    settings = {"cookie_domain": domain, "cookie_same_site": same_site, "cookie_secure": secure}
    return RoomCookie(room(cookie_name="waitroom_launch", **settings))


@dataclass
class Browser:
    """Keeps cookies as RFC 6265bis says, and refuses what browsers refuse; it tells them apart by the key."""

    jar: dict[tuple[str, str, bool], tuple[str, bool]] = field(default_factory=dict)

    def ask(self, host: str, *, https: bool) -> Request:
        """Return a request with the cookies that go with it."""
        pairs = [
            f"{name}={value}"
            for (name, domain, of_host), (value, secure) in self.jar.items()
            if (host == domain or (not of_host and host.endswith(f".{domain}"))) and (https or not secure)
        ]
        headers = [(b"Host", host.encode())]
        headers += [(b"Cookie", "; ".join(pairs).encode())] if pairs else []
        fields = {name.lower(): value for name, value in headers}
        return Request(b"GET", b"/event/", "1.1", headers, fields, host, "127.0.0.1")

    def take(self, host: str, lines: list[tuple[bytes, bytes]], *, https: bool) -> None:
        """Take the Set-Cookie lines of an answer."""
        for line in lines:
            assert line[0] == b"Set-Cookie"
            pair, *said = line[1].decode().split("; ")
            name, _, value = pair.partition("=")
            attributes = dict(part.partition("=")[::2] for part in said)
            assert attributes["Path"] == "/"
            assert "HttpOnly" in attributes
            domain, secure = attributes.get("Domain"), "Secure" in attributes
            if domain is not None and host != domain and not host.endswith(f".{domain}"):
                continue
            if secure and not https:
                continue
            if name.startswith("__Host-") and (domain is not None or not secure):
                continue
            if name.startswith("__Secure-") and not secure:
                continue
            if attributes["SameSite"] == "None" and not secure:
                continue
            key = (name, domain or host, domain is None)
            hidden = any(one[0] == name and kept[1] for one, kept in self.jar.items())
            if hidden and not https and not secure:
                continue  # a cookie in clear leaves one that is Secure alone
            if attributes["Max-Age"] == "0":
                self.jar.pop(key, None)
            else:
                self.jar[key] = (value, secure)


def read(cookie: RoomCookie, request: Request, *, https: bool) -> list[str]:
    """Return what is read of a request: the present name, and the others where it has nothing."""
    names = cookie.form(request.host, https=https).names
    return policy.cookies(request.headers, names) or policy.cookies(request.headers, cookie.names - names)


SETTINGS = [
    (domain, same_site, secure)
    for domain in (None, "shop.example")
    for same_site in ("auto", "lax", "strict", "none")
    for secure in (None, False)
    if (same_site, secure) != ("none", False)
]
VISITS = st.tuples(
    st.sampled_from(SETTINGS), st.sampled_from(["shop.example", "www.shop.example", "other.example"]), st.booleans()
)


@given(visits=st.lists(VISITS, min_size=1, max_size=8))
def test_what_was_given_comes_back(visits: list[tuple[tuple[str | None, str, bool | None], str, bool]]) -> None:
    """By any way to the page, under any settings before: a place that was given is read at the next look there."""
    browser = Browser()
    for number, ((domain, same_site, secure), host, https) in enumerate(visits):
        cookie = cookie_of(domain, same_site, secure=secure)
        request = browser.ask(host, https=https)
        browser.take(host, cookie.given(request, f"t.{number}", 60, https=https), https=https)
        assert f"t.{number}" in read(cookie, browser.ask(host, https=https), https=https)
    browser.take(host, cookie.taken(browser.ask(host, https=https)), https=https)
    assert not policy.cookies(browser.ask(host, https=https).headers, cookie.form(host, https=https).names) or (
        domain is None  # what an earlier domain had set in clear, nobody can name any more
    )


@pytest.mark.parametrize(
    ("settings", "https", "line"),
    [
        ((None, "auto", None), True, "__Host-waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; Secure; SameSite=None"),
        ((None, "auto", None), False, "waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; SameSite=Lax"),
        ((None, "auto", True), False, "__Host-waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; Secure; SameSite=None"),
        ((None, "auto", False), True, "waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; SameSite=Lax"),
        ((None, "lax", None), True, "__Host-waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; Secure; SameSite=Lax"),
        ((None, "strict", None), False, "waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; SameSite=Strict"),
        ((None, "none", None), False, "waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; SameSite=Lax"),
        (
            ("shop.example", "auto", None),
            True,
            "__Secure-waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; Secure; SameSite=None; Domain=shop.example",
        ),
        (
            ("shop.example", "auto", None),
            False,
            "waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; SameSite=Lax; Domain=shop.example",
        ),
        (
            ("elsewhere.example", "auto", None),
            True,
            "__Host-waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; Secure; SameSite=None",
        ),
        (("op.example", "auto", None), False, "waitroom_launch=t; Path=/; Max-Age=9; HttpOnly; SameSite=Lax"),
    ],
)
def test_a_cookie_s_name_goes_with_its_attributes(
    settings: tuple[str | None, str, bool | None], https: bool, line: str
) -> None:
    """As the settings and the way say; a host that the domain does not cover keeps one of its own."""
    cookie = cookie_of(settings[0], settings[1], secure=settings[2])
    request = Browser().ask("shop.example", https=https)

    assert cookie.given(request, "t", 9, https=https) == [(b"Set-Cookie", line.encode())]


def names(lines: list[tuple[bytes, bytes]]) -> list[tuple[str, bool, bool]]:
    """Return name, whether it has a domain, and whether it is taken away, of each line."""
    texts = [value.decode() for _, value in lines]
    return [(text.partition("=")[0], "Domain=" in text, "Max-Age=0" in text) for text in texts]


def sent(*pairs: str) -> Request:
    """Return a request with these cookies, on two lines."""
    headers = [(b"Cookie", "; ".join(pairs[:1]).encode()), (b"cookie", "; ".join(pairs[1:]).encode())]
    return Request(b"GET", b"/event/", "1.1", headers, {}, "www.shop.example", "127.0.0.1")


def test_an_old_cookie_goes_when_a_new_one_is_given_and_it_was_sent() -> None:
    """Each with the attributes it was set with; what was not sent is left alone, and so is the shop's."""
    plain, of_host = "waitroom_launch", "__Host-waitroom_launch"
    now = (of_host, False, False)
    assert names(cookie_of().given(sent("shop=1"), "t", 9, https=True)) == [now]
    assert names(cookie_of().given(sent(f"{of_host}=x"), "t", 9, https=True)) == [now]
    assert names(cookie_of().given(sent(f"{plain}=x", f"{plain}=y"), "t", 9, https=True)) == [now, (plain, False, True)]
    over = cookie_of("shop.example").given(sent(f"{plain}=x", f"{of_host}=y", "shop=1"), "t", 9, https=True)
    assert names(over) == [
        ("__Secure-waitroom_launch", True, False),
        (plain, False, True),
        (plain, True, True),
        (of_host, False, True),
    ]
    twice = cookie_of("shop.example").given(sent(f"{plain}=x", f"{plain}=y"), "t", 9, https=False)
    assert names(twice) == [(plain, True, False), (plain, False, True)]


def test_a_leave_takes_what_was_sent_with_its_own_attributes() -> None:
    """Every name of ours that came, and none that did not."""
    cookie = cookie_of("shop.example")
    assert cookie.taken(sent("shop=1")) == []
    assert cookie.taken(sent("__Secure-waitroom_launch=x")) == [
        (
            b"Set-Cookie",
            b"__Secure-waitroom_launch=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=None; Domain=shop.example",
        )
    ]
    assert names(cookie.taken(sent("waitroom_launch=x"))) == [
        ("waitroom_launch", False, True),
        ("waitroom_launch", True, True),
    ]
