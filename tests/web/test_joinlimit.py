"""How many places one address may take: a minute's worth at once, then evenly, and nobody pays for another."""

from __future__ import annotations

import pytest

from waitroom.web import joinlimit
from waitroom.web.joinlimit import JoinLimit


def limit(per_minute=3, *, spare_private=False):
    """Return a limit."""
    return JoinLimit(per_minute, spare_private=spare_private)


def test_a_minutes_worth_at_once_then_evenly():
    """Three of three go through, the fourth is told when; asking before that changes nothing."""
    joins = limit()
    assert [joins.wait_s("192.0.2.1", 0) for _ in range(4)] == [0, 0, 0, 20]
    assert joins.wait_s("192.0.2.1", 5) == 15
    assert joins.wait_s("192.0.2.1", 20) == 0
    assert joins.wait_s("192.0.2.1", 20) == 20


def test_a_long_rest_saves_up_no_more_than_a_minute():
    """After an hour an address may take a minute's worth, and not sixty."""
    joins = limit()
    joins.wait_s("192.0.2.1", 0)
    assert [joins.wait_s("192.0.2.1", 3600) for _ in range(4)] == [0, 0, 0, 20]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("2002:c000:201:1::1", "2002:c000:201:2::1", True),
        ("2002:c000:201::1", "2002:c000:202::1", False),
        ("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2", False),
        ("64:ff9b::192.0.2.1", "192.0.2.1", True),
        ("64:ff9b:1::1", "64:ff9b:1::2", True),
        ("unknown", "other", False),
    ],
)
def test_who_is_one_client(one, other, same):
    """Each IPv4 address is one client, and so is each /64, since whoever has one address of it has them all."""
    joins = limit(1)
    assert joins.wait_s(one, 0) == 0
    assert (joins.wait_s(other, 0) > 0) == same


def test_where_everybody_comes_from_one_private_address_nobody_is_limited():
    """A proxy that is not trusted hides all its visitors behind itself; one that is trusted does not."""
    for client in ("127.0.0.1", "10.0.0.1", "100.64.0.7", "::1", "fd00::1"):
        spared, limited = limit(1, spare_private=True), limit(1)
        assert [spared.wait_s(client, 0) for _ in range(5)] == [0] * 5
        assert [limited.wait_s(client, 0) > 0 for _ in range(2)] == [False, True]
    assert [limit(1, spare_private=True).wait_s("192.0.3.1", 0)] == [0]


def test_none_limits_nobody():
    """Without a limit nothing is remembered either."""
    joins = limit(None)
    assert [joins.wait_s("192.0.2.1", 0) for _ in range(100)] == [0] * 100
    assert not joins._buckets


def test_addresses_are_bounded_and_the_one_unheard_for_longest_goes(monkeypatch):
    """A flood of addresses has an end in memory, and does not free the one that keeps asking."""
    monkeypatch.setattr(joinlimit, "CLIENTS_MAX", 10)
    joins = limit(1)
    joins.wait_s("192.0.2.1", 0)
    for number in range(50):
        joins.wait_s(f"198.51.100.{number}", 0)
        assert joins.wait_s("192.0.2.1", 0) > 0
    assert len(joins._buckets) == 10
