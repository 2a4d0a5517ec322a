"""What crosses the proxy in a header, in either direction, and what may be believed of it.

Toward the origin everything a client sent goes on in its order, case and number, except what belongs to one connection
only, what is ours to say (``Waitroom-*``, the client's address), and our cookies. From the origin everything goes on
except its commands to us. Names are compared as CGI would spell them, every character that is no letter or digit being
the same, because ``Waitroom_Room`` and ``Waitroom-Room`` are one variable to a PHP or WSGI shop. What is *believed*
(``client_address``) is compared exactly instead: an alias that passed a trusted proxy is the client's own word.

Header lists are ``(name, value)`` pairs of bytes as they stood on the wire. ``fields`` are the same for looking up:
lower-case name with ``_`` as ``-``, to the first value. Nothing here raises, whatever the bytes; framing is the wire's
business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping, Sequence

    from waitroom.model import Network

Headers = list[tuple[bytes, bytes]]

COOKIES_MAX = 16
"""Values of our cookies that are looked at. A browser sends one or two; each more may cost a signature check."""

COOKIE_BYTES_MAX = 512
"""Bytes of a cookie's value that are looked at; a longer one is no token of ours, which has at most 400."""

HOPS_MAX = 16
"""Addresses of ``X-Forwarded-For`` that are believed on the way back to the client."""

LANGUAGES_BYTES_MAX = 256
"""Bytes of ``Accept-Language`` that are read. Browsers send some 40."""

LANGUAGES_KEPT = 1024
"""Readings of it that are remembered: a crowd speaks few languages, and spells them in a few ways."""

AGENT_BYTES_KEPT_MAX = 512
AGENTS_KEPT = 1024
"""How long a ``User-Agent`` may be to be remembered, and how many are: a crowd comes with a few hundred of them."""

RANGES_MAX = 64
"""Media ranges of ``Accept`` that are read. Browsers send about eight."""

_COMMON = b"""
Accept Accept-Encoding Accept-Language Accept-Ranges Access-Control-Allow-Origin Age Allow Authorization Cache-Control
Content-Encoding Content-Language Content-Range Content-Security-Policy Content-Type DNT Date ETag Expires Host
If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Last-Modified Link Location Origin Pragma
Priority Range Referer Referrer-Policy Retry-After Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest
Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Sec-GPC Server Strict-Transport-Security Upgrade-Insecure-Requests
User-Agent Vary Via X-Content-Type-Options X-Frame-Options X-Powered-By X-Request-ID X-Requested-With
"""
COMMON = frozenset((_COMMON + _COMMON.lower()).split())
"""Common spellings of headers that nothing here is about, in either direction, to know them at one look. Fixed, so
nobody outside can make it grow."""

# Upper case to lower; whatever is no letter or digit to a dash.
_PLAIN = re.sub(rb"[^a-z0-9]", b"-", bytes(range(256)).lower())

_PURPOSES = frozenset({b"sec-purpose", b"purpose", b"x-purpose", b"x-moz"})

# The names by which crawlers say who they are. No bare "bot": it stands in the names of telephones too.
_CRAWLER = re.compile(
    rb"\b(?:Googlebot|Google-InspectionTool|GoogleOther|AdsBot-Google|Mediapartners-Google|Storebot-Google"
    rb"|bingbot|BingPreview|adidxbot|msnbot|Yeti/|Daum(?:oa)?/|NaverBot|DuckDuckBot|YandexBot|Baiduspider"
    rb"|Sogou web spider|360Spider|Applebot|Yahoo! Slurp|SeznamBot|PetalBot|Bytespider|Amazonbot"
    rb"|Qwantify|Qwantbot|coccocbot|facebookexternalhit|facebookcatalog|meta-externalagent|Twitterbot|LinkedInBot|Slackbot"
    rb"|Discordbot|TelegramBot|Pinterestbot|kakaotalk-scrap|Line-?Bot|redditbot|SkypeUriPreview"
    rb"|GPTBot|OAI-SearchBot|ClaudeBot|PerplexityBot|CCBot|Diffbot|archive\.org_bot|ia_archiver"
    rb"|AhrefsBot|SemrushBot|MJ12bot|DotBot|rogerbot|BLEXBot|DataForSeoBot)",
    re.IGNORECASE,
)

