r"""Which room a request belongs to, by every reading of its target.

A proxy and the shop behind it rarely read a URL alike. One decodes ``%2f``, the other does not; one takes ``\`` for
``/``, cuts ``;params``, merges ``//``, ignores case; a third does all that in another order. Whoever finds a spelling
that we take for an ordinary page and the shop takes for the event has walked around the line. So nothing here decides
which reading is *right*: each thing servers are known to do to a path is one small step, and the readings are all that
can be reached by taking steps in any order, any number of times. A request belongs to a room if **any** reading matches
one of its rules; a bypass holds only if **all** readings agree. A target with more readings than we are willing to
follow is not understood, nor is one with a character half escaped and half not, and what is not understood is
protected. Targets without a single odd character, nearly all of them, have one reading and cost one regular expression.
The target itself is never rewritten: it goes out verbatim.

A step treats the whole path alike, so it must not take what another step needs elsewhere in it. Where two want the same
byte (an overlong form in IIS's sloppy reading, and the escape it would swallow), each is taken or left one by one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache, partial
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from waitroom.core.asker import Asker
    from waitroom.model import PathRule, Room

READINGS_MAX = 64
"""Readings followed for one target. Spellings seen in real shops have up to about a dozen."""

READING_BYTES_MAX = 16 * 1024
"""Bytes of all readings of one target together, so that a long odd target costs little more than a short one."""

WIDE_BYTES_MAX = 1024
"""Bytes of a path that is not ASCII: what normalising costs grows with the square of a row of combining marks."""

LAYERS_MAX = 8
"""Forms in which a piece of a query is read, by rounds of decoding. Servers do one round, careless ones two."""

PAIRS_MAX = 256
"""Pieces of a query that are looked at; only for rules that have a ``query``. One with more is not understood."""


@dataclass(frozen=True, slots=True)
class Readings:
    """How origins might read one target.

    ``paths`` has the path as it stands first; ``queries`` the text after ``?``, and what an origin that splits after
    decoding would find there. ``understood`` is False when there are others, which may be anything; with more than we
    follow, only the path as it stands is listed.
    """

    paths: tuple[bytes, ...]
    queries: tuple[bytes, ...] = (b"",)
    understood: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request belongs.

    ``room`` is None for an ordinary request. ``rule`` is the text of the rule that decided, for people; with
    ``bypassed`` it is the bypass of ``room`` that let the request around, ``personal`` if it would not let everybody.
    ``reading`` is the path by which the rule matched. ``for_another``: a bypass would have held, but whoever has its
    address speaks for somebody else.
    """

    room: Room | None = None
    rule: str = ""
    bypassed: bool = False
    reading: bytes = b""
    personal: bool = False
    for_another: bool = False


