"""Configuration: text becomes settings, or every mistake at once.

Most tests write a file, load it and read what the operator would read. Two kinds stand apart: hypothesis tries text
that nobody would write, and the last section holds model, YAML and docs/CONFIG.md together.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml
from certificates import make
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from waitroom import config, resources
from waitroom.config.reading import FILE_BYTES_MAX
from waitroom.config.shapes import FileShape, LimitsShape, RoomShape
from waitroom.config.values import instant
from waitroom.errors import ConfigError, StartError
from waitroom.model import (
    Address,
    Admin,
    LedgerFiles,
    OriginTls,
    PathRule,
    QueueingMethod,
    Refresh,
    Room,
    RoomEvent,
    SecretHeader,
    Settings,
    Site,
    StoreUrl,
    WireLimits,
)

ROOT = Path(__file__).resolve().parent.parent
ROOM = "rooms:\n  - name: launch\n    match: [{path: /event/}]\n"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a configuration file and gives its path."""

    def to_file(text):
        path = tmp_path / "waitroom.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to_file


@pytest.fixture
def load(write):
    """Return a function that loads text as a configuration."""
    return lambda text: config.load(write(text))


@pytest.fixture
def mistakes(write):
    """Return a function that loads text and gives its mistakes as ``line: key: message``."""

    def of(text):
        with pytest.raises(ConfigError) as caught:
            config.load(write(text))
        return [f"{mistake.line}: {mistake.key}: {mistake.message}" for mistake in caught.value.mistakes]

    return of


@pytest.fixture
def room(load):
    """Return a function that loads one room with further lines."""
    return lambda lines="": load(ROOM + "".join(f"    {line}\n" for line in lines.splitlines())).rooms[0]


@pytest.fixture
def room_mistakes(mistakes):
    """Return a function that gives the mistakes of one room with further lines (the first is line 4)."""
    return lambda lines: mistakes(ROOM + "".join(f"    {line}\n" for line in lines.splitlines()))


def defaults(folder):
    """Return the settings of a file in ``folder`` that says nothing."""
    return Settings(
        listen=Address("127.0.0.1", 8080),
        origin=Address("127.0.0.1", 8000),
        rooms=(),
        store=StoreUrl("sqlite", folder / "var/waitroom.db"),
        secret_keys_file=folder / "var/keys",
        admin=Admin(Address("127.0.0.1", 9090), folder / "var/admin-token"),
        ledger=LedgerFiles(folder / "var/ledger", 64 * 1024**2, 90 * 86_400.0),
    )


# --- what is accepted -----------------------------------------------------------------------------------------------


def test_one_setting_is_enough(load, tmp_path):
    """What is not written has its default, and the files stand beside the configuration."""
    assert load("rooms: []\n") == defaults(tmp_path)


def test_a_room_needs_a_name_and_a_match(room):
    """A room with nothing else has exactly the defaults of the model."""
    assert room() == Room("launch", (PathRule("/event/"),), cookie_name="waitroom_launch")


def test_everything_written_arrives(load, tmp_path):
    """Each setting ends in the field of the model that bears its name, in that field's unit."""
    loaded = load("""
listen: "[::1]:0"
workers: 64
origin: https://shop.example
sites:
  - {hosts: [shop-b.example, "*.shop-b.example"], origin: http://10.0.0.5}
  - {hosts: ["[0::1]", "*"], origin: "https://[::1]:8443"}
store: sqlite:////srv/waitroom.db
secret_keys_file: /etc/waitroom/keys
admin: {listen: "[::1]:0", token_file: tokens/admin}
ledger: {folder: proof, rotate_bytes: 1MiB, keep: 36h}
trusted_proxies: [10.0.0.0/8, "2001:db8::/32", 192.0.2.7]
limits:
  header_bytes: 1KiB
  header_count: 7
  body_bytes: null
  header_timeout: 500ms
  body_idle_timeout: 1.5s
  keep_alive_timeout: 2m
  connect_timeout: 1h
  first_byte_timeout: 4s
  idle_timeout: 5s
  total_timeout: 6s
  target_bytes: 512B
  connections_per_worker: 8
  joins_per_client: null
  drain_timeout: 9s
rooms:
  - name: launch
    match: [{host: "*.shop.example", path: /event/, query: {product_no: "123"}}, {host: "[::1]", path: /now}]
    bypass: [{path: /event/pay/callback, method: POST}]
    origin: http://event.internal:81
    total_active_users: 3
    new_users_per_minute: 4
    admission: fixed
    session_duration: 10s
    session_limit: 20s
    disable_session_renewal: true
    claim_within: 30s
    ticket_keep: 1h
    queueing_method: reject
    queue_all: true
    suspended: true
    always_queue: true
    max_waiting: 5
    queueing_status_code: 503
    refresh: {near: 1s, far: 1s, farthest: 2s, jitter: 1}
    cacheable: true
    cookie: {name: "wr-{room}"}
    cors: {allowed_origins: [https://app.shop.example, "HTTPS://App.Shop.example:443", "http://[0::1]:81", "https://상점.한국:81"]}
    events:
      - name: noon
        prequeue_start_time: 2026-12-01T11:30:00+09:00
        shuffle_at_event_start: true
        start_time: 2026-12-01 03:00Z
        end_time: 2026-12-01T04:00:00.250Z
        total_active_users: 7
        new_users_per_minute: 8
        session_duration: 9s
        disable_session_renewal: false
        queueing_method: fifo
        queue_all: false
        always_queue: false
        max_waiting: 10
""")
    assert loaded == Settings(
        listen=Address("::1", 0),
        origin=Address("shop.example", 443, https=True),
        sites=(
            Site(("shop-b.example", "*.shop-b.example"), Address("10.0.0.5", 80)),
            Site(("[::1]", "*"), Address("::1", 8443, https=True)),
        ),
        store=StoreUrl("sqlite", Path("/srv/waitroom.db")),
        secret_keys_file=Path("/etc/waitroom/keys"),
        admin=Admin(Address("::1", 0), tmp_path / "tokens/admin"),
        ledger=LedgerFiles(tmp_path / "proof", 1024**2, 36 * 3600.0),
        workers=64,
        trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"), ip_network("192.0.2.7/32")),
        limits=WireLimits(
            header_bytes=1024,
            header_count=7,
            target_bytes=512,
            body_bytes=None,
            header_timeout_s=0.5,
            body_idle_timeout_s=1.5,
            keep_alive_timeout_s=120.0,
            connect_timeout_s=3600.0,
            first_byte_timeout_s=4.0,
            idle_timeout_s=5.0,
            total_timeout_s=6.0,
            connections_per_worker=8,
            joins_per_client_per_minute=None,
            drain_timeout_s=9.0,
        ),
        rooms=(
            Room(
                name="launch",
                match=(
                    PathRule("/event/", "*.shop.example", (("product_no", "123"),)),
                    PathRule("/now", "[::1]"),
                ),
                bypass=(PathRule("/event/pay/callback", method="POST"),),
                origin=Address("event.internal", 81),
                total_active_users=3,
                new_users_per_minute=4,
                session_duration_s=10.0,
                session_limit_s=20.0,
                disable_session_renewal=True,
                claim_within_s=30.0,
                ticket_keep_s=3600.0,
                queueing_method=QueueingMethod.REJECT,
                queue_all=True,
                suspended=True,
                always_queue=True,
                max_waiting=5,
                queueing_status_code=503,
                refresh=Refresh(1.0, 1.0, 2.0, 1.0),
                cacheable=True,
                cookie_name="wr-launch",
                allowed_origins=("https://app.shop.example", "http://[::1]:81", "https://xn--hg4bs7k.xn--3e0b707e:81"),
                events=(
                    RoomEvent(
                        name="noon",
                        start_time_ms=1_796_094_000_000,
                        end_time_ms=1_796_097_600_250,
                        prequeue_start_time_ms=1_796_092_200_000,
                        shuffle_at_event_start=True,
                        total_active_users=7,
                        new_users_per_minute=8,
                        session_duration_s=9.0,
                        disable_session_renewal=False,
                        queueing_method=QueueingMethod.FIFO,
                        queue_all=False,
                        always_queue=False,
                        max_waiting=10,
                    ),
                ),
            ),
        ),
    )


@pytest.mark.parametrize("written", ["memory:", "sqlite:///var/waitroom.db", "sqlite:////srv/waitroom.db"])
def test_a_store_is_given_back_as_it_was_written(load, written, tmp_path):
    """Logs name the store as the file does, with the path made absolute."""
    store = load(f'store: "{written}"\n').store
    assert str(store) == written.replace("///var", f"///{tmp_path}/var")


def test_a_key_that_asks_for_nothing_is_let_through(load):
    """A key that is not built yet may stand there at its default: it asks for nothing."""
    text = ROOM + "".join(
        f"    {line}\n"
        for line in (
            "checkout: []",
            "admission_floor_per_minute: 0",
            "shared_polls: false",
            "outage_reserve: 60s",
            "languages: [ko, en]",
            "templates: null",
            "priority: null",
            'cookie: {name: "waitroom_{room}", domain: null, same_site: auto, secure: auto}',
        )
    )
    assert load(text).rooms == load(ROOM).rooms