# Of one connection only (RFC 9110, 7.6.1), or framing, which the wire writes anew. ``Proxy-Authorization`` is meant for
# the first proxy, and that is us. ``Proxy`` is no header at all, but becomes ``HTTP_PROXY`` in CGI's environment, where
# HTTP clients look for a proxy to use.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"http2-settings",
        b"keep-alive",
        b"proxy",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# Headers by which some servers take another path than the one on the request line. The gate judged the request line,
# so these would be a way around it; also through a trusted proxy, which passes on what it does not know.
_PATH_OVERRIDES = frozenset(
    {
        b"path-info",
        b"request-uri",
        b"script-name",
        b"x-original-uri",
        b"x-original-url",
        b"x-override-url",
        b"x-rewrite-url",
        b"x-script-name",
    }
)

# Who the client is, in the words of various proxies: anybody can say them, so only a trusted proxy may.
_CLIENT_CLAIMS = frozenset(
    {
        b"cf-connecting-ip",
        b"client-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"forwarded-for",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-host",
        b"x-real-ip",
    }
)

# ``Connection`` may name any header to be dropped, and is the client's word. Not these: the request was judged by them,
# or they tell the origin whose it is and how to read its body. RFC 9110 forbids naming such end-to-end fields.
_NOT_FOR_CONNECTION = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-type",
        b"cookie",
        b"host",
        b"origin",
        b"range",
        b"referer",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
    }
)

# What a shop wants to read itself, or a browser sends to every page: no secret of one client, and not ours to drop.
# ``COMMON`` goes on at one look, so nothing of it could be withheld anyway.
_OF_HTTP = COMMON | frozenset(
    b"accept-charset cookie cookie2 early-data from idempotency-key max-forwards set-cookie warning".split()
)
_FAMILIES = (b"waitroom-", b"content-", b"if-", b"sec-", b"access-control-", b"x-forwarded", b"proxy-", b"cf-")

_COMMANDS = frozenset({b"waitroom-command", b"waitroom-stock", b"cf-waiting-room-command"})

# Caches that obey these look at Cache-Control no more.
_CACHE_OVERRIDES = frozenset({b"edge-control", b"surrogate-control", b"x-accel-expires"})

# Without a word about freshness a cache may still keep answers of these (RFC 9110, 15.1); 304 renews what it has kept.
_KEPT_BY_DEFAULT = frozenset({200, 203, 204, 206, 300, 301, 304, 308, 404, 405, 410, 414, 501})

_DIRECTIVE = re.compile(rb'([^\s,="]+)\s*(?:=\s*("(?:[^"\\]|\\.)*+"|[^\s,]*))?')


def _is_ours(name: bytes, names: Container[bytes]) -> bool:
    """Tell whether a cookie is ours: by its name, or by the beginning that cookies of rooms long gone have too."""
    return name in names or (
        b"waitroom_" in name and name.removeprefix(b"__Host-").removeprefix(b"__Secure-").startswith(b"waitroom_")
    )


# --- Toward the origin -------------------------------------------------------------------------------------------