class Why(StrEnum):
    """Why a bypass does not hold."""

    HOST = "host"
    METHOD = "method"
    NOT_UNDERSTOOD = "not-understood"
    READING = "reading"
    QUERY = "query"
    IP = "ip"
    FOR_ANOTHER = "for-another"
    HEADER = "header"
    HEADER_TWICE = "header-twice"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why the bypass ``rule`` does not hold for a request; ``reading`` is the first that is not what it names."""

    rule: str
    why: Why
    reading: bytes = b""


ORDINARY = Route()
"""The route of a request that no room covers."""


class OwnKind(StrEnum):
    """What is asked for under ``/.waitroom/``. ``UNKNOWN`` is nothing of ours, and not for the origin either."""

    NOW = "now"
    DRAW = "draw"
    ME = "me"
    JOIN = "join"
    CLAIM = "claim"
    MORE = "more"
    LEAVE = "leave"
    INVITE = "invite"
    LIVE = "live"
    READY = "ready"
    ASSET = "asset"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OwnPath:
    """A path of ours. ``name`` is the room's or the asset's; ``hidden`` is a page that says it is not in view.

    ``code`` is what a link brings along: the text of an invite.
    """

    kind: OwnKind
    name: str = ""
    hidden: bool = False
    code: str = ""


# --- The steps: what servers do to a path ------------------------------------------------------------------------
#
# Each takes a path and returns it as one kind of server would then see it, the same when there is nothing to do. None
# of them takes away the slash at the start.

_SLASH_OR_BACKSLASH = re.compile(rb"(%2[fF]|%5[cC])")
_WIDE_ESCAPE = re.compile(rb"%[uU]([0-9a-fA-F]{4})")
_TRIMMABLE = re.compile(rb"[\s.](?:/|\Z)|/\s|:")
_CARELESS = re.compile(rb"[\x00-\x1f\x7f-\xff]")
_IGNORED = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
# UTF-8 longer than it need be, of any character up to U+FFFF.
_OVERLONG = re.compile(
    rb"(?:[\xc0\xc1]|\xe0[\x80-\x9f]|(?:\xf0|\xf8\x80|\xfc\x80\x80)[\x80-\x8f][\x80-\xbf])[\x80-\xbf]"
)
# All but the last byte of such a form of an ASCII character. IIS took anything for the last byte, but another decoder
# may want an escape, a control character or a further form for itself.
_LEAD = rb"(?:[\xc0\xc1]|(?:\xe0|\xf0\x80|\xf8\x80\x80|\xfc\x80\x80\x80)[\x80\x81])"
_EVEN_LEAD = rb"(?:\xc0|(?:\xe0|\xf0\x80|\xf8\x80\x80|\xfc\x80\x80\x80)\x80)"  # of a character below ``@``
_WANTED = rb"(?:[\x00-\x1f%\x7f]|" + _LEAD + rb".)"
_SLOPPY = re.compile(_LEAD + rb"[\x20-\x24\x26-\x7e\x80-\xbf]")
_SLOPPIEST = re.compile(rb"(?s)" + _LEAD + rb"(?!" + _WANTED + rb").")
_DISPUTED = re.compile(rb"(?s)(?=(" + _LEAD + rb"(?=" + _WANTED + rb").))")
# Half of a character beside the escape of another half.
_TORN = re.compile("[\\udc80-\\udcff]%[89a-fA-F]|%[89a-fA-F][0-9a-fA-F]?[\\udc80-\\udcff]")
_HALVES = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")
_NOT_ASCII = re.compile("[^\\x00-\\x7f]")
_ACCENTS = re.compile("[\u0300-\u036f]+")
# Fraction and division slashes; set minus, reverse solidus operator, and the won and yen signs, which stand where the
# backslash does in Korean and Japanese code pages.
_BEST_FIT = {0x2044: "/", 0x2215: "/", 0x29F8: "/", 0x2216: "\\", 0x29F5: "\\", 0x20A9: "\\", 0x00A5: "\\"}


def _replace(pattern: bytes, by: bytes) -> Callable[[bytes], bytes]:
    return partial(re.compile(pattern).sub, by)


def _decode_rest(path: bytes) -> bytes:
    r"""Decode every escape but those of ``/`` and ``\``, which have steps of their own: servers disagree about them."""
    pieces = _SLASH_OR_BACKSLASH.split(path)
    pieces[::2] = [unquote_to_bytes(piece) for piece in pieces[::2]]
    return b"".join(pieces)


def _decode_wide(path: bytes) -> bytes:
    """Decode ``%uXXXX``, as IIS and JavaScript's ``unescape`` do."""
    return _WIDE_ESCAPE.sub(lambda found: chr(int(found[1], 16)).encode("utf-8", "surrogatepass"), path)


def _resolve(path: bytes) -> bytes:
    """Resolve ``.`` and ``..``; what would climb above the root stays at it."""
    kept: list[bytes] = []
    segment = b""
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segment in {b".", b".."}:
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _trim(path: bytes) -> bytes:
    """Trim segments as Windows does: dots and spaces at the end, the name of a stream (``::$DATA``); blanks around."""
    if not _TRIMMABLE.search(path):
        return path
    segments = path.split(b"/")
    for index, segment in enumerate(segments):
        name, colon, stream = segment.partition(b":")
        trimmed = (name if colon and b"$" in stream else segment).strip()
        segments[index] = trimmed.rstrip(b". ") or trimmed
    return b"/".join(segments)