def test_a_place_may_be_kept_shortly(room):
    """How long a place is kept counts from the time its page was to come back, so no other setting bounds it."""
    assert room("ticket_keep: 1s").ticket_keep_s == 1.0


@pytest.mark.parametrize("text", ["ledger: null\n", 'store: "memory:"\n', 'store: "memory:"\nledger: {keep: 1h}\n'])
def test_no_ledger_is_kept_where_none_is_wanted(load, text):
    """Neither where the file says null, nor beside a store that leaves nothing behind."""
    assert load(text).ledger is None


def test_aliases_are_allowed(load):
    """Two rooms may share a list by anchor and alias."""
    loaded = load("""
rooms:
  - {name: a, match: [{path: /a/}], bypass: &shared [{path: /assets/}]}
  - {name: b, match: [{path: /b/}], bypass: *shared}
""")
    assert loaded.rooms[0].bypass == loaded.rooms[1].bypass == (PathRule("/assets/"),)


def test_a_byte_order_mark_is_no_mistake(load):
    """Files from Windows editors begin with a byte order mark; it changes nothing."""
    assert load(b"\xef\xbb\xbfworkers: 1\r\n").workers == 1


def test_of_several_events_each_has_its_time(room):
    """They may stand in any order, and one may begin the moment another ends."""
    found = room("""\
events:
  - {name: b, start_time: 2026-12-01T13:00:00Z, end_time: 2026-12-01T14:00:00Z}
  - {name: a, start_time: 2026-12-01T12:00:00Z, end_time: 2026-12-01T13:00:00Z}
""").events
    assert [event.name for event in found] == ["b", "a"]
    assert found[0].begin_ms == found[1].end_time_ms


# --- what is refused ------------------------------------------------------------------------------------------------


def test_every_mistake_at_once(mistakes):
    """A file's mistakes come all together, sorted by line, each saying what is wrong and what would be right."""
    assert mistakes("""\
listen: 8080
workers: 65
orgin: http://x
limits:
  header_timeout: 10
  header_bytes: 32
  joins_per_client: 60
rooms:
  - name: Launch
    match: []
    total_active_users: null
    suspended: yes
    events: [{name: noon}]
  - match: [{path: event}]
    total_active_user: 3
    name: b
    name: c
""") == [
        "1: listen: `8080` is no address; write host:port, such as 127.0.0.1:8080, or 0.0.0.0:8080 for every address",
        "2: workers: `65` is too large; write 1 to 64",
        "3: orgin: is no setting; write `origin`",
        "5: limits.header_timeout: `10` has no unit; write 10s (or ms, m, h)",
        "6: limits.header_bytes: `32` has no unit; write 32B (or KiB, MiB, GiB)",
        "7: limits.joins_per_client: `60` has no unit; write 60/m",
        "9: rooms[0].name: `Launch` is no room name; write 1 to 40 of a-z, 0-9 and -",
        "10: rooms[0].match: is empty; write something such as [{path: /event/}]",
        "11: rooms[0].total_active_users: null is for `admission: measured`, which is not built yet; write a number",
        "12: rooms[0].suspended: `yes` stands here; write true or false",
        "13: rooms[0].events[0].start_time: is missing; write `start_time: 2026-12-01T12:00:00+09:00`",
        "13: rooms[0].events[0].end_time: is missing; write `end_time: 2026-12-01T13:00:00+09:00`",
        "14: rooms[1].match[0].path: `event` does not start with /; write a path such as /event/",
        "15: rooms[1].total_active_user: is no setting; write `total_active_users`",
        "17: rooms[1].name: stands twice, first in line 16; keep one",
    ]


def test_a_mistake_names_its_file(write):
    """A mistake prints as file:line: key: message, so that an editor can jump to it."""
    path = write("\n\nworker: 1\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value) == f"{path}:3: worker: is no setting; write `workers`"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("checkout: [{path: /x}]", "4: rooms[0].checkout: `checkout` is not built yet; remove it"),
        ("shared_polls: true", "4: rooms[0].shared_polls: `shared_polls` is not built yet; remove it"),
        ("admission: measured", "4: rooms[0].admission: `measured` is not built yet; write fixed"),
        (
            (
                "events: [{name: x, prequeue_start_time: 2026-12-01T11:00Z, start_time: 2026-12-01T12:00Z, "
                "end_time: 2026-12-01T13:00Z, shuffle_at_event_start: true, queueing_method: random}]"
            ),
            (
                "4: rooms[0].events: `x` draws an order, and `queueing_method: random` calls in none; "
                "let its method be fifo"
            ),
        ),
        (
            "admission_floor_per_minute: false",
            "4: rooms[0].admission_floor_per_minute: `admission_floor_per_minute` is not built yet; remove it",
        ),
    ],
)
def test_what_is_not_built_is_refused_by_name(room_mistakes, lines, expected):
    """A key or value of the contract without a feature behind it is named as such, and only once."""
    assert room_mistakes(lines) == [expected]