def toward_origin(
    headers: Iterable[tuple[bytes, bytes]],
    *,
    peer: str,
    trusted: bool,
    scheme: str,
    host: bytes,
    ours: Sequence[tuple[bytes, bytes]] = (),
    cookie_names: Container[bytes] = (),
    withheld: frozenset[bytes] = frozenset(),
    identities: frozenset[bytes] = frozenset(),
    tunnel: bool = False,
    expect: bool = False,
) -> Headers:
    """Return the headers for the origin, without framing.

    ``peer`` is the address at the other end of the socket, ``trusted`` whether it is a proxy of the operator's;
    ``scheme`` is how the client came, ``host`` the Host as sent. ``ours`` is added last; ``withheld`` names, in
    lower case, headers that are a secret between a client and us; ``identities`` those by which only a proxy of the
    operator's says who somebody is. ``tunnel`` keeps ``Upgrade`` and says ``Connection:
    Upgrade``; ``expect`` keeps ``Expect``.
    """
    kept: Headers = []
    chain: list[bytes] = []
    said: set[bytes] = set()
    forwarded: list[bytes] = []
    options: list[bytes] = []
    for field in headers:
        name, value = field
        if name in COMMON:
            kept.append(field)
            continue
        plain = name.translate(_PLAIN)
        if plain in _HOP_BY_HOP:
            if plain == b"connection" and value != b"keep-alive":
                options.append(value)
            elif (tunnel and plain == b"upgrade") or (expect and plain == b"expect"):
                kept.append(field)
        elif plain.startswith(b"waitroom-") or plain in _PATH_OVERRIDES:
            continue
        elif plain == b"cookie":
            rest = _without(value, cookie_names)
            if rest is not None:
                kept.append((name, rest))
        elif _is_claim(plain) or plain in identities:
            if plain == b"forwarded":
                forwarded.append(value)
            if not trusted or name.lower() != plain:
                continue
            if plain == b"x-forwarded-for":
                chain.append(value)
            elif plain != b"forwarded":
                if plain in said:  # the last line is the nearest proxy's; what it left standing above is the client's
                    kept = [one for one in kept if one[0].lower() != plain]
                said.add(plain)
                kept.append(field)
        elif plain not in withheld:
            kept.append(field)
    if options:
        dropped = _named_by_connection(options)
        kept = [field for field in kept if field[0].translate(_PLAIN) not in dropped]
    address, others = _introduction(peer, scheme, host)
    kept.append((address[0], b", ".join([*chain, address[1]])) if chain else address)
    kept.extend([field for field in others if field[0].lower() not in said] if said else others)
    if forwarded:
        element = _forwarded(address[1], scheme, host)
        kept.append((b"Forwarded", b", ".join([*forwarded, element]) if trusted else element))
    if tunnel:
        kept.append((b"Connection", b"Upgrade"))
    kept.extend(ours)
    return kept


def _named_by_connection(options: Iterable[bytes]) -> set[bytes]:
    """Return the headers that ``Connection`` names, but for those that are not its to name."""
    named = {option.strip().translate(_PLAIN) for value in options for option in value.split(b",")}
    return {name for name in named - _NOT_FOR_CONNECTION - _HOP_BY_HOP if not _is_claim(name)}


def _is_claim(plain: bytes) -> bool:
    """Tell whether a header says who the client is."""
    return plain in _CLIENT_CLAIMS or plain.startswith(b"x-forwarded-")


def _without(cookie: bytes, names: Container[bytes]) -> bytes | None:
    """Return a Cookie header without our cookies, the others byte for byte; None when none is left."""
    pieces = cookie.split(b";")
    kept = [piece for piece in pieces if not _is_ours(piece.partition(b"=")[0].strip(), names)]
    if len(kept) == len(pieces):
        return cookie
    rest = b";".join(kept).strip()
    return rest or None


@lru_cache(maxsize=4096)  # every request of a connection has the same
def _introduction(peer: str, scheme: str, host: bytes) -> tuple[tuple[bytes, bytes], tuple[tuple[bytes, bytes], ...]]:
    """Return what we say of a client in ``X-Forwarded-*``: its address, and the others."""
    address = (_address(peer) or peer).encode("ascii", "replace")
    return (b"X-Forwarded-For", address), (
        (b"X-Forwarded-Proto", scheme.encode("ascii", "replace")),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Port", _port(scheme, host)),
    )