def _drop_ignored(path: bytes) -> bytes:
    """Drop control characters and characters without width; bytes that are no UTF-8 may yet become some, and stay."""
    if not _CARELESS.search(path):
        return path
    return _IGNORED.sub("", path.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _drop_broken(path: bytes) -> bytes:
    """Drop broken UTF-8, as careless decoders do."""
    return path.decode("utf-8", "ignore").encode("utf-8")


def _shorten(path: bytes) -> bytes:
    """Read UTF-8 that is longer than it need be (``%c0%ae`` for ``.``)."""

    def short(found: re.Match[bytes]) -> bytes:
        number = found[0][0] & 1  # all that any of these first bytes brings along
        for byte in found[0][1:]:
            number = number << 6 | byte & 0x3F
        return chr(number).encode("utf-8", "surrogatepass")

    return _OVERLONG.sub(short, path)


def _shorten_sloppily(forms: re.Pattern[bytes], path: bytes) -> bytes:
    """Read overlong forms of ASCII whose last byte only IIS would take, where nobody else wants that byte."""
    return forms.sub(lambda found: _ascii(found[0]), path)


def _disputed(path: bytes) -> Iterable[bytes]:
    r"""Yield the path with one overlong form read whose last byte another decoder wants.

    Whoever is first takes it from the other: ``\xc1%b6`` is ``eb6``, or ``v``. So each is read or left on its own; a
    target with more than a few of them has more readings than we follow.
    """
    for found in _DISPUTED.finditer(path):
        yield path[: found.start()] + _ascii(found[1]) + path[found.end(1) :]


def _ascii(form: bytes) -> bytes:
    return bytes([(form[-2] & 1) << 6 | form[-1] & 0x3F])


def _compatible(path: bytes) -> bytes:
    """Take look-alikes for what they look like: full-width forms (NFKC), and Windows' best fits for separators.

    Halves of a character from UTF-16 are joined. Each character is taken alone: composed with an accent after it, the
    last digit of an escape would be none.
    """
    text = _HALVES.sub(lambda found: _join(found[0]), path).decode("utf-8", "surrogateescape")
    if not unicodedata.is_normalized("NFKC", text):
        text = _NOT_ASCII.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return text.translate(_BEST_FIT).encode("utf-8", "surrogateescape")


def _join(halves: bytes) -> bytes:
    return halves.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16").encode()


# A step is tried where its mark stands in the path.
_STEPS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    # The first three together are one round of decoding; a server may do without the second or the third.
    (b"%", _decode_rest),
    (b"%", _replace(rb"%2[fF]", b"/")),
    (b"%", _replace(rb"%5[cC]", rb"\\")),
    (b"%", _decode_wide),
    # Browsers' URL parsers, IIS, everything on Windows.
    (b"\\", _replace(rb"\\", b"/")),
    # Tomcat, Jetty and Spring cut parameters from each segment; older containers take all that follows for a session.
    (b";", _replace(rb";[^/]*", b"")),
    (b";", _replace(rb"(?s);.*", b"")),
    # Whatever hands the path to C; and a ``?`` or ``#`` that came out of an escape, where servers split after decoding.
    (b"\0", _replace(rb"(?s)\x00.*", b"")),
    (b"?", _replace(rb"(?s)\?.*", b"")),
    (b"#", _replace(rb"(?s)#.*", b"")),
    # nginx, Apache, file systems.
    (b"//", _replace(rb"/{2,}", b"/")),
    # What follows a leading ``//`` is a host to ``new URL(request.url, base)`` in Node.
    (b"//", _replace(rb"\A/{2,}[^/]*(?:/|\Z)", b"/")),
    (b"/.", _resolve),
    # The segment ``(S(…))`` in which ASP.NET looks for a session when there are no cookies.
    (b"/(", _replace(rb"/\((?:[A-Za-z]\([^()/]*\))+\)(?:/|\Z)", b"/")),
    # A front controller of PHP shops: ``/index.php/event/`` is ``/event/``.
    (b".", _replace(rb"(?i)\A/(?:index|app|default)\.(?:php\d?|cgi|pl|aspx?)/", b"/")),
    # What follows a script: ``/item.php/anything`` runs ``/item.php``.
    (b".", _replace(rb"(?is)(\.(?:php\d?|phtml|cgi|pl|aspx?|ashx|jspx?))/.*", rb"\1")),
    # An index file: ``/event/index.html`` is ``/event/``.
    (b".", _replace(rb"(?i)/(?:index|default)\.(?:html?|php\d?|cgi|pl|aspx?|jspx?)/?\Z", b"/")),
    (b"/", _trim),
    (b"/", _drop_ignored),
)
# Case is folded by some before they read an overlong form, whose last byte then is another: ``\xc0V`` is nothing, and
# ``\xc0v`` a 6.
_CASED = _EVEN_LEAD + rb"[A-Za-z]"
# These are tried where the path is not ASCII, and so is ``_disputed``.
_WIDE_STEPS: tuple[Callable[[bytes], bytes], ...] = (
    _shorten,
    # First the likelier forms alone, so that what they hide is seen before any other takes a part of it.
    partial(_shorten_sloppily, _SLOPPY),
    partial(_shorten_sloppily, _SLOPPIEST),
    partial(re.compile(_CASED).sub, lambda found: found[0].lower()),
    partial(re.compile(_CASED).sub, lambda found: found[0].upper()),
    _compatible,
    # URL parsers in browsers and Node drop these and no other control character.
    _replace(rb"[\t\n\r]", b""),
    _drop_broken,
)