@pytest.mark.parametrize(
    ("lines", "start"),
    [
        ("session_duration: 5m\nsession_limit: 1m", "5: rooms[0].session_limit: 60s is less than `session_duration`"),
        ("claim_within: 0s", "4: rooms[0].claim_within: `0s` is out of bounds"),
        ("claim_within: 5", "4: rooms[0].claim_within: `5` has no unit; write 5s"),
        ("claim_within: 5min", "4: rooms[0].claim_within: `5min` is no duration"),
        ("claim_within: '٣s'", "4: rooms[0].claim_within: `٣s` is no duration"),
        ("session_duration: 721h", "4: rooms[0].session_duration: `721h` is out of bounds; write 1ms to 720h"),
        ("queueing_method: lifo", "4: rooms[0].queueing_method: `lifo` is not among the choices; write fifo, random"),
        ("total_active_users: 99999999", "4: rooms[0].total_active_users: `99999999` is too large; write 10000000 or"),
        ("refresh: {near: 5s, far: 2s}", "4: rooms[0].refresh.far: 2s is less than `near`; write 5s"),
        ("refresh: {farthest: 59s}", "4: rooms[0].refresh.farthest: 59s is less than `far`; write 60s"),
        ("refresh: {jitter: 1.1}", "4: rooms[0].refresh.jitter: `1.1` is too large; write 1 or less"),
        ("refresh: {jitter: 1e999}", "4: rooms[0].refresh.jitter: `inf` stands here; write a number"),
        ("refresh: 2s", "4: rooms[0].refresh: `2s` stands here; write a mapping"),
        ("origin: event.internal", "4: rooms[0].origin: `event.internal` is no http or https URL"),
        ("origin: http://127.0.0.1:8080", "4: rooms[0].origin: `127.0.0.1:8080` is where we listen ourselves"),
        ("total_active_users: 0", "4: rooms[0].total_active_users: `0` is too small; write 1 or more"),
        ("total_active_users: 1" + "0" * 5000, "4: rooms[0].total_active_users: `1000"),
        ("total_active_users: 2.0", "4: rooms[0].total_active_users: `2.0` stands here; write a whole number"),
        ("total_active_users: true", "4: rooms[0].total_active_users: `true` stands here; write a whole number"),
        ("max_waiting: 0", "4: rooms[0].max_waiting: `0` is too small"),
        (
            "queueing_status_code: 404",
            "4: rooms[0].queueing_status_code: `404` is not among the choices; write 200, 202",
        ),
        ("cookie: {name: 'a b'}", "4: rooms[0].cookie.name: `a b` is no cookie name"),
        ("cookie: {name: '{name}'}", "4: rooms[0].cookie.name: `{name}` is no cookie name"),
        ("cookie: {name: '__Host-w'}", "4: rooms[0].cookie.name: `__Host-w` has a prefix"),
        ("cookie: {name: '__secure-w'}", "4: rooms[0].cookie.name: `__secure-w` has a prefix"),
        ("cookie: {name: '__Http-w'}", "4: rooms[0].cookie.name: `__Http-w` has a prefix"),
        ("cookie: {domain: .shop.example}", "4: rooms[0].cookie.domain: `.shop.example` begins with a dot; write it"),
        ("cookie: {domain: '*.shop.example'}", "4: rooms[0].cookie.domain: `*.shop.example` is no domain, which is a"),
        ("cookie: {domain: '*'}", "4: rooms[0].cookie.domain: `*` is no domain"),
        ("cookie: {domain: 192.0.2.7}", "4: rooms[0].cookie.domain: `192.0.2.7` is no domain"),
        ("cookie: {domain: '[::1]'}", "4: rooms[0].cookie.domain: `[::1]` is no domain"),
        ("cookie: {domain: localhost}", "4: rooms[0].cookie.domain: `localhost` is no domain for a cookie: browsers"),
        ("cookie: {domain: example}", "4: rooms[0].cookie.domain: `example` is no domain for a cookie"),
        ("cookie: {domain: 'shop.example; Path=/x'}", "4: rooms[0].cookie.domain: `shop.example; Path=/x` is no host"),
        (
            "cookie: {domain: Shop.example}",
            "4: rooms[0].cookie.domain: `Shop.example` is not what browsers send; write",
        ),
        ("cookie: {domain: 7}", "4: rooms[0].cookie.domain: `7` is not text to YAML"),
        ("cookie: {same_site: None}", "4: rooms[0].cookie.same_site: `None` is not among the choices; write auto, lax"),
        (
            "cookie: {secure: yes}",
            "4: rooms[0].cookie.secure: `yes` is not among the choices; write auto, true or false",
        ),
        ("cookie: {secure: 1}", "4: rooms[0].cookie.secure: `1` is not among the choices"),
        (
            "cookie: {same_site: none, secure: false}",
            "4: rooms[0].cookie.secure: `false` beside `same_site: none` makes a cookie that browsers refuse",
        ),
        ("cors: {allowed_origins: ['*']}", "4: rooms[0].cors.allowed_origins[0]: `*` would let any page there call"),
        (
            "cors: {allowed_origins: ['https://*.shop.example']}",
            "4: rooms[0].cors.allowed_origins[0]: `https://*.shop.example` would let any page there call",
        ),
        ("cors: {allowed_origins: [null]}", "4: rooms[0].cors.allowed_origins[0]: null is what every sandboxed page"),
        ("cors: {allowed_origins: ['null']}", "4: rooms[0].cors.allowed_origins[0]: null is what every sandboxed page"),
        (
            "cors: {allowed_origins: [shop.example]}",
            "4: rooms[0].cors.allowed_origins[0]: `shop.example` is no origin; write scheme, host and perhaps port",
        ),
        (
            "cors: {allowed_origins: ['ftp://a.example']}",
            "4: rooms[0].cors.allowed_origins[0]: `ftp://a.example` is",
        ),
        ("cors: {allowed_origins: [7]}", "4: rooms[0].cors.allowed_origins[0]: `7` is no origin"),
        (
            "cors: {allowed_origins: ['https://a.example/']}",
            "4: rooms[0].cors.allowed_origins[0]: is more than scheme, host and port; write only these",
        ),
        (
            "cors: {allowed_origins: ['https://a:b@a.example']}",
            "4: rooms[0].cors.allowed_origins[0]: is more than scheme, host and port; write only these",
        ),
        ("cors: {allowed_origins: ['https://a..b']}", "4: rooms[0].cors.allowed_origins[0]: `a..b` is no host"),
        ("cors: {allowed_origins: ['https://a:0']}", "4: rooms[0].cors.allowed_origins[0]: `0` is no port"),
        ("cors: {allowed_origins: https://a.example}", "4: rooms[0].cors.allowed_origins: `https://a.example` stands"),
        ("one_ticket_per: browser", "4: rooms[0].one_ticket_per: `browser` is not among the choices; write cookie"),
        ("one_ticket_per: headers:X-Id", "4: rooms[0].one_ticket_per: `headers:X-Id` is not among the choices"),
        (
            "one_ticket_per: header:X-Member-Id",
            "4: rooms[0].one_ticket_per: `header:X-Member-Id` is believed from a trusted proxy only, and none is; name",
        ),
        ("bypass: [{path: /x, method: post}]", "4: rooms[0].bypass[0].method: `post` is no method; write POST"),
        ("bypass: [{path: /x, query: {}}]", "4: rooms[0].bypass[0].query: is empty"),
        (
            "bypass: [{path: /x, query: {a: 1}}]",
            '4: rooms[0].bypass[0].query.a: `1` is not text to YAML; write it in quotes, "1"',
        ),
        ("bypass: [{method: POST}]", "4: rooms[0].bypass[0]: lets everybody around; name `path`, or who may by `ip`"),
        ("bypass: [{query: {a: b}}]", "4: rooms[0].bypass[0]: lets everybody around"),
        ("bypass: [{path: null, ip: null}]", "4: rooms[0].bypass[0]: lets everybody around"),
        ("bypass: [{ip: office}]", "4: rooms[0].bypass[0].ip: `office` is no network"),
        ("bypass: [{ip: 192.0.2.1/24}]", "4: rooms[0].bypass[0].ip: `192.0.2.1/24` has bits set beyond its prefix"),
        ("bypass: [{ip: 0.0.0.0/0}]", "4: rooms[0].bypass[0].ip: `0.0.0.0/0` is every address, so everybody goes"),
        ("bypass: [{ip: '::/0'}]", "4: rooms[0].bypass[0].ip: `::/0` is every address"),
        (
            "bypass: [{ip: '::ffff:192.0.2.0/120'}]",
            "4: rooms[0].bypass[0].ip: `::ffff:192.0.2.0/120` is IPv4 written as IPv6; write 192.0.2.0/24",
        ),
        ("match: [{path: /x, ip: 192.0.2.1}]", "4: rooms[0].match: stands twice"),
        ("bypass: [{path: '/x?y'}]", "4: rooms[0].bypass[0].path: `/x?y` is more than a path"),
        ("bypass: [{path: /%65vent/}]", "4: rooms[0].bypass[0].path: `/%65vent/` is not in plain form"),
        ("bypass: [{path: /a/../b}]", "4: rooms[0].bypass[0].path: `/a/../b` is not in plain form"),
        ("bypass: [{path: /.Waitroom/x}]", "4: rooms[0].bypass[0].path: `/.Waitroom/x` is under /.waitroom/"),
        (
            "bypass: [{path: /x, host: '*.상점.한국'}]",
            "4: rooms[0].bypass[0].host: `*.상점.한국` is not what browsers send; write *.xn--",
        ),
        ("bypass: [{path: /x, host: 'a:80'}]", "4: rooms[0].bypass[0].host: `a:80` is no host"),
        (
            "bypass: [{path: /x, host: Shop.example}]",
            "4: rooms[0].bypass[0].host: `Shop.example` is not what browsers send; write shop.example",
        ),
        ("header_timeout: 10s", "4: rooms[0].header_timeout: is no setting here; write it under `limits`"),
        ("workers: 1", "4: rooms[0].workers: is no setting here; write it at the top of the file"),
        ("qqqqqq: 1", "4: rooms[0].qqqqqq: is no setting; remove it"),
        ("1: 1", "4: rooms[0].1: `1` stands as a key; write a word"),
        ("[a]: 1", '4: rooms[0]."": a list, a mapping or nothing stands as a key'),
        ("suspended: !!bool 'true'\nqueue_all: !x true", "5: rooms[0].queue_all: has the YAML tag `!x`"),
        (
            'admission: "fi\\nxed"',
            "4: rooms[0].admission: `fi\N{REPLACEMENT CHARACTER}xed` has a character that does not print",
        ),
    ],
)
def test_a_wrong_setting_of_a_room(room_mistakes, lines, start):
    """Each is one mistake, at its line, with a sentence that an operator can act on."""
    found = room_mistakes(lines)
    assert len(found) == 1
    assert found[0].startswith(start)


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("listen: ':8080'", "listen: `` is no host; write 127.0.0.1:8080, or 0.0.0.0:8080 for every address"),
        ("listen: localhost", "listen: `localhost` has no port"),
        ("listen: ::1:80", "listen: `::1:80` has more than one colon; an IPv6 address stands in brackets"),
        ("listen: '[::1]'", "listen: `[::1]` has no port"),
        ("listen: '[::g]:1'", "listen: `::g` is no IPv6 address"),
        ("listen: '[fe80::1%eth0]:1'", "listen: `fe80::1%eth0` is no IPv6 address"),
        ("listen: 127.0.0.1:65536", "listen: `65536` is no port; write 0 to 65535"),
        ("listen: 300.0.0.1:80", "listen: `300.0.0.1` is no host"),
        ("origin: 127.0.0.1:8000", "origin: `127.0.0.1:8000` is no http or https URL"),
        ("origin: ftp://a", "origin: `ftp://a` is no http or https URL"),
        ("origin: http://a/", "origin: is more than scheme, host and port"),
        ("origin: http://a?b", "origin: is more than scheme, host and port"),
        ("origin: 'http://a:'", "origin: is more than scheme, host and port"),
        ("origin: http://a:0", "origin: `0` is no port"),
        ("origin: 'http://a b'", "origin: `a b` is no host"),
        ("origin: 'http://'", "origin: `` is no host"),
        ("origin: http://127.0.0.1:8080", "origin: `127.0.0.1:8080` is where we listen ourselves"),
        ("listen: 0.0.0.0:8000", "origin: `127.0.0.1:8000` is where we listen ourselves"),
        ("store: redis://x", "store: `redis:` is not built yet; write sqlite:///var/waitroom.db"),
        ("store: postgres", 'store: `postgres` is no store; write sqlite:///var/waitroom.db, or "memory:", in quotes'),
        ("store: memory", 'store: `memory` is no store; write sqlite:///var/waitroom.db, or "memory:", in quotes'),
        ("store: null", "store: null is no store"),
        ("store: ''", "store: `` is no store"),
        ("store: sqlite://var/x.db", "store: `sqlite:` is followed by 2 slashes; write three before a path relative"),
        ("store: sqlite:var/x.db", "store: `sqlite:` is followed by no slashes; write three before a path relative"),
        ("store: sqlite://///srv/x.db", "store: `sqlite:` is followed by 5 slashes; write three before a path"),
        ("store: 'sqlite:'", "store: `sqlite:` names no file; write sqlite:///var/waitroom.db"),
        ("store: sqlite:///", "store: `sqlite:` names no file"),
        ("store: 'sqlite:/// '", "store: `sqlite:` names no file"),
        ("store: sqlite:///var/", "store: `sqlite:` names no file"),
        ("store: 'sqlite://:memory:'", 'store: `:memory:` would be forgotten by SQLite at every restart; write "mem'),
        ("store: 'sqlite:///:memory:'", "store: `:memory:` would be forgotten by SQLite at every restart"),
        ("store: sqlite:///x.db?mode=ro", "store: has options after its path, and takes none"),
        ("workers: 0", "workers: `0` is too small; write 1 to 64"),
        ("workers: '2'", "workers: `2` stands here; write a whole number"),
        ("{workers: 2, store: 'memory:'}", "workers: `2` is too many: memory: lives in one process; write 1, or store"),
        ("secret_keys_file: ''", "secret_keys_file: is empty; write something such as var/keys"),
        ("secret_keys_file: ' '", "secret_keys_file: is empty"),
        (
            "trusted_proxies: [10.0.0.1/8]",
            "trusted_proxies[0]: `10.0.0.1/8` has bits set beyond its prefix; write 10.0.0.0/8",
        ),
        ("trusted_proxies: [nginx]", "trusted_proxies[0]: `nginx` is no network"),
        ("trusted_proxies: 10.0.0.0/8", "trusted_proxies: `10.0.0.0/8` stands here; write a list"),
        ("limits: null", "limits: null stands here; write a mapping"),
        ("limits: {header_bytes: 1MB}", "limits.header_bytes: `1MB` is no size"),
        ("limits: {header_bytes: 2MiB}", "limits.header_bytes: `2MiB` is out of bounds; write 256B to 1MiB"),
        ("limits: {header_bytes: null}", "limits.header_bytes: null is no size"),
        ("limits: {joins_per_client: 0/m}", "limits.joins_per_client: `0/m` is out of bounds"),
        ("limits: {joins_per_client: 1/s}", "limits.joins_per_client: `1/s` is no rate"),
        ("limits: {drain_timeout: 25h}", "limits.drain_timeout: `25h` is out of bounds; write 1ms to 24h"),
        ("limits: {header_count: '5'}", "limits.header_count: `5` stands here; write a whole number"),
        ("rooms: null", "rooms: null stands here; write a list"),
        ("rooms: [5]", "rooms[0]: `5` stands here; write a mapping"),
        ("sites: null", "sites: null stands here; write a list"),
        ("sites: [{hosts: [a]}]", "sites[0].origin: is missing; write `origin: http://127.0.0.1:8001`"),
        ("sites: [{origin: http://a}]", "sites[0].hosts: is missing; write `hosts: [shop-b.example]`"),
        ("sites: [{hosts: [], origin: http://a}]", "sites[0].hosts: is empty; write something such as [shop-b"),
        ("sites: [{hosts: a, origin: http://a}]", "sites[0].hosts: `a` stands here; write a list"),
        ("sites: [{hosts: [5], origin: http://a}]", "sites[0].hosts[0]: `5` is not text to YAML"),
        ("sites: [{hosts: [A.example], origin: http://a}]", "sites[0].hosts[0]: `A.example` is not what browsers send"),
        ("sites: [{hosts: ['a:80'], origin: http://a}]", "sites[0].hosts[0]: `a:80` is no host"),
        ("sites: [{hosts: [a], origin: http://127.0.0.1:8080}]", "sites[0].origin: `127.0.0.1:8080` is where we"),
        ("sites: [{host: [a], hosts: [b], origin: http://a}]", "sites[0].host: is no setting"),
        ("admin: 127.0.0.1:1", "admin: `127.0.0.1:1` stands here; write a mapping"),
        ("admin: {listen: 9090}", "admin.listen: `9090` is no address; write host:port, such as 127.0.0.1:9090"),
        ("admin: {listen: '0.0.0.0:8080'}", "admin.listen: `0.0.0.0:8080` has the port of `listen`; write another"),
        ("listen: '[::1]:9090'", "admin.listen: `127.0.0.1:9090` has the port of `listen`; write another"),
        ("admin: {token_file: ''}", "admin.token_file: is empty; write something such as var/admin-token"),
        ("admin: {token: x}", "admin.token: is no setting; write `token_file`"),
        ("ledger: var/ledger", "ledger: `var/ledger` stands here; write a mapping"),
        ("ledger: {folder: ''}", "ledger.folder: is empty; write something such as var/ledger"),
        ("ledger: {keep: 30}", "ledger.keep: `30` has no unit; write 30d (or h)"),
        ("ledger: {keep: 30m}", "ledger.keep: `30m` is no duration; write a number with d or h: 90d"),
        ("ledger: {keep: 11y}", "ledger.keep: `11y` is no duration"),
        ("ledger: {keep: 4000d}", "ledger.keep: `4000d` is out of bounds; write 1h to 3650d"),
        ("ledger: {rotate_bytes: 1KiB}", "ledger.rotate_bytes: `1KiB` is out of bounds; write 64KiB to 4GiB"),
        ("<<: {workers: 1}", "<<: is no setting"),
    ],
)
def test_a_wrong_setting_at_the_top(mistakes, line, start):
    """Each is one mistake with a sentence that an operator can act on."""
    found = mistakes(line + "\n")
    assert len(found) == 1
    assert found[0].startswith(f"1: {start}")


