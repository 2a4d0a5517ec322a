"""Places that belong to accounts: who is believed to say whose a request is, and what the line keeps of it."""

from __future__ import annotations

import pytest
from rooms import room

from waitroom.core import lasting, queueing
from waitroom.core.lasting import Kept
from waitroom.core.members import MEMBER_BYTES_MAX, Unknown, read
from waitroom.core.queueing import Heard, JoinRequest, Line
from waitroom.core.tokens import Keyring
from waitroom.model import Priority

NAME = b"x-member-id"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(b"X-Member-Id", b"7")], b"7"),
        ([(b"Host", b"a"), (b"x-member-id", b" a b\t"), (b"X-Other", b"8")], b"a b"),
        ([(b"X-Member-Id", "김".encode())], "김".encode()),
        ([(b"X-Member-Id", b"a" * MEMBER_BYTES_MAX)], b"a" * MEMBER_BYTES_MAX),
        ([], Unknown.MISSING),
        ([(b"X-Member-Id", b"")], Unknown.MISSING),
        ([(b"X-Member-Id", b" \t")], Unknown.MISSING),
        ([(b"X-Member-Id", b"7"), (b"X-Member-Id", b"8")], Unknown.TWICE),
        ([(b"X-Member-Id", b"7"), (b"X-Member-Id", b"7")], Unknown.TWICE),
        ([(b"X-Member-Id", b"7"), (b"X_Member_Id", b"8")], Unknown.TWICE),
        ([(b"X_Member_Id", b"7")], Unknown.TWICE),
        ([(b"X-Member-Id", b"a" * (MEMBER_BYTES_MAX + 1))], Unknown.MALFORMED),
        ([(b"X-Member-Id", b"a\x01b")], Unknown.MALFORMED),
        ([(b"X-Member-Id", b"a\tb")], Unknown.MALFORMED),
    ],
)
def test_an_account_is_what_a_trusted_proxy_says_once(lines, expected):
    """Spelled as configured, on one line; whatever could be the client's own word is nobody's."""
    assert read(lines, NAME, trusted=True) == expected


@pytest.mark.parametrize(("lines", "why"), [([(b"X_member-ID", b"7")], Unknown.UNTRUSTED), ([], Unknown.MISSING)])
def test_nobody_else_is_believed(lines, why):
    """From any other peer the header counts for nothing, whoever wrote it."""
    assert read(lines, NAME, trusted=False) is why


def test_a_pseudonym_is_of_a_room_and_a_key():
    """The same on every worker with the key; nothing in common between rooms, keys and accounts; one for each key."""
    old, new = "k" * 32, "n" * 32
    both = Keyring([old, new]).pseudonyms("launch", b"7")
    assert both == (*Keyring([new]).pseudonyms("launch", b"7"), *Keyring([old]).pseudonyms("launch", b"7"))
    others = {Keyring([old]).pseudonyms(name, member)[0] for name, member in (("launch", b"8"), ("launc", b"h7"))}
    assert len({*both, *others}) == 4
    assert all(len(one) == 2 * 16 for one in both)


# -- the line ----------------------------------------------------------------------------------------------------------


def line(**settings):
    """Return a line, watched as one that is kept."""
    it = Line(room(**settings), 0)
    lasting.watch(it)
    return it


def join(it, *members, now_ms=1_000, key=None, **more):
    """Let an account join."""
    request = JoinRequest(f"{it.issued:016x}", 2.0, key, members=members, **more)
    return it.join([request], now_ms)[0]


def hear(it, *numbers, now_ms=1_000):
    """Let numbers be heard, and be silent for a long time then."""
    it.hear([Heard(number, now_ms + 600_000) for number in numbers], now_ms)


def kept(it):
    """Return the line as a successor has it, from everything that is kept of it."""
    lasting.everything(it)
    found = lasting.changes(it, set())
    chunks = {chunk_id: (1, whole) for chunk_id, whole in found.chunks.items()}
    return lasting.restore(it.configured, Kept(found.header, chunks, (), found.slots, found.repeats))


def test_an_account_has_one_place():
    """Whoever asks again gets the same number and visitor, minutes later too, and everybody else another."""
    it = line()
    first, other = join(it, "a"), join(it, "b")
    hear(it, 1, 2)
    again = join(it, "a", now_ms=500_000, key="of another browser")
    assert (again.number, again.visitor) == (first.number, first.visitor)
    assert (first.number, other.number) == (1, 2)
    assert join(it).number == 3