# No segment that is empty, all dots, or ends in one; none of the characters any step looks for. Possessive, so linear.
_PLAIN = re.compile(rb"(?:/\.*+[\w~!$&'*+,=@-]++(?:\.++[\w~!$&'*+,=@-]++)*+)++/?|/")
_SCRIPT = re.compile(rb"(?i)/(?:index|default)\.|\.[a-z]{2,5}\d?/")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*+://[^/?#]*+")


def readings(target: bytes) -> Readings:
    """Return every way we know an origin to read ``target``; never raises, and bounded by the limits above.

    The first ``?`` that stands in the target ends its path for everybody; one that comes out of an escape may. An
    absolute target is read from its path on: that its authority is the Host is checked elsewhere.
    """
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.match(target)
        target = target[absolute.end() :] if absolute else target
        target = target if target.startswith(b"/") else b"/" + target
    path, _, query = target.partition(b"?")
    return Readings((path,), (query,)) if _is_plain(path) else _closure(path, query)


def _is_plain(path: bytes) -> bool:
    """Tell whether everybody reads a path alike: as it stands."""
    return _PLAIN.fullmatch(path) is not None and not (b"." in path and _SCRIPT.search(path))


def _closure(path: bytes, query: bytes) -> Readings:
    """Take every step from every reading until nothing new appears, or there is too much of it."""
    found = [path]
    known = {path}
    left_bytes = READING_BYTES_MAX
    understood = True
    for reading in found:  # grows while it is walked
        if len(reading) > WIDE_BYTES_MAX and not reading.isascii():
            return Readings((path,), (query,), understood=False)
        understood = understood and not _is_torn(reading)
        for new in _next(reading):
            if new in known:
                continue
            left_bytes -= len(new)
            if len(found) == READINGS_MAX or left_bytes < 0:
                return Readings((path,), (query,), understood=False)
            known.add(new)
            found.append(new)
    queries = dict.fromkeys([query, *(reading.partition(b"?")[2] for reading in found if b"?" in reading)])
    return Readings(tuple(found), tuple(queries), understood)


def _is_torn(path: bytes) -> bool:
    """Tell whether a character stands there half escaped and half not.

    Nobody writes that, and it means what the order of decoders makes of it, and how much each of them takes at once.
    """
    return b"%" in path and not path.isascii() and _TORN.search(path.decode("utf-8", "surrogateescape")) is not None


def _next(path: bytes) -> Iterable[bytes]:
    """Yield the path after each step that may apply. Each keeps the slash at the start."""
    for mark, step in _STEPS:
        if mark in path:
            yield step(path)
    if not path.isascii():
        for step in _WIDE_STEPS:
            yield step(path)
        yield from _disputed(path)


def _fold(text: bytes) -> bytes:
    """Return text as the most forgiving comparison sees it: no case, no accents, one form of each character.

    Upper case comes first because some servers compare that way round, where a dotless i is an I.
    """
    if text.isascii() or len(text) > WIDE_BYTES_MAX:
        return text.lower()
    wide = text.decode("utf-8", "surrogateescape").upper().casefold()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", wide))
    return unicodedata.normalize("NFKC", bare).casefold().encode("utf-8", "surrogateescape")