@pytest.mark.parametrize(
    "line",
    [
        "origin: http://me:hunter2@shop",
        "origin: me:hunter2@shop",
        "sites: [{hosts: [a], origin: http://me:hunter2@shop}]",
        "store: redis://me:hunter2@host",
        "store: sqlite://me:hunter2@host",
    ],
)
def test_a_password_is_never_quoted(mistakes, line):
    """Mistakes end up in logs, so a URL with a password in it is not repeated."""
    assert "hunter2" not in str(mistakes(line))


def test_two_rooms_that_claim_the_same(mistakes):
    """A name, a cookie or a rule can be one room's only, even where another mistake stands in the same room."""
    assert mistakes("""\
rooms:
  - {name: a, match: [{path: /a/}, {path: /c}], cookie: {name: w}}
  - {name: a, match: [{path: /b/}], max_waiting: no}
  - {name: c, match: [{path: /A/}], cookie: {name: w}}
  - {name: d, match: [{path: /c, query: {x: "1"}}]}
  - {name: d, match: [{path: /d}]}
""") == [
        "3: rooms[1].name: `a` names the room of line 2 too; give each its own name",
        "3: rooms[1].max_waiting: `no` stands here; write a whole number, such as 200",
        "4: rooms[2].cookie.name: `w` is the cookie of the room of line 2 too; write {room} in the name",
        "4: rooms[2].match[0]: the same requests belong to the room of line 2; keep one of the two",
        "6: rooms[4].name: `d` names the room of line 5 too; give each its own name",
    ]


def test_two_sites_that_name_one_host(mistakes):
    """A host can be one site's only, however it is spelled, even where another mistake stands in the same site."""
    assert mistakes("""\
sites:
  - {hosts: [a.example, a.example, "[::1]", 7], origin: http://a}
  - {hosts: ["*.a.example", "*", a.example], origin: 5}
  - {hosts: ["[0::1]", "*"], origin: http://a}
  - {hosts: 5, origin: http://a}
  - 5
""") == [
        '2: sites[0].hosts[3]: `7` is not text to YAML; write it in quotes, "7"',
        "3: sites[1].hosts[2]: `a.example` is a host of the site of line 2; keep one of the two",
        "3: sites[1].origin: `5` is no http or https URL; write http://127.0.0.1:8000",
        "4: sites[2].hosts[0]: `[0::1]` is a host of the site of line 2; keep one of the two",
        "4: sites[2].hosts[1]: `*` is a host of the site of line 3; keep one of the two",
        "5: sites[3].hosts: `5` stands here; write a list, such as []",
        "6: sites[4]: `5` stands here; write a mapping, such as {name: value}",
    ]


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (b"", "1: file: is empty"),
        (b"# nothing yet\n", "1: file: is empty"),
        (b"null\n", "1: file: is empty"),
        (b"- a\n", "1: file: is no mapping at its top"),
        (b"workers\n", "1: file: is no mapping at its top"),
        (b"a: 1\nb: \xff\n", "2: file: is not UTF-8"),
        (b"a: 1\nb: \x00\n", "2: yaml: has the character U+0000"),
        (b"a: 1\n\tb: 2\n", "2: yaml: found character"),
        (b"a: 1\n---\nb: 2\n", "2: yaml: but found another document"),
        (b"store: memory:\n", "1: yaml: mapping values are not allowed here"),
        (b"a: *b\n", "1: yaml: found undefined alias"),
        (b'a: "\\UFFFFFFFF"\n', "1: yaml: cannot be read as YAML"),
        (b"#" * (FILE_BYTES_MAX + 1), "1: file: is larger than 256KiB"),
        (b"a:\n" + b" [\n" * 5000, "17: yaml: more than 16 levels deep"),
        (b"a: &a [*a]\n", "1: yaml: an alias leads more than 16 levels deep"),
    ],
)
def test_a_file_that_cannot_be_read(mistakes, content, start):
    """A file that is no configuration at all is one mistake that says what it is instead."""
    found = mistakes(content)
    assert len(found) == 1
    assert found[0].startswith(start)