def _port(scheme: str, host: bytes) -> bytes:
    found = re.search(rb":([0-9]{1,5})\Z", host)
    if found:
        return found[1]
    return b"443" if scheme == "https" else b"80"


def _forwarded(address: bytes, scheme: str, host: bytes) -> bytes:
    """Return one element of ``Forwarded`` (RFC 7239)."""
    node = b'"[%b]"' % address if b":" in address else b'"%b"' % address
    element = b"for=%b;proto=%b" % (node, scheme.encode("ascii", "replace"))
    return element + b';host="%b"' % host if re.fullmatch(rb"[\w.:\[\]-]+", host) else element


# --- From the origin ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FromOrigin:
    """An origin's headers for the browser, and its commands to us: lower-case names, values as sent, in order."""

    headers: Headers
    commands: tuple[tuple[bytes, bytes], ...] = ()


def from_origin(headers: Iterable[tuple[bytes, bytes]], cookie_names: Container[bytes] = ()) -> FromOrigin:
    """Part an origin's headers into what the browser gets and what is for us.

    The browser gets no ``Waitroom-*``, whatever it says, and no cookie under one of our names: only we set those.
    """
    kept: Headers = []
    commands: list[tuple[bytes, bytes]] = []
    for field in headers:
        name, value = field
        if name in COMMON:
            kept.append(field)
            continue
        plain = name.translate(_PLAIN)
        if plain in _COMMANDS:
            commands.append((plain, value))
        elif plain.startswith(b"waitroom-") or (plain == b"set-cookie" and _sets(value, cookie_names)):
            continue
        else:
            kept.append(field)
    return FromOrigin(kept, tuple(commands))


def _sets(value: bytes, names: Container[bytes]) -> bool:
    """Tell whether a Set-Cookie sets one of ours; a cookie without a name comes back as if its value were one."""
    return _is_ours(value.partition(b";")[0].lstrip(b"= \t").partition(b"=")[0].strip(), names)