# --- Queries -----------------------------------------------------------------------------------------------------


def _layers(text: bytes) -> list[bytes]:
    """Return text as it stands, with ``+`` as a space, and decoded round by round until it is stable."""
    layers = [text]
    for layer in layers:  # grows while it is walked
        for new in (layer.replace(b"+", b" "), _decode_wide(unquote_to_bytes(layer))):
            if new not in layers and len(layers) < LAYERS_MAX:
                layers.append(new)
    return layers


def _pairs(queries: Sequence[bytes]) -> frozenset[tuple[bytes, bytes]] | None:
    """Return all names and values an origin might find in the queries, folded; None when there are too many."""
    texts = dict.fromkeys(layer for query in queries for layer in _layers(query))
    pieces: dict[bytes, None] = {}
    for text in texts:
        pieces.update(dict.fromkeys(text.split(b"&")))
        pieces.update(dict.fromkeys(re.split(rb"[&;#]", text)))
    if len(pieces) > PAIRS_MAX or sum(map(len, pieces)) > READING_BYTES_MAX:
        return None
    pairs: set[tuple[bytes, bytes]] = set()
    for piece in pieces:
        name, _, value = piece.partition(b"=")
        names = {_query_name(layer) for layer in _layers(name)}
        values = {_query_value(layer) for layer in _layers(value)}
        pairs.update((one, other) for one in names for other in values)
    return frozenset(pairs)


def _query_name(name: bytes) -> bytes:
    """Fold a name as PHP does: blanks around and what follows NUL or ``[`` gone, blanks and dots inside as ``_``."""
    bare = re.split(rb"[\0\[]", _fold(name), maxsplit=1)[0].strip()
    return bare.replace(b" ", b"_").replace(b".", b"_")


def _query_value(value: bytes) -> bytes:
    """Fold a value: what follows NUL and blanks around gone."""
    return _fold(value).partition(b"\0")[0].strip()


def _same_value(sent: bytes, wanted: bytes) -> bool:
    """Tell whether an origin may take one value for the other; a number may be written in many ways (``0123``)."""
    if sent == wanted:
        return True
    if not wanted.isdigit():
        return False
    leading = re.match(rb"\+?([0-9_]+)", sent)
    if leading and leading[1].replace(b"_", b"").lstrip(b"0") == wanted.lstrip(b"0"):
        return True
    try:
        # 0x7b and its like are short; a long text is not worth the conversion.
        return float(sent) == float(wanted) if not sent.startswith(b"0x") else int(sent[:32], 16) == int(wanted[:32])
    except ValueError:
        return False


# --- Rules -------------------------------------------------------------------------------------------------------

# In these a shop written in the last century may spell a rule that is not ASCII.
_LEGACY_ENCODINGS = ("utf-8", "cp949", "cp932", "gbk", "big5", "latin-1")


def _host(host: str) -> str:
    """Return a host as rules compare it: lower case, no port, no dot at the end."""
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".")