def test_aliases_of_aliases_are_bounded(mistakes):
    """A small file whose aliases unfold into billions of values is refused, and quickly."""
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    assert mistakes(text) == ["1: yaml: unfolds into more than 20000 values; use fewer aliases"]


def test_a_path_that_is_no_file(tmp_path):
    """A missing file, a folder, an endless file and an impossible name are mistakes, not tracebacks."""
    for path, start in (
        (tmp_path / "absent.yaml", "file: does not exist"),
        (tmp_path, "file: cannot be read (Is a directory)"),
        (Path("/dev/zero"), "file: is larger than 256KiB"),
        (tmp_path / "a\0b", "file: cannot be read"),
        (tmp_path / ("x" * 300), "file: cannot be read (File name too long)"),
    ):
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert str(caught.value).startswith(f"{path}:1: {start}")


def test_empty_keys_in_the_environment(write):
    """A key variable that is set but holds an empty key is a mistake; the keys themselves are not quoted."""
    path = write("worker: 1\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path, {"WAITROOM_SECRET_KEYS": "s3cret,,"})
    assert len(caught.value.mistakes) == 2
    assert "environment:1: WAITROOM_SECRET_KEYS: holds an empty key" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert config.load(write("workers: 1\n"), {"WAITROOM_SECRET_KEYS": "one,two"}).workers == 1


# --- the command line, and warnings ---------------------------------------------------------------------------------


def test_the_command_line_goes_before_the_file(load):
    """What the command line says replaces the file's word and is judged by the same rules."""
    loaded = load("rooms: []\n")
    assert config.override(loaded) == loaded
    assert config.override(loaded, listen="[::1]:0", workers=1).listen == Address("::1", 0)
    assert config.override(loaded, workers=2).workers == 2
    with pytest.raises(ConfigError) as caught:
        config.override(loaded, listen="8080", workers=0)
    assert [mistake.key for mistake in caught.value.mistakes] == ["--listen", "--workers"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workers": 2}, "--workers: `2` is too many: memory: lives in one process; write 1, or store: sqlite:///"),
        ({"listen": "127.0.0.1:8000"}, "--listen: `127.0.0.1:8000` is the address of an origin; listen elsewhere"),
        ({"listen": "0.0.0.0:8001"}, "--listen: `0.0.0.0:8001` is the address of an origin; listen elsewhere"),
        ({"listen": "[::1]:9090"}, "--listen: `[::1]:9090` has the port of `admin.listen`; write another"),
    ],
)
def test_the_command_line_is_judged_beside_the_file(load, options, expected):
    """An option that the file's other settings rule out is a mistake, as it would be in the file."""
    loaded = load('store: "memory:"\n' + ROOM + "    origin: http://127.0.0.1:8001\n")
    with pytest.raises(ConfigError) as caught:
        config.override(loaded, **options)
    (mistake,) = caught.value.mistakes
    assert f"{mistake.key}: {mistake.message}".startswith(expected)


def test_warnings_of_the_door(load):
    """The check says when a limit by client address cannot work, and when trust is given to everyone."""
    (warning,) = config.warnings(load("listen: 127.0.0.1:1\n"))
    assert "not applied to a loopback or private peer while no proxy is trusted" in warning
    assert config.warnings(load("listen: 127.0.0.1:1\nlimits: {joins_per_client: null}\n")) == []
    assert config.warnings(load("listen: 127.0.0.1:1\ntrusted_proxies: [127.0.0.1]\n")) == []
    assert config.warnings(load("listen: 203.0.113.1:1\n"))  # a documentation network counts as private
    assert config.warnings(load("listen: 8.8.8.8:1\n")) == []
    (warning,) = config.warnings(load("trusted_proxies: [0.0.0.0/0]\n"))
    assert warning.startswith("trusted_proxies: ")


@pytest.mark.parametrize(
    ("listen", "count"),
    [("127.0.0.2:0", 0), ("localhost:0", 0), ("'[::1]:0'", 0), ("0.0.0.0:0", 1), ("10.0.0.1:0", 1), ("admin.lan:0", 1)],
)
def test_a_warning_of_an_admin_listener_that_others_reach(load, listen, count):
    """The check says when the operators' listener can be reached from other machines."""
    found = config.warnings(load(f"limits: {{joins_per_client: null}}\nadmin: {{listen: {listen}}}\n"))
    assert len(found) == count
    assert all(warning.startswith("admin.listen: ") for warning in found)


@pytest.mark.parametrize(
    ("hosts", "match", "unreachable"),
    [
        ("[a.example]", "{path: /x, host: a.example}", []),
        ("[a.example]", "{path: /x}", []),
        ("['*']", "{path: /x, host: a.example}", []),
        ("['*.a.example']", "{path: /x, host: b.a.example}", []),
        ("['*.b.a.example']", "{path: /x, host: '*.a.example'}", []),
        ("['*.example']", "{path: /x, host: '*.a.example'}", []),
        ("['*.a.example']", "{path: /x, host: a.example}", ["a.example"]),
        ("[a.example]", "{path: /x, host: '*.a.example'}", ["*.a.example"]),
        ("[a.example]", "{path: /x, host: a.example}, {path: /x, host: b.example}", ["b.example"]),
        ("['*.a.example']", "{path: /x, host: xa.example}", ["xa.example"]),
    ],
)
def test_a_warning_of_a_room_that_nobody_can_reach(load, hosts, match, unreachable):
    """When sites are given, the check says which of a room's hosts no site names; without them it says nothing."""
    room = f"limits: {{joins_per_client: null}}\nrooms:\n  - {{name: launch, match: [{match}]}}\n"
    found = config.warnings(load(f"sites: [{{hosts: {hosts}, origin: http://a}}]\n{room}"))
    words = "is a host that no site names: nobody can reach the room there"
    expected = [f"rooms.launch: {host} {words}" for host in unreachable]
    assert [warning for warning in found if "no site" in warning] == expected
    assert not [warning for warning in config.warnings(load(room)) if "no site" in warning]


@pytest.mark.parametrize(
    ("match", "sites", "warned"),
    [
        ("{path: /x, host: a.example}", "[]", True),
        ("{path: /x, host: '*.a.example'}", "[]", True),
        ("{path: /x, host: a.example}", "[{hosts: [a.example], origin: http://a}]", False),
        ("{path: /x}", "[]", False),
        ("{path: /x, host: a.example}, {path: /x}", "[]", False),
    ],
)
def test_a_warning_of_a_room_that_another_host_walks_around(load, match, sites, warned):
    """Bound to hosts while every Host is served: any other name leads to the shop, and past the room."""
    text = f"limits: {{joins_per_client: null}}\nsites: {sites}\nrooms:\n  - {{name: launch, match: [{match}]}}\n"
    assert any("sites is empty" in warning for warning in config.warnings(load(text))) == warned


@pytest.mark.parametrize(
    ("match", "bypass", "word", "cookie"),
    [
        ("{path: /}", "", "whole site", ""),
        ("{path: /event/pay/}", "", "payment callback", ""),
        ("{path: /PG_Notify.php}", "{path: /x}", "payment callback", ""),
        ("{path: /event/pay/}", "{path: /event/pay/callback, method: POST}", None, ""),
        ("{path: /event/display/}", "", None, ""),
        ("{path: /, query: {product_no: '1'}}", "", None, ""),
        ("{path: /a, host: a.example}, {path: /a, host: b.example}", "", "spans hosts", ""),
        ("{path: /a, host: '*.a.example'}", "", "spans hosts", ""),
        ("{path: /a, host: a.example}, {path: /b, host: a.example}", "", None, ""),
        ("{path: /a, host: a.example}, {path: /a, host: b.a.example}", "", None, "domain: a.example"),
        ("{path: /a}", "", "for every host", "domain: a.example"),
        ("{path: /a, host: a.co.kr}", "", "anybody has a name", "domain: co.kr"),
        ("{path: /a}", "", "gets a new place", "same_site: strict"),
    ],
)
def test_warnings_of_a_room(load, match, bypass, word, cookie):
    """The check says when a room covers more than its operator may have meant."""
    loaded = load(
        f"limits: {{joins_per_client: null}}\nrooms:\n  - {{name: launch, match: [{match}], bypass: [{bypass}], "
        f"cookie: {{{cookie}}}}}\n"
    )
    found = [warning for warning in config.warnings(loaded) if "sites is empty" not in warning]
    assert len(found) == (word is not None)
    assert all(warning.startswith("rooms.launch: ") and word in warning for warning in found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("languages: []", "4: rooms[0].languages: is empty; write something such as [ko, en]"),
        ("languages: [ko, ko]", "4: rooms[0].languages: `ko` stands twice; write it once"),
        ("languages: [ko, KO]", "4: rooms[0].languages: `ko` stands twice; write it once"),
        (
            "languages: [../../etc]",
            "4: rooms[0].languages[0]: `../../etc` is no language; write its tag, such as ko, en",
        ),
        ("languages: [7]", "4: rooms[0].languages[0]: `7` is not text to YAML; write it in quotes"),
        ("templates: ''", "4: rooms[0].templates: is empty; write something such as our-pages"),
    ],
)
def test_languages_and_templates_that_cannot_be(room_mistakes, line, message):
    """Each is said with what would be right."""
    (mistake,) = room_mistakes(line)
    assert mistake.startswith(message)