def _directives(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return all directives of ``Cache-Control``: lower-case name and text as it stands."""
    return [
        (found[1].lower(), found[0].strip())
        for name, value in headers
        if name.lower() == b"cache-control"
        for found in _DIRECTIVE.finditer(value)
    ]


def _overrides_cache_control(plain: bytes) -> bool:
    return plain in _CACHE_OVERRIDES or plain.endswith(b"cdn-cache-control")


def private_cache(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers such that only the visitor's own browser may keep the answer.

    What the origin said about the browser's cache stays. ``private="field"`` becomes ``private``: with a field it
    speaks about that field only. Headers that caches obey instead of ``Cache-Control`` are dropped.
    """
    headers = list(headers)
    shared = {b"public", b"s-maxage", b"private", b"proxy-revalidate"}
    said = [text for directive, text in _directives(headers) if directive not in shared]
    private = (b"Cache-Control", b", ".join([b"private", *dict.fromkeys(said)]))
    kept = [
        (name, value)
        for name, value in headers
        if (plain := name.translate(_PLAIN)) != b"cache-control" and not _overrides_cache_control(plain)
    ]
    return [*kept, private]


def shared_cache_may_keep(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a shared cache may keep this answer (RFC 9111, 3); in doubt it may.

    ``no-cache`` and ``max-age=0`` do not help: a cache may keep such an answer and hand it out once it has asked.
    """
    headers = list(headers)
    if any(_overrides_cache_control(name.translate(_PLAIN)) for name, _ in headers):
        return True
    directives = _directives(headers)
    bare = {text.lower() for _, text in directives}
    # With must-understand, a cache that knows the status may overlook no-store.
    if b"private" in bare or (b"no-store" in bare and b"must-understand" not in bare):
        return False
    told = {directive for directive, _ in directives} & {b"public", b"max-age", b"s-maxage"}
    return status in _KEPT_BY_DEFAULT or bool(told) or any(name.lower() == b"expires" for name, _ in headers)


# --- Who asks ----------------------------------------------------------------------------------------------------


def cookies(headers: Iterable[tuple[bytes, bytes]], names: Container[bytes]) -> list[str]:
    """Return the values of all cookies of these names, in order, quotes stripped.

    At most ``COOKIES_MAX``, each cut after ``COOKIE_BYTES_MAX``: what is longer is no token, cut or whole, and is still
    returned, so that its refusal can be told.
    """
    values: list[str] = []
    for header, line in headers:
        if header.lower() != b"cookie":
            continue
        for piece in line.split(b";"):
            name, _, value = piece.partition(b"=")
            if name.strip() not in names:
                continue
            value = value.strip()
            if len(value) > 1 and value.startswith(b'"') and value.endswith(b'"'):
                value = value[1:-1]
            values.append(value[:COOKIE_BYTES_MAX].decode("latin-1"))
            if len(values) == COOKIES_MAX:
                return values
    return values


def cookies_sent(headers: Iterable[tuple[bytes, bytes]], names: Container[bytes]) -> list[bytes]:
    """Return the names of all cookies of these names, in order, each as often as it was sent."""
    pieces = (piece for header, line in headers if header.lower() == b"cookie" for piece in line.split(b";"))
    return [name for piece in pieces if (name := piece.partition(b"=")[0].strip()) in names]


# In brackets, perhaps with a zone and a port; IPv4, perhaps with a port; IPv6, perhaps with a zone.
_ENTRY = re.compile(
    r"\[([0-9A-Fa-f:.]+)(?:%[^\]\s]*)?\](?::[0-9]{1,5})?"
    r"|([0-9.]+)(?::[0-9]{1,5})?"
    r"|([0-9A-Fa-f]*:[0-9A-Fa-f:.]+)(?:%\S*)?"
)
_ENTRY_CHARACTERS_MAX = 80


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address written with or without brackets, port and zone; None for anything else.

    An IPv4 address mapped into IPv6 is the IPv4 address it means.
    """
    return _read(text) if len(text) <= _ENTRY_CHARACTERS_MAX else None


@lru_cache(maxsize=4096)  # every request of a connection names the same one, and more than once
def _read(text: str) -> IPv4Address | IPv6Address | None:
    found = _ENTRY.fullmatch(text.strip())
    if found is None:
        return None
    try:
        address = ip_address(found[found.lastindex or 0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _address(text: str) -> str | None:
    return None if _parse(text) is None else _written(text)


@lru_cache(maxsize=4096)  # the standard library takes a microsecond for it
def _written(text: str) -> str:
    """Return a text that is an address in the one spelling of this address."""
    return str(_parse(text))


def client_address(headers: Iterable[tuple[bytes, bytes]], peer: str, trusted: Collection[Network]) -> tuple[str, bool]:
    """Return the client's address, and whether it came by https.

    Believed is the peer of the socket, and as long as that is a trusted proxy the address to its left in
    ``X-Forwarded-For``. Junk ends the walk at the last address believed. Of ``X-Forwarded-Proto`` the last line counts
    (a proxy that adds, adds there), and in it the first word, which speaks about the client.
    """
    address = _parse(peer)
    if address is None:
        return peer, False
    if not _is_in(address, trusted):
        return _written(peer), False
    headers = list(headers)
    address, _ = _walk(headers, address, trusted)
    schemes = [value for name, value in headers if name.lower() == b"x-forwarded-proto"]
    return str(address), bool(schemes) and schemes[-1].partition(b",")[0].strip().lower() == b"https"


def _walk(
    headers: Iterable[tuple[bytes, bytes]], address: IPv4Address | IPv6Address, trusted: Collection[Network]
) -> tuple[IPv4Address | IPv6Address, bool]:
    """Return the last address believed on the way back from a trusted proxy, and whether something unread is left.

    What is left behind an address that is no proxy is that client's own word, and not counted.
    """
    lines = [value for name, value in headers if name.lower() == b"x-forwarded-for"]
    if not lines:
        return address, False
    for entry in reversed(b",".join(lines).rsplit(b",", HOPS_MAX - 1)):
        nearer = _parse(entry.decode("latin-1"))
        if nearer is None:
            return address, True
        address = nearer
        if not _is_in(address, trusted):
            break
    return address, False


@dataclass(frozen=True, slots=True)
class Client:
    """Whom ``client_address`` takes a client for; None where the peer has no IP address.

    ``certain`` is False where that address speaks for another, whom no proxy we trust names: a proxy that is not
    listed, or one that is and does not say for whom it asks.
    """

    address: IPv4Address | IPv6Address | None
    certain: bool


def client(headers: Sequence[tuple[bytes, bytes]], peer: str, trusted: Collection[Network]) -> Client:
    """Return the client, and whether it surely asks for itself."""
    at_socket = _parse(peer)
    if at_socket is None:
        return Client(None, certain=False)
    address, torn = _walk(headers, at_socket, trusted) if _is_in(at_socket, trusted) else (at_socket, False)
    for_another = torn or (address == at_socket and any(_is_claim(plain_name(name)) for name, _ in headers))
    return Client(address, certain=not for_another)


def plain_name(name: bytes) -> bytes:
    """Return a name in the one spelling of all that CGI takes for the same."""
    return name.translate(_PLAIN)


def is_owned(name: bytes) -> bool:
    """Tell whether a header, in lower case, has a meaning to HTTP, to browsers, to proxies, or to us."""
    return (
        name in _HOP_BY_HOP
        or name in _PATH_OVERRIDES
        or name in _OF_HTTP
        or name.startswith(_FAMILIES)
        or _is_claim(name)
    )


def _is_in(address: IPv4Address | IPv6Address, networks: Iterable[Network]) -> bool:
    for network in networks:  # noqa: SIM110 - a generator costs more than what it does here: mostly nothing
        if address in network:
            return True
    return False


# --- What is asked for -------------------------------------------------------------------------------------------


def is_document(method: bytes, fields: Mapping[bytes, bytes]) -> bool:
    """Tell whether a browser shows the answer as a page, and so whether it may be a waiting page.

    Browsers say so in ``Sec-Fetch-*``. Without that it takes an ``Accept`` that prefers HTML: ``*/*``, which scripts
    and command lines send, prefers nothing. Browsers navigate by GET and POST only.
    """
    if method not in {b"GET", b"HEAD", b"POST"}:
        return False
    mode = fields.get(b"sec-fetch-mode")
    if mode is not None:
        destination = fields.get(b"sec-fetch-dest", b"document").strip().lower()
        return mode.strip().lower() == b"navigate" and destination in {b"document", b"iframe", b"frame"}
    if fields.get(b"x-requested-with", b"").strip().lower() == b"xmlhttprequest":
        return False
    html, json = _preferences(fields)
    return html > json


def prefers_json(fields: Mapping[bytes, bytes]) -> bool:
    """Tell whether ``Accept`` names JSON, and not HTML before it."""
    html, json = _preferences(fields)
    return json > html


def language(fields: Mapping[bytes, bytes], offered: tuple[str, ...]) -> str:
    """Return which of the languages ``offered`` a visitor wants most, the first if none (RFC 4647, 3.4: lookup).

    ``ko-KR`` is content with ``ko``, and ``en`` with nothing that says more, such as ``en-GB``.
    """
    return _language(fields.get(b"accept-language", b"")[:LANGUAGES_BYTES_MAX], offered)


@lru_cache(LANGUAGES_KEPT)
def _language(accepted: bytes, offered: tuple[str, ...]) -> str:
    by_tag = {tag.lower(): tag for tag in offered}
    best, best_quality = offered[0], 0.0
    for entry in accepted.decode("latin-1").lower().split(","):
        tag, _, parameters = entry.partition(";")
        quality = _quality(parameters.encode("latin-1"))
        parts = tag.strip().split("-")
        found = next(
            (by_tag[tag] for end in range(len(parts), 0, -1) if (tag := "-".join(parts[:end])) in by_tag), None
        )
        if found is not None and quality > best_quality:
            best, best_quality = found, quality
    return best


def _preferences(fields: Mapping[bytes, bytes]) -> tuple[tuple[float, int], tuple[float, int]]:
    """Return how much ``Accept`` wants HTML and JSON: quality (0 when not named), then place, the earlier the more."""
    html = json = (0.0, 0)
    for place, media_range in enumerate(fields.get(b"accept", b"").split(b",", RANGES_MAX)[:RANGES_MAX]):
        kind, _, parameters = media_range.lower().partition(b";")
        kind = kind.strip()
        quality = _quality(parameters)
        if quality == 0:
            continue
        if kind in {b"text/html", b"application/xhtml+xml"}:
            html = max(html, (quality, -place))
        elif kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json")):
            json = max(json, (quality, -place))
    return html, json


def _quality(parameters: bytes) -> float:
    """Return the ``q`` of a media range: 1 when there is none, 0 when it cannot be read."""
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            return float(value) if re.fullmatch(rb"\s*(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", value) else 0.0
    return 1.0


def is_prefetch(fields: Mapping[bytes, bytes]) -> bool:
    """Tell whether a browser asks ahead of its visitor, who may never come."""
    if _PURPOSES.isdisjoint(fields):
        return False
    asked = b" ".join(fields.get(name, b"") for name in _PURPOSES).lower()
    return any(word in asked for word in (b"prefetch", b"prerender", b"preview"))


def is_crawler(fields: Mapping[bytes, bytes]) -> bool:
    """Tell whether the client says that it is a program which reads pages for search engines, previews or archives."""
    agent = fields.get(b"user-agent", b"")
    return _names_a_crawler(agent) if len(agent) <= AGENT_BYTES_KEPT_MAX else _CRAWLER.search(agent) is not None


@lru_cache(AGENTS_KEPT)
def _names_a_crawler(agent: bytes) -> bool:
    return _CRAWLER.search(agent) is not None


def same_site(fields: Mapping[bytes, bytes], host: str) -> bool | None:
    """Tell whether the request was made by a page of the same site, or by the visitor; None when nothing says.

    ``host`` is the request's, lower case, without port. Where ``Sec-Fetch-Site`` is absent, as in older browsers, the
    host of ``Origin`` decides (``null`` is nobody's), then that of ``Referer``.
    """
    site = fields.get(b"sec-fetch-site", b"").strip().lower()
    if site in {b"same-origin", b"same-site", b"none"}:
        return True
    if site == b"cross-site":
        return False
    origin = fields.get(b"origin")
    if origin is not None:
        return _host_of(origin) == host
    referer = _host_of(fields.get(b"referer", b""))
    return None if referer is None else referer == host


def _host_of(url: bytes) -> str | None:
    """Return the host of an http URL, lower case, without port; None when it has none."""
    found = re.match(rb"(?i)\s*https?://([^/?#\\\s]+)", url)
    if found is None:
        return None
    host = found[1].rpartition(b"@")[2].decode("latin-1").lower()
    bare = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0].rstrip(".")
    return bare or None


def path_on(url: bytes, host: bytes) -> bytes | None:
    r"""Return the path and query of an http URL whose authority is exactly ``host``; None for any other.

    Nor for a path that a browser would take for another host when it stands alone: ``//x``, ``/\x``.
    """
    found = re.match(rb"(?i)https?://([^/?#\\\s@]+)(/(?![/\\])[!-~]*)?\Z", url)
    if found is None or found[1].lower() != host.lower():
        return None
    return (found[2] or b"/").partition(b"#")[0]


def is_trusted(peer: str, trusted: Collection[Network]) -> bool:
    """Tell whether the peer of the socket is one of the operator's proxies."""
    address = _parse(peer)
    return address is not None and _is_in(address, trusted)