class _Rule:
    """A rule made ready: what can be worked out once is not worked out for each request."""

    __slots__ = (
        "_below",
        "_every_path",
        "_everywhere",
        "_header",
        "_hosts",
        "_ip",
        "_method",
        "_query",
        "_suffixes",
        "_verbatim",
        "personal",
        "stems",
        "text",
    )

    def __init__(self, rule: PathRule) -> None:
        method = f"{rule.method} " if rule.method else ""
        query = "&".join(f"{name}={value}" for name, value in rule.query)
        who = f" from {rule.ip}" if rule.ip else ""
        who += f" with {rule.header.name}" if rule.header else ""
        self.text = f"{method}{rule.host}{rule.path}{'?' if query else ''}{query}{who}"
        self._ip = rule.ip
        self._header = rule.header
        self.personal = bool(who)
        self._every_path = not rule.path
        self._method = rule.method
        self._everywhere = rule.host == "*"
        names = {rule.host.lower(), _in_ascii(rule.host)}
        self._suffixes = tuple(name[1:].rstrip(".") for name in names if name.startswith("*."))
        self._hosts = frozenset(_host(name) for name in names)
        # A path may be written in the configuration with or without escapes; both mean the same.
        written = unquote_to_bytes(rule.path.encode())
        self._below = written.endswith(b"/")
        stem = written.rstrip(b"/") if self._below else written
        # As it must stand for a bypass: in itself or escaped in the usual way.
        self._verbatim = frozenset({stem, quote(stem).encode(), _lower_escapes(quote(stem)).encode()})
        spellings = () if self._every_path else _spellings(stem)
        self.stems = tuple(dict.fromkeys(map(_fold, spellings)))
        self._query = tuple((_query_name(name.encode()), _query_value(value.encode())) for name, value in rule.query)

    def at(self, host: str) -> bool:
        """Tell whether the rule speaks about this host, which ``_host`` made comparable."""
        return self._everywhere or host in self._hosts or (bool(self._suffixes) and host.endswith(self._suffixes))

    def covers(self, folded: bytes) -> bool:
        """Tell whether the rule covers a folded reading.

        An exact rule covers itself with slashes at the end too: Express, Rails and Laravel serve ``/event/`` as
        ``/event``. What lies below is another page.
        """
        for stem in self.stems:
            if folded.startswith(stem):
                rest = folded[len(stem) :]
                if rest[:1] in {b"", b"/"} if self._below else not rest.strip(b"/"):
                    return True
        return self._every_path

    def is_verbatim(self, path: bytes) -> bool:
        """Tell whether a reading is what a bypass names, letter by letter."""
        if self._every_path:
            return True
        if not self._below:
            return path in self._verbatim
        return any(path == stem or path.startswith(stem + b"/") for stem in self._verbatim)

    def may_mean(self, method: str) -> bool:
        """Tell whether the method is the rule's; HEAD asks what GET asks."""
        method = method.upper()
        return self._method is None or ("GET" if method == "HEAD" else method) == self._method.upper()

    def may_ask(self, queries: Sequence[bytes]) -> bool:
        """Tell whether, under any reading, every pair the rule wants is there."""
        if not self._query:
            return True
        pairs = _pairs(queries)
        return pairs is None or all(
            any(name == wanted and _same_value(value, right) for name, value in pairs) for wanted, right in self._query
        )

    def doubt(self, host: str, seen: Readings, method: str, asker: Asker | None) -> Doubt | None:
        """Return why this bypass does not hold; None when every reading is what it names, and method and asker too."""
        if not self.at(host):
            return Doubt(self.text, Why.HOST)
        if not seen.understood and not (self._every_path and not self._query):
            return Doubt(self.text, Why.NOT_UNDERSTOOD)
        if self._method is not None and self._method != method:
            return Doubt(self.text, Why.METHOD)
        other = next((path for path in seen.paths if not self.is_verbatim(path)), None)
        if other is not None:
            return Doubt(self.text, Why.READING, other)
        if not self._surely_asks(seen.queries):
            return Doubt(self.text, Why.QUERY)
        if not self.personal:
            return None
        why = Why.IP if asker is None else asker.against(self._ip, self._header)
        return None if why is None else Doubt(self.text, why)

    def _surely_asks(self, queries: Sequence[bytes]) -> bool:
        if not self._query:
            return True
        pairs = _pairs(queries)
        if pairs is None:
            return False
        return all({value for name, value in pairs if name == wanted} == {right} for wanted, right in self._query)


def _in_ascii(host: str) -> str:
    """Return a name as browsers send it; one that has no such form stays as it is."""
    try:
        return host.encode("idna").decode().lower()
    except UnicodeError:
        return host.lower()


def _lower_escapes(text: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text)


def _spellings(stem: bytes) -> Iterable[bytes]:
    """Yield a rule's path in every encoding in which an origin may have it."""
    yield stem
    if stem.isascii():
        return
    text = stem.decode("utf-8", "surrogateescape")
    for encoding in _LEGACY_ENCODINGS:
        try:
            yield text.encode(encoding)
        except UnicodeError:
            continue