def test_languages_and_templates_arrive(load, tmp_path):
    """A tag in its usual case, and a folder beside the file."""
    text = "rooms:\n  - {name: a, match: [{path: /a/}], languages: [PT-br, zh-hant, en], templates: pages}\n"
    (room,) = load(text).rooms
    assert room.languages == ("pt-BR", "zh-Hant", "en")
    assert room.templates == tmp_path / "pages"


@pytest.mark.parametrize("fraction", ["", ".5", ".500", ".500123", ".500123456"])
def test_a_moment_may_be_written_as_finely_as_programs_do(fraction: str) -> None:
    """What ``isoformat`` and its like print is read, and counted in whole milliseconds."""
    assert instant(f"2026-12-01T12:00:00{fraction}+09:00") == 1_796_094_000_000 + (500 if fraction else 0)


NEAR = "has addresses of this machine or a network of its own, and no proxy is trusted: "


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "127.0.0.0/8",
        "10.2.0.0/16",
        "172.16.0.0/12",
        "172.31.0.9",
        "192.168.0.0/16",
        "169.254.7.0/24",
        "100.64.0.0/10",
        "128.0.0.0/1",
        "'::1'",
        "'fd00:12::/32'",
        "'fe80::/10'",
        "'::/1'",
    ],
)
def test_a_bypass_for_where_a_proxy_would_stand_needs_trusted_proxies(mistakes, load, ip):
    """While no proxy is trusted the peer itself is the client: with one in front everybody would be in the range."""
    text = ROOM + f"    bypass: [{{path: /event/a/, ip: {ip}}}]\n"
    (mistake,) = mistakes(text)
    assert mistake.startswith(f"4: rooms[0].bypass[0].ip: `{ip_network(ip.strip(chr(39)))}` {NEAR}")
    assert "name the proxy in `trusted_proxies`" in mistake
    assert mistakes(f"trusted_proxies: []\n{text}")[0].startswith("5: rooms[0].bypass[0].ip: ")
    (rule,) = load(f"trusted_proxies: [192.0.2.7]\n{text}").rooms[0].bypass
    assert rule.ip == ip_network(ip.strip("'"))


@pytest.mark.parametrize("ip", ["192.0.2.0/24", "8.8.8.8", "172.32.0.0/16", "100.128.0.0/9", "2001:db8::/32"])
def test_a_bypass_for_addresses_of_the_internet_needs_no_proxy(room, ip):
    """Nobody's proxy stands there unless it is somebody's else."""
    (rule,) = room(f"bypass: [{{ip: '{ip}'}}]").bypass
    assert rule == PathRule("", ip=ip_network(ip))


@pytest.mark.parametrize(
    ("written", "start"),
    [
        ("'header:'", "`header:` is not among the choices"),
        ("header:a_b", "`header:a_b` is not among the choices"),
        ("header:Authorization", "`Authorization` has a meaning of its own"),
        ("header:X-Forwarded-For", "`X-Forwarded-For` has a meaning of its own"),
        ("header:Cookie", "`Cookie` has a meaning of its own"),
        ("header:Waitroom-Pass", "`Waitroom-Pass` has a meaning of its own"),
    ],
)
def test_an_account_is_named_by_a_header_of_its_own(mistakes, load, written, start):
    """One with a meaning to others would be kept, dropped or changed for their reasons; any other is in lower case."""
    text = f"trusted_proxies: [192.0.2.7]\n{ROOM}    one_ticket_per: "
    (mistake,) = mistakes(f"{text}{written}\n")
    assert mistake.startswith(f"5: rooms[0].one_ticket_per: {start}")
    (room,) = load(f"{text}header:X-Member-Id\n").rooms
    assert room.member_header == b"x-member-id"
    (room,) = load(f"{text}cookie\n").rooms
    assert room.member_header is None


def test_a_warning_of_a_bypass_with_proxies_in_it(load):
    """The check says where a proxy that hides its client would be taken for somebody who may go around."""
    text = "trusted_proxies: [10.0.0.0/24, '2001:db8::/32', 192.168.0.1]\n" + ROOM
    found = config.warnings(load(text + "    bypass: [{ip: 10.0.0.0/8}, {ip: '2001:db9::1'}, {path: /x}]\n"))
    (warning,) = [warning for warning in found if "proxies" in warning]
    assert warning.startswith("rooms.launch: the bypass for 10.0.0.0/8 has trusted proxies in it, 10.0.0.0/24: ")


@pytest.mark.parametrize(
    ("match", "domain", "host"),
    [
        ("{path: /x, host: shop.example}", "example.com", "shop.example"),
        ("{path: /x, host: shop.example}", "www.shop.example", "shop.example"),
        ("{path: /x, host: myshop.example}", "shop.example", "myshop.example"),
        ("{path: /x, host: '*.shop.example'}", "www.shop.example", "*.shop.example"),
        ("{path: /x, host: a.shop.example}, {path: /x, host: b.other.example}", "shop.example", "b.other.example"),
        ("{path: /x, host: '[::1]'}", "shop.example", "[::1]"),
    ],
)
def test_a_cookie_s_domain_has_every_host_of_the_room_in_it(mistakes, match, domain, host):
    """On any other host browsers refuse the cookie, and its visitor would get a new place with every look."""
    (mistake,) = mistakes(f"rooms:\n  - name: launch\n    match: [{match}]\n    cookie: {{domain: {domain}}}\n")
    assert mistake.startswith(f"4: rooms[0].cookie.domain: `{domain}` does not have the room's host `{host}` in it")


def test_a_cookie_s_settings_arrive(load):
    """As they were written; ``auto`` for https is nothing said."""
    text = ROOM.replace("path: /event/", "path: /event/, host: www.shop.example")
    (found,) = load(text + "    cookie: {domain: shop.example, same_site: lax, secure: true}\n").rooms
    assert (found.cookie_domain, found.cookie_same_site, found.cookie_secure) == ("shop.example", "lax", True)
    (found,) = load(text + "    cookie: {same_site: none, secure: auto}\n").rooms
    assert (found.cookie_domain, found.cookie_same_site, found.cookie_secure) == (None, "none", None)


SECRET = "a-s3cret:of=ours"


def test_a_secret_is_nowhere_to_be_read(load):
    """Its value is in the settings and in nothing that is made of them for people."""
    loaded = load(ROOM + f"    bypass: [{{header: {{X-Bypass-Key: '{SECRET}'}}}}]\n")
    (rule,) = loaded.rooms[0].bypass
    assert rule == PathRule("", header=SecretHeader("x-bypass-key", SECRET))
    assert SECRET not in repr(loaded) + str(loaded) + "".join(config.warnings(loaded))


@pytest.mark.parametrize(
    ("rule", "key", "start"),
    [
        ("header: {X-Key: s3cret}", ".header", "has a value of 6 characters, which anybody could guess; write 16 or"),
        ("header: {X-Key: s3cret-s3cret-s}", ".header", "has a value of 15 characters"),
        ("header: {X-Key: ''}, ip: 192.0.2.1", ".header", "has a value that is none"),
        ("header: {X-Key: 's3cret with a blank'}", ".header", "has a value that is none; write 1 to 256 visible ASCII"),
        ("header: {X-Key: s3cret-s3cret-s3cr\xe9t}", ".header", "has a value that is none"),
        ('header: {X-Key: "s3cret-s3cret\\r\\nX: y"}', ".header.X-Key", "this has a character that does not print"),
        (f"header: {{X-Key: {'s3cret' * 50}}}", ".header", "has a value that is none"),
        ("header: {X-Key: 123456789012345678}", ".header", "has a value that is not text to YAML; write it in quotes"),
        ("header: {X-Key: [s3cret-s3cret-s3cret]}", ".header", "has a value that is not text"),
        ("header: {X-Key: !s3cret s3cret}", ".header.X-Key", "has a YAML tag; write it without !"),
        ("header: 'X-Key: s3cret-s3cret-s3cret'", ".header", "is not one header; write its name and value, {X-Bypass"),
        ("header: {X-Key: s3cret-s3cret-s3cret, X-B: s3cret}", ".header", "is not one header"),
        ("header: {}", ".header", "is not one header"),
        ("header: {X_Key: s3cret-s3cret-s3cret}", ".header", "`X_Key` is no name for it; write letters, digits and -"),
        ("header: {'X Key': s3cret-s3cret-s3cret}", ".header", "`X Key` is no name for it"),
        *(
            (
                f"header: {{{name}: s3cret-s3cret-s3cret}}",
                ".header",
                f"`{name}` has a meaning of its own; choose another",
            )
            for name in (
                "Host",
                "connection",
                "COOKIE",
                "Content-Length",
                "Content-Type",
                "Transfer-Encoding",
                "TE",
                "Upgrade",
                "Expect",
                "Authorization",
                "User-Agent",
                "Accept",
                "Referer",
                "Origin",
                "If-None-Match",
                "Sec-Fetch-Mode",
                "Waitroom-Pass",
                "Waitroom-Bypass",
                "X-Forwarded-For",
                "X-Forwarded-Whatever",
                "Forwarded",
                "X-Real-IP",
                "CF-Connecting-IP",
                "X-Rewrite-URL",
                "Proxy-Authorization",
            )
        ),
    ],
)
def test_a_secret_that_will_not_do_is_refused_and_not_told(mistakes, rule, key, start):
    """A name that others use, a value anybody could guess: one mistake, which never quotes the value."""
    first, *more = mistakes(ROOM + f"    bypass: [{{{rule}}}]\n")
    assert (first + "".join(more)).count("X-Key: ") == len(more), "what YAML reads otherwise is told for what it is"
    found = [mistake for mistake in (first, *more) if mistake.startswith(f"4: rooms[0].bypass[0]{key}: {start}")]
    assert found
    assert not re.search("s3cret|1234567", first + "".join(more))


