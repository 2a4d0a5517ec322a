"""Which origin a host belongs to: names before wildcards, long wildcards before short ones, and some to nobody."""

from __future__ import annotations

import pytest

from waitroom.core.sites import Sites
from waitroom.model import Address, Site

FRONT, NAME, WIDE, DEEP, REST = (Address(host, 80) for host in ("front", "name", "wide", "deep", "rest"))
SITES = (
    Site(("shop.example", "a.b.shop.example", "[::1]"), NAME),
    Site(("*.shop.example",), WIDE),
    Site(("*.b.shop.example",), DEEP),
)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("shop.example", NAME),
        ("a.b.shop.example", NAME),
        ("[::1]", NAME),
        ("a.shop.example", WIDE),
        ("b.shop.example", WIDE),
        ("x.y.shop.example", WIDE),
        ("c.b.shop.example", DEEP),
        ("d.c.b.shop.example", DEEP),
        ("xshop.example", None),
        ("example", None),
        ("shop.example.evil.example", None),
        ("*.shop.example", WIDE),
        ("", None),
    ],
)
def test_a_host_picks_its_site(host, origin):
    """A name goes before a wildcard, the longer wildcard before the shorter; a wildcard is not for the name itself."""
    assert Sites(SITES, FRONT).origin(host) == origin
    assert Sites(SITES[::-1], FRONT).origin(host) == origin, "the order of the sites changes nothing"


def test_whatever_is_left_can_be_given_to_a_site():
    """``*`` takes the hosts that nobody else names, and no other."""
    sites = Sites((Site(("*", "other.example"), REST), *SITES), FRONT)
    assert sites.origin("nobody.example") == REST
    assert sites.origin("other.example") == REST
    assert sites.origin("a.shop.example") == WIDE
    assert sites.origin("shop.example") == NAME


def test_a_wildcard_may_be_all_there_is():
    """Sites without a single name are found as well."""
    assert Sites(SITES[1:2], FRONT).origin("a.shop.example") == WIDE
    assert Sites((Site(("shop.example",), NAME),), FRONT).origin("a.shop.example") is None


def test_without_sites_every_host_is_the_one_origin_s():
    """Who has one shop names no hosts, and every host is served."""
    assert Sites((), FRONT).origin("anything.example") == FRONT
    assert Sites((), FRONT).origin("") == FRONT