class Router:
    """The rules of all rooms, made ready.

    Rooms are asked in the order of the configuration and the first that covers a request has it; a room that the
    request bypasses is passed by, so that a later one may still cover it.
    """

    def __init__(self, rooms: Sequence[Room]) -> None:
        self._rooms = tuple((room, tuple(map(_Rule, room.match)), tuple(map(_Rule, room.bypass))) for room in rooms)
        near: dict[bytes, set[int]] = {}
        for index, (_, rules, _) in enumerate(self._rooms):
            for stem in (stem for rule in rules for stem in rule.stems):
                near.setdefault(stem, set()).add(index)
        self._near = near
        self.asks_who = any(rule.personal for _, _, bypasses in self._rooms for rule in bypasses)
        # One call of C tells most requests apart from all rooms.
        self._stems = tuple(near)
        self._stem_bytes_max = max(map(len, near), default=0)
        self._looked_at = (*near, b"/.waitroom")

    def is_ordinary(self, target: bytes) -> bool:
        """Tell at one look, for nearly all requests that no room covers, that this is one, and for no path of ours.

        False means that ``own_path`` and ``route`` must be asked.
        """
        path = target.partition(b"?")[0]
        return _is_plain(path) and not path.lower().startswith(self._looked_at)

    def route(
        self, host: str, target: bytes, method: str, seen: Readings | None = None, asker: Asker | None = None
    ) -> Route:
        """Return where a request belongs; never raises.

        ``seen`` spares reading the target again when the caller has done so. ``asker`` is asked where ``asks_who``;
        for nobody a bypass that says who does not hold.
        """
        seen = seen or readings(target)
        folded: Iterable[bytes] = ()
        candidates: Iterable[int] = range(len(self._rooms))
        if seen.understood:
            folded = dict.fromkeys(map(_fold, seen.paths))
            candidates = sorted({index for path in folded if path.startswith(self._stems) for index in self._at(path)})
            if not candidates:
                return ORDINARY
        host = _host(host)
        bypassed = ORDINARY
        for room, rules, bypasses in map(self._rooms.__getitem__, candidates):
            route = _cover(room, rules, host=host, method=method, seen=seen, folded=folded)
            if route is None:
                continue
            for rule in bypasses:
                doubt = rule.doubt(host, seen, method, asker)
                if doubt is None:
                    if bypassed is ORDINARY:
                        reading = seen.paths[0]
                        bypassed = Route(room, rule.text, bypassed=True, reading=reading, personal=rule.personal)
                    break
                if doubt.why is Why.FOR_ANOTHER:
                    route = replace(route, for_another=True)
            else:
                return route
        return bypassed

    def covering(self, host: str, method: str, seen: Readings) -> tuple[tuple[bytes, tuple[Route, ...]], ...]:
        """Return every reading, and the route into each room that covers it by this reading: for people.

        A bypass is not looked at here. Of a room the first rule counts.
        """
        host = _host(host)
        return tuple(
            (
                path,
                tuple(
                    route
                    for room, rules, _ in self._rooms
                    if (route := _cover(room, rules, host=host, method=method, seen=seen, folded=(_fold(path),)))
                ),
            )
            for path in seen.paths
        )

    def doubts(
        self, room: str, host: str, method: str, seen: Readings, asker: Asker | None = None
    ) -> tuple[Doubt, ...]:
        """Return the bypasses of a room that name some reading of the target and yet do not hold: for people."""
        host = _host(host)
        folded = tuple(map(_fold, seen.paths))
        near = (
            rule
            for one, _, bypasses in self._rooms
            if one.name == room
            for rule in bypasses
            if any(map(rule.covers, folded))
        )
        return tuple(doubt for rule in near if (doubt := rule.doubt(host, seen, method, asker)))

    def _at(self, folded: bytes) -> Iterable[int]:
        """Yield the rooms with a rule that starts as this reading does: it must end where a segment ends."""
        end = 0
        while 0 <= end <= self._stem_bytes_max:
            yield from self._near.get(folded[:end], ())
            end = folded.find(b"/", end + 1)
        yield from self._near.get(folded, ())