@pytest.mark.parametrize(
    "value", ["*s3cret", "!s3cret!s3cret x", "&s3cret &s3cret x", "@s3cret", "'s3cret", "s3cret: s3cret"]
)
def test_a_secret_that_is_no_yaml_is_not_told_either(mistakes, value):
    """What YAML reads as an alias, a tag or half a string is said by its kind and line."""
    (mistake,) = mistakes(ROOM + f"    bypass: [{{header: {{X-Key: {value}}}}}]\n")
    assert ": yaml: " in mistake
    assert "s3cret" not in mistake


def test_a_short_secret_beside_an_address_is_enough(room):
    """Whoever may try it is known then."""
    (rule,) = room("bypass: [{header: {X-Probe: '1'}, ip: 192.0.2.1, path: /event/up, method: GET}]").bypass
    assert rule == PathRule("/event/up", method="GET", ip=ip_network("192.0.2.1"), header=SecretHeader("x-probe", "1"))


@pytest.mark.parametrize(
    ("events", "key", "message"),
    [
        (
            "{name: a, start_time: 2026-12-01T12:00:00, end_time: 2026-12-01T13:00Z}",
            "[0].start_time",
            "`2026-12-01T12:00:00` has no offset from UTC; write 2026-12-01T12:00:00+09:00, or Z for UTC",
        ),
        (
            "{name: a, start_time: 12:00, end_time: 2026-12-01T13:00Z}",
            "[0].start_time",
            "`12:00` is no time; write 2026-12-01T12:00:00+09:00",
        ),
        (
            "{name: a, start_time: 2026-02-30T12:00Z, end_time: 2026-12-01T13:00Z}",
            "[0].start_time",
            "`2026-02-30T12:00Z` is no time there is; write 2026-12-01T12:00:00+09:00",
        ),
        (
            "{name: a, start_time: 1999-12-01T12:00Z, end_time: 2026-12-01T13:00Z}",
            "[0].start_time",
            "`1999-12-01T12:00Z` is out of bounds; write a time from 2000 to 2999",
        ),
        (
            "{name: a, start_time: 2026-12-01T12:00Z, end_time: 2026-12-01T12:00Z}",
            "[0].end_time",
            "is not after `start_time`; write a later time",
        ),
        (
            (
                "{name: a, start_time: 2026-12-01T12:00Z, end_time: 2026-12-01T13:00Z, "
                "prequeue_start_time: 2026-12-01T12:00Z}"
            ),
            "[0].prequeue_start_time",
            "is not before `start_time`; write an earlier time",
        ),
        (
            (
                "{name: a, start_time: 2026-12-01T12:00Z, end_time: 2026-12-01T13:00Z, "
                "prequeue_start_time: 2026-11-30T12:00Z}"
            ),
            "[0].prequeue_start_time",
            "is not less than a day before `start_time`; write a later time",
        ),
        (
            ("{name: a, start_time: 2026-12-01T12:00Z, end_time: 2026-12-01T13:00Z, shuffle_at_event_start: true}"),
            "[0].shuffle_at_event_start",
            "there is nobody to draw among without a `prequeue_start_time`; write one, or remove this",
        ),
        (
            "{name: A b, start_time: 2026-12-01T12:00Z, end_time: 2026-12-01T13:00Z}",
            "[0].name",
            "`A b` is no event name; write 1 to 40 of a-z, 0-9 and -",
        ),
        (
            (
                "{name: a, start_time: 2026-12-01T12:00Z, end_time: 2026-12-01T13:00Z}, "
                "{name: a, start_time: 2026-12-02T12:00Z, end_time: 2026-12-02T13:00Z}"
            ),
            "",
            "two events are called `a`; give each its own name",
        ),
        (
            (
                "{name: late, prequeue_start_time: 2026-12-01T12:59Z, start_time: 2026-12-01T14:00Z, "
                "end_time: 2026-12-01T15:00Z}, {name: a, start_time: 2026-12-01T12:00Z, end_time: 2026-12-01T13:00Z}"
            ),
            "",
            "`late` begins before `a` has ended; let one end before the next begins",
        ),
    ],
)
def test_an_event_states_moments_that_can_be(room_mistakes, events, key, message):
    """With their offset, in order, and never two at a time."""
    assert room_mistakes(f"events: [{events}]") == [f"4: rooms[0].events{key}: {message}"]


def test_an_event_for_which_nobody_gathers_is_warned_of(load):
    """Whoever waits when it starts would lose their place."""
    text = "events: [{name: noon, start_time: 2026-12-01T12:00Z, end_time: 2026-12-01T13:00Z}]"
    found = config.warnings(load(f"{ROOM}    {text}\n"))
    assert any("event noon has no prequeue_start_time" in warning for warning in found)


@pytest.fixture(scope="module")
def ca_pem():
    """Return the certificate of an authority, as text."""
    return make("our CA", authority=True).pem


def test_an_origin_and_what_it_is_known_by_are_one(load, tmp_path, ca_pem):
    """The top, a site and a room each have their own; of the file only its certificates are in the settings."""
    other = make("shop.internal").with_key
    (tmp_path / "ca.pem").write_text(f"Voilà:\n{ca_pem}{other}")
    (tmp_path / "one.pem").write_text(ca_pem)
    loaded = load("""
origin: https://10.0.0.5
origin_tls: {ca_file: ca.pem, server_name: SHOP.internal}
sites: [{hosts: ["*"], origin: "https://[::1]", origin_tls: {server_name: "::1"}}]
rooms:
  - {name: a, match: [{path: /a}], origin: https://10.0.0.5, origin_tls: {ca_file: one.pem}}
  - {name: b, match: [{path: /b}], origin: https://10.0.0.5, origin_tls: {ca_file: one.pem, server_name: null}}
  - {name: c, match: [{path: /c}], origin: https://10.0.0.5}
""")
    assert loaded.origin.tls.server_name == "shop.internal"
    assert loaded.origin.tls.ca_pem.count("BEGIN CERTIFICATE") == 2
    assert "KEY" not in loaded.origin.tls.ca_pem
    assert loaded.sites[0].origin == Address("::1", 443, https=True, tls=OriginTls(server_name="::1"))
    first, second, third = (room.origin for room in loaded.rooms)
    assert first == second == Address("10.0.0.5", 443, https=True, tls=OriginTls(ca_pem))
    assert third == Address("10.0.0.5", 443, https=True)
    assert loaded.origins() == {loaded.sites[0].origin, first, third}
    assert "CERTIFICATE" not in repr(loaded)