def test_an_account_that_is_inside_has_one_pass():
    """The pass that it has, with its own beginning and end, and no second slot."""
    it = line(always_queue=False, total_active_users=2)
    first = join(it, "a")
    again = join(it, "a", now_ms=2_000)
    assert first.end_ms
    assert (again.number, again.joined_ms, again.end_ms) == (first.number, first.joined_ms, first.end_ms)
    assert it.inside == 1


def test_an_account_whose_place_is_no_more_gets_another():
    """After it left, or was not heard for as long as a place is kept."""
    it = line(ticket_keep_s=60)
    assert join(it, "a").number == 1
    it.leave(1, 1_000)
    assert join(it, "a").number == 2
    it.sweep(100_000)
    assert join(it, "a", now_ms=200_000).number == 3


def test_a_place_that_was_refused_is_nobodys():
    """A full line keeps nothing of whom it had no place for, and knows whoever has one."""
    it = line(max_waiting=1)
    assert join(it, "a").number == 1
    assert join(it, "b").number == 0
    assert join(it, "a").number == 1
    assert list(it.members) == ["a"]


def test_an_account_is_known_under_every_key():
    """While keys change, workers with the old, with both and with the new all find the same place."""
    it = line()
    assert join(it, "old").number == 1
    assert join(it, "new", "old").number == 1
    assert join(it, "new").number == 1
    assert join(it, "newer", "new").number == join(it, "old").number == 1


def test_accounts_are_forgotten_with_their_places(monkeypatch):
    """A few a sweep, in turn: what is kept of them is bounded by who has a place, and whoever keeps it is told."""
    monkeypatch.setattr(queueing, "MEMBERS_A_SWEEP", 2)
    it = line()
    for member in "abcde":
        join(it, member)
    hear(it, 1, 2, 3, 4, 5)
    for number in (1, 3, 4):
        it.leave(number, 1_000)
    lasting.settled(it)
    for _ in range(3):
        it.sweep(1_000)
    assert list(it.members) == ["b", "e"]
    assert sorted(lasting.changes(it, set()).forgotten) == ["\ra", "\rc", "\rd"]
    it.touched = None
    it.leave(2, 1_000)
    for _ in range(3):
        it.sweep(1_000)
    assert list(it.members) == ["e"]


def test_accounts_outlast_the_process():
    """Whose place is whose is kept, and found again; of a line that nobody keeps nothing is noted for it."""
    it = line()
    join(it, "a", key="k")
    join(it, "b")
    hear(it, 1, 2)
    it = kept(it)
    assert join(it, "b").number == 2
    assert join(it, "c").number == 3
    unwatched = Line(room(), 0)
    join(unwatched, "a")
    assert not unwatched.touched_keys
    assert join(unwatched, "a").number == 1


def test_an_account_keeps_its_place_when_the_order_is_drawn(monkeypatch):
    """Standings are by place, and the number stays the account's."""
    it = line()
    join(it, "a")
    monkeypatch.setattr(it, "_place", lambda number: number + 1)
    it._set(2, queueing.WAITING)
    it._set(1, queueing.GONE)
    assert join(it, "a").number == 1


# -- invites -----------------------------------------------------------------------------------------------------------


def redeem(it, invite, *members, number=0):
    """Let an account use an invite."""
    return join(it, *members, invite=invite, invite_until_ms=600_000, number=number)


def test_an_invite_is_used_with_the_place_that_the_account_has():
    """Whoever joined in one browser and opens the link in another has one place, now in both lines."""
    it = line(priority=Priority(share=0.5))
    mine = join(it, "a")
    joined = redeem(it, "i" * 16, "a")
    assert (joined.number, joined.visitor) == (mine.number, mine.visitor)
    assert redeem(it, "j" * 16, "b").number == 2
    assert join(it, "b").number == 2
    assert redeem(it, "k" * 16, "b", number=1).number == 1


def test_an_invite_of_an_account_that_is_inside_gives_the_pass_that_it_has():
    """And no second slot; a ticket of who is inside gives what it gave before."""
    it = line(priority=Priority(share=0.5), always_queue=False)
    inside = join(it, "a")
    assert redeem(it, "i" * 16, "a") == inside
    assert redeem(it, "i" * 16, "a", number=inside.number).end_ms == 0
    assert it.inside == 1