def _cover(
    room: Room, rules: Sequence[_Rule], *, host: str, method: str, seen: Readings, folded: Iterable[bytes]
) -> Route | None:
    """Return the route into a room by the first of its rules that some reading matches."""
    for rule in rules:
        if not rule.at(host) or not rule.may_mean(method):
            continue
        if not seen.understood:
            return Route(room, f"{rule.text} (target not understood)", reading=seen.paths[0])
        reading = next((path for path in folded if rule.covers(path)), None)
        if reading is not None and rule.may_ask(seen.queries):
            return Route(room, rule.text, reading=reading)
    return None


_OWN = re.compile(
    rb"/\.waitroom/(?:([a-z0-9-]{1,40})/(now|draw|me|join|claim|more|leave|invite)"
    rb"|health/(live|ready)|assets/([A-Za-z0-9][A-Za-z0-9._-]{0,127}))"
)

_CODE = b"code="
_ROUNDS_MAX = 16
_SIGN = re.compile(_EVEN_LEAD + rb"%(?=[0-7])")
_ESCAPED_SIGN = re.compile(rb"%(?:25)+(?=[0-9a-fA-FuU])")


def own_path(target: bytes, seen: Readings | None = None) -> OwnPath | None:
    """Return which path of ours this is, or None when it is none; never raises.

    Ours are recognised in plain spelling only. Anything else that some reading places under ``/.waitroom/`` is
    ``UNKNOWN``: nothing of ours, and never the origin's. So is a target that is not understood and may be one of ours:
    no room need cover it, so nobody else would keep it from the origin. Other targets that are not understood pass.
    """
    path, _, query = target.partition(b"?")
    own = _OWN.fullmatch(path)
    if own is not None:
        room, action, health, asset = own.groups()
        if action:
            pairs = query.split(b"&")
            code = next((pair[len(_CODE) :] for pair in pairs if pair.startswith(_CODE)), b"")
            return OwnPath(OwnKind(action.decode()), room.decode(), b"hidden=1" in pairs, code.decode("latin-1"))
        return OwnPath(OwnKind(health.decode())) if health else OwnPath(OwnKind.ASSET, asset.decode())
    seen = seen or readings(target)
    for reading in seen.paths:
        folded = _fold(reading)
        if folded == b"/.waitroom" or folded.startswith(b"/.waitroom/"):
            return OwnPath(OwnKind.UNKNOWN)
    if not seen.understood and _may_be_ours(seen.paths[0]):
        return OwnPath(OwnKind.UNKNOWN)
    return None


def _may_be_ours(path: bytes) -> bool:
    """Tell whether a path that is not understood may hide our name.

    Its readings are too many to follow, so one text stands for them: every decoder is applied round by round, and
    whatever some server drops is dropped. No step makes our name out of letters that are not side by side in it then.
    The name without its dot is enough, wherever it stands, and so is a text that will not settle: such a target is
    refused at no cost to a shop, whose odd paths do not have this word in them. Some servers fold case first, and then
    another escape may come out of an overlong form, so both are looked at.
    """
    return any(_hides_our_name(path, fold) for fold in (bytes, bytes.lower, bytes.upper))


def _hides_our_name(text: bytes, fold: Callable[[bytes], bytes]) -> bool:
    for _ in range(_ROUNDS_MAX):
        if b"waitroom" in _bare(text):
            return True
        # An escape whose sign is the end of an overlong form is an escape either way, so the form is left out.
        new = _decode_wide(_ESCAPED_SIGN.sub(b"%", _SIGN.sub(b"%", text)))
        new = _shorten_sloppily(_SLOPPIEST, _shorten(fold(unquote_to_bytes(new))))
        if b"waitroom" in _bare(unquote_to_bytes(_bare(new))):
            return True
        if new == text:
            return False
        text = new
    return True


def _bare(text: bytes) -> bytes:
    """Return the ASCII that each character of a text may be taken for, in lower case; the rest is dropped."""
    wide = text.decode("utf-8", "surrogateescape")
    plain = _NOT_ASCII.sub(lambda found: _plainest(found[0]), wide)
    return _CARELESS.sub(b"", plain.encode("ascii", "ignore")).lower()


@lru_cache(maxsize=4096)  # a text is looked at in many rounds, and has few characters that differ
def _plainest(character: str) -> str:
    return unicodedata.normalize("NFKD", character.upper().casefold())
