"""Peers with a bypass that speak for others: the operator hears of each once, and of no more than can be kept."""

from __future__ import annotations

import logging
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, cast

from waitroom.web import desk as desks
from waitroom.web.messages import Request

if TYPE_CHECKING:
    import pytest


def asked_by(peer: str) -> Request:
    """Return a request from a peer."""
    return Request(b"GET", b"/event/", "1.1", [], {}, "shop", peer)


def test_each_is_logged_once_and_counted_always(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy that was not listed fills no log; when too many were, the others are only counted."""
    monkeypatch.setattr(desks, "SPEAKERS_MAX", 2)
    desk = cast("Any", desks.Desk.__new__(desks.Desk))
    desk.counts, desk._speakers, desk._trusted = desks.Counter(), set(), (ip_network("10.0.0.0/8"),)
    caplog.set_level(logging.INFO, "waitroom.desk")

    for peer in ("192.0.2.1", "192.0.2.1", "10.0.0.1", "10.0.0.1", "192.0.2.3", "192.0.2.4"):
        desk._note_speaker(asked_by(peer), "launch")

    said = [(record.__dict__["reason"], record.__dict__["client"]) for record in caplog.records]
    assert said == [("unlisted-proxy", "192.0.2.1"), ("unnamed-client", "10.0.0.1")]
    assert desk.counts == {("unlisted-proxy", "launch"): 4, ("unnamed-client", "launch"): 2}
    assert len(desk._speakers) == 2