HTTPS = "origin: https://shop.internal\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HTTPS + "origin_tls: {ca_file: none.pem}", "2: origin_tls.ca_file: `none.pem` does not exist; name a file"),
        (HTTPS + "origin_tls: {ca_file: .}", "2: origin_tls.ca_file: `.` is no file; name a file"),
        (HTTPS + "origin_tls: {ca_file: pipe}", "2: origin_tls.ca_file: `pipe` is no file; name a file"),
        (HTTPS + "origin_tls: {ca_file: loop}", "2: origin_tls.ca_file: `loop` does not exist; name a file"),
        (HTTPS + f"origin_tls: {{ca_file: {'x' * 300}}}", "(File name too long)"),
        (HTTPS + 'origin_tls: {ca_file: "a\\0b"}', "2: origin_tls.ca_file: "),
        (HTTPS + "origin_tls: {ca_file: words}", "2: origin_tls.ca_file: `words` has no certificate in PEM form in it"),
        (HTTPS + "origin_tls: {ca_file: huge}", "2: origin_tls.ca_file: `huge` is larger than 1024KiB; name a file"),
        (HTTPS + "origin_tls: {ca_file: broken}", "`broken` has a broken certificate, number 2 in it; copy it anew"),
        (HTTPS + "origin_tls: {ca_file: 5}", "2: origin_tls.ca_file: `5` is no file; write one of certificates"),
        (HTTPS + "origin_tls: {ca_file: ''}", "2: origin_tls.ca_file: `` is no file; write one of certificates"),
        (HTTPS + "origin_tls: {server_name: '*.a'}", "2: origin_tls.server_name: `*.a` is no server's name; write one"),
        (HTTPS + "origin_tls: {server_name: 'a:1'}", "2: origin_tls.server_name: `a:1` is no server's name; write one"),
        (HTTPS + "origin_tls: {server_name: 'fe80::1%1'}", "`fe80::1%1` is no server's name"),
        (HTTPS + "origin_tls: {server_name: 5}", "2: origin_tls.server_name: `5` is not text to YAML"),
        (HTTPS + "origin_tls: {verify: false}", "2: origin_tls.verify: is no setting; remove it"),
        (HTTPS + "ca_file: ca.pem", "2: ca_file: is no setting here; write it under `origin_tls`"),
        (HTTPS + "origin_tls: null", "2: origin_tls: null stands here; write a mapping"),
        (
            "origin: http://shop\norigin_tls: {server_name: a}",
            "2: origin_tls: its `origin` is http, which has no TLS; write https://shop:80, or remove this",
        ),
        (
            "sites: [{hosts: [a], origin: http://a, origin_tls: {ca_file: ca.pem}}]",
            "1: sites[0].origin_tls: its `origin`",
        ),
        (ROOM + "    origin_tls: {ca_file: ca.pem}", "4: rooms[0].origin_tls: there is no `origin` beside it; write"),
        (
            ROOM + "    origin: http://a\n    origin_tls: {ca_file: ca.pem}",
            "5: rooms[0].origin_tls: its `origin` is http",
        ),
        ("origin: 5\norigin_tls: {server_name: a}", "1: origin: `5` is no http or https URL"),
    ],
)
def test_what_an_origin_is_known_by_is_checked(mistakes, tmp_path, ca_pem, text, expected):
    """A file of certificates is looked into at once, and TLS is spoken of only beside an https origin."""
    (tmp_path / "ca.pem").write_text(ca_pem)
    (tmp_path / "words").write_text("-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n")
    (tmp_path / "huge").write_text(ca_pem + " " * 1024 * 1024)
    (tmp_path / "broken").write_text(ca_pem + ca_pem.replace("MII", "IIM", 1))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    found = mistakes(text + "\n")
    assert len(found) == 1
    assert expected in found[0]


# --- text nobody would write ----------------------------------------------------------------------------------------

_words = st.sampled_from(
    [name for shape in config.SHAPES.values() for name in shape.model_fields]
    + [place[-1] for place in config.NOT_BUILT]
)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["5m", "1KiB", "60/m", "*", "/event/", "launch", "memory:", "fifo", "http://a", "[::1]:0", "POST"]),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words | st.text(max_size=5), inner, max_size=6),
    max_leaves=30,
)
_files = st.fixed_dictionaries(
    {},
    optional={
        name: st.lists(st.dictionaries(_words, _values, max_size=8), max_size=3) if name == "rooms" else _values
        for name in FileShape.model_fields
    },
)


def check_outcome(path, content):
    """Load ``content``: what comes of it is settings, or mistakes that print, sorted, one a line."""
    path.write_bytes(content)
    found = []
    try:
        assert isinstance(config.load(path), Settings)
    except ConfigError as error:
        found = error.mistakes
        printed = str(error).encode().split(b"\n")
        lines = [mistake.line for mistake in found]
    else:
        return
    assert found
    assert len(printed) == len(found)
    assert lines == sorted(lines)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """Return the path of one file that examples overwrite."""
    return tmp_path_factory.mktemp("config") / "any.yaml"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.binary() | st.text().map(str.encode) | st.text("{}[]:,-&*!|>'\"%@?# \n\tab1").map(str.encode))
@example(content=b"? " * 3000)
@example(content=b"- " * 3000)
@example(content=b"{" * 3000 + b"}" * 3000)
@example(content=b"".join(b" " * n + b"a:\n" for n in range(300)))
@example(content=b'{"\\ud800": "\\udfff"}')
@example(content=b"workers: " + b"9" * 10_000)
@example(content=b"%YAML 1." + b"9" * 10_000 + b"\n---\na: 1")
@example(content=b"!!int a: !!float b")
@example(content=b"a: !!python/name:os.system x")
def test_any_bytes_give_settings_or_mistakes(scratch, content):
    """Whatever a file holds, loading it ends in settings or in mistakes that can be printed, one a line."""
    check_outcome(scratch, content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=_files)
def test_any_values_give_settings_or_mistakes(scratch, values):
    """Whatever stands where a setting should, loading ends in settings or in mistakes."""
    check_outcome(scratch, yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass"))


# --- documents that cannot drift ------------------------------------------------------------------------------------


def rows(heading):
    """Return the tables of docs/CONFIG.md under ``heading`` as ``{key: default}``, both without backquotes."""
    text = (ROOT / "docs/CONFIG.md").read_text()
    section = text.split(f"\n{heading}\n", 1)[1]
    section = re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `([^`]+)` \| *(?:`([^`]+)`|[^|`]*) *\|", section, flags=re.MULTILINE))


def written_default(shape, name):
    """Return the default of a key as an operator would write it; None where the key must be given."""
    described = shape.model_fields[name]
    if described.is_required():
        return None
    extra = described.json_schema_extra
    return extra["default"] if isinstance(extra, dict) else described.get_default(call_default_factory=True)


@pytest.mark.parametrize(
    ("heading", "place"),
    [
        ("## Where we stand", ()),
        ("## `origin_tls`", ("origin_tls",)),
        ("## `sites[]`", ("sites", "*")),
        ("## `admin`", ("admin",)),
        ("## `ledger`", ("ledger",)),
        ("## `limits`", ("limits",)),
        ("## `rooms[]`", ("rooms", "*")),
        ("### `match` and `bypass`", ("rooms", "*", "bypass", "*")),
        ("### `refresh`", ("rooms", "*", "refresh")),
        ("### `cookie`", ("rooms", "*", "cookie")),
        ("### `cors`", ("rooms", "*", "cors")),
        ("### `events`", ("rooms", "*", "events", "*")),
    ],
)
def test_the_document_lists_every_key(heading, place):
    """docs/CONFIG.md has a row for each key of the model and no other, with the default that the model has."""
    shape, documented = config.SHAPES[place], rows(heading)
    assert set(documented) == set(shape.model_fields)
    for name, default in documented.items():
        if name != "limits":
            assert (yaml.safe_load(default) if default else None) == written_default(shape, name), name


def test_the_document_lists_what_is_not_built():
    """docs/CONFIG.md names each key that is refused, with the value that is let through."""
    documented = rows("## Not built yet")
    expected = {}
    for place, nothing in config.NOT_BUILT.items():
        expected[".".join(place).replace(".*", "[]")] = nothing
    assert set(documented) == set(expected)
    for key, written in documented.items():
        assert yaml.safe_load(written) == expected[key]


def test_the_file_holds_every_setting_at_its_default():
    """config/waitroom.yaml has every key at the model's default, explains each, and loads to the defaults."""
    path = ROOT / "config/waitroom.yaml"
    written = yaml.safe_load(path.read_text())
    for shape, values in ((FileShape, written), (LimitsShape, written["limits"])):
        assert set(values) == set(shape.model_fields)
        for name, value in values.items():
            if name != "limits":
                assert value == written_default(shape, name), name
    for line in path.read_text().splitlines():
        if re.match(r" *[a-z_]+: \S", line) and line != "rooms: []":
            assert "  # " in line, f"{line} says nothing about itself"
    assert config.load(path) == defaults(path.parent)


def test_the_room_in_the_file_s_comments_is_the_default(load):
    """The commented room of config/waitroom.yaml has every key of a room, and loads to the model's defaults."""
    text = (ROOT / "config/waitroom.yaml").read_text()
    block = "\n".join(line.removeprefix("# ") for line in text[text.index("# rooms:\n") :].splitlines())
    assert set(yaml.safe_load(block)["rooms"][0]) == set(RoomShape.model_fields)
    assert load(block).rooms == load(ROOM).rooms


def test_the_example_is_without_mistakes_and_warnings():
    """config/examples/launch.yaml can be used as it stands, and check has nothing to say about it."""
    loaded = config.load(ROOT / "config/examples/launch.yaml")
    assert [room.name for room in loaded.rooms] == ["launch"]
    assert config.warnings(loaded) == []


def test_every_key_has_a_description_in_the_schema():
    """The schema describes every key, or the shape it refers to, and allows no other, so that an editor can help."""
    described = config.schema()
    shapes = [described, *described["$defs"].values()]
    assert len(shapes) == len(set(config.SHAPES.values()))
    for shape in shapes:
        assert shape["additionalProperties"] is False
        assert shape["description"]
        assert all(key.get("description") or "$ref" in key for key in shape["properties"].values())


# --- where the files stand ------------------------------------------------------------------------------------------


def test_resources_are_found_in_the_wheel_and_beside_the_package(tmp_path, monkeypatch):
    """The wheel's copy goes before a folder of the same name beside the package; none at all says so."""
    assert (resources.find("config") / "waitroom.yaml").is_file()
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "waitroom")
    with pytest.raises(StartError, match="config is missing"):
        resources.find("config")
    (tmp_path / "config").mkdir()
    assert resources.find("config") == tmp_path / "config"
    (tmp_path / "waitroom/_data/config").mkdir(parents=True)
    assert resources.find("config") == tmp_path / "waitroom/_data/config"
