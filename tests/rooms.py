"""The room that most tests play in: small caps, short times, everyone through the line. Tests name what differs."""

from __future__ import annotations

from waitroom.model import PathRule, Refresh, Room

BASE = Room(
    name="launch",
    match=(PathRule("/event/"),),
    total_active_users=20,
    new_users_per_minute=6000,
    session_duration_s=60,
    claim_within_s=20,
    always_queue=True,
    refresh=Refresh(near_s=2, far_s=10, farthest_s=300, jitter=0.3),
)


def room(**settings: object) -> Room:
    """Return the room with ``settings`` in place of its own."""
    stated = {name: getattr(BASE, name) for name in Room.__slots__}
    return Room(**(stated | settings))
