"""A room's cookie: what it is called, what is said of it, and which others of its names go.

A cookie's name changes with its attributes. Two cookies of one name that differ in ``Secure`` or ``Domain`` are two to
a browser: it sends both, and may refuse to let one of them be set, so a visitor would get a new place for ever. Hence
three names: ``__Host-`` before it where the cookie is Secure and of one host, ``__Secure-`` where it is Secure and has
a ``Domain``, and none before it in clear.

Read is first the name that would be given now. Its prefix keeps out what another host of the domain, or somebody on the
wire, sets under our name, so the other names count only where it holds no place. They are taken away with the next
cookie that is given, if they were sent, and never otherwise: a refusal gives nothing and takes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from waitroom.core import headers as policy

if TYPE_CHECKING:
    from waitroom.model import Room
    from waitroom.web.messages import Headers, Request

HOST_ONLY = "__Host-"
SECURE = "__Secure-"


@dataclass(frozen=True, slots=True)
class Form:
    """One form of the cookie: its name, the same as a set to look for, and its attributes after ``Path``."""

    name: str
    names: frozenset[bytes]
    attributes: str

    def around(self, max_age_s: int) -> tuple[bytes, bytes]:
        """Return the header line that sets it, before and after the token."""
        name, value = self.header("\0", max_age_s)
        before, after = (b"%b: %b\r\n" % (name, value)).split(b"\0")
        return before, after

    def header(self, token: str, max_age_s: int) -> tuple[bytes, bytes]:
        """Return the header that sets it; without a token and for no time it takes it away."""
        text = f"{self.name}={token}; Path=/; Max-Age={max_age_s}; HttpOnly; {self.attributes}"
        return (b"Set-Cookie", text.encode())


def _form(room: Room, *, secure: bool, domain: str | None) -> Form:
    same_site = room.cookie_same_site
    if same_site == "auto" or (same_site == "none" and not secure):
        # Over https also from other sites: the way back from a payment page is a cross-site POST. Without Secure
        # browsers refuse that.
        same_site = "none" if secure else "lax"
    prefix = "" if not secure else HOST_ONLY if domain is None else SECURE
    name = prefix + room.cookie_name
    attributes = [*(["Secure"] if secure else []), f"SameSite={same_site.title()}"]
    attributes += [] if domain is None else [f"Domain={domain}"]
    return Form(name, frozenset({name.encode()}), "; ".join(attributes))


class RoomCookie:
    """The cookie of one room, in all its forms. ``names`` are all under which it may come."""

    def __init__(self, room: Room) -> None:
        self._domain = room.cookie_domain
        self._secure = room.cookie_secure
        domains = (None,) if self._domain is None else (None, self._domain)
        self._forms = {
            (secure, domain): _form(room, secure=secure, domain=domain)
            for secure in (False, True)
            for domain in domains
        }
        of_host = _form(room, secure=True, domain=None).name.encode()
        plain = room.cookie_name.encode()
        self.names = frozenset({plain, of_host, SECURE.encode() + plain})

    def form(self, host: str, *, https: bool) -> Form:
        """Return the form for a request: ``https`` is how it came, unless the room says; a domain covers its hosts."""
        domain = self._domain
        if domain is not None and host != domain and not host.endswith(f".{domain}"):
            domain = None  # the browser would refuse it: this host keeps its own
        return self._forms[https if self._secure is None else self._secure, domain]

    def given(self, request: Request, token: str, max_age_s: int, *, https: bool) -> Headers:
        """Return the headers that give a token, and take away what was sent under another name."""
        form = self.form(request.host, https=https)
        sent = policy.cookies_sent(request.headers, self.names)
        old = [name for name in dict.fromkeys(sent) if name not in form.names]
        taken = [header for name in old for header in self._taken(name)]
        if form is not (of_host := self._of_host(form)) and sent.count(form.name.encode()) > 1:
            taken.append(of_host.header("", 0))  # of two of one name, one was set before the room had a domain
        return [form.header(token, max_age_s), *taken]

    def taken(self, request: Request) -> Headers:
        """Return the headers that take away every cookie of ours that was sent."""
        sent = dict.fromkeys(policy.cookies_sent(request.headers, self.names))
        return [header for name in sent for header in self._taken(name)]

    def _of_host(self, form: Form) -> Form:
        """Return the form of the same name that has no domain; itself where there is none."""
        return next((other for other in self._forms.values() if other.name == form.name), form)

    def _taken(self, name: bytes) -> Headers:
        """Return the headers that take away a cookie of this name, with the attributes of each that we may have set."""
        return [form.header("", 0) for form in self._forms.values() if name in form.names]
