"""WebSocket frames, followed through any reads: where one ends, what may be put there, and when to give up."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from steps import steps

from waitroom.web.websocket import FRAMES_MAX, GOING_AWAY, Frames, close_frame

MASK = b"\x01\x02\x03\x04"
CLOSE, PING, TEXT = 8, 9, 1


def frame(opcode, payload, *, masked, fin=True):
    """Return one frame as it stands on the wire."""
    size = len(payload)
    head = bytes([0x80 * fin | opcode])
    if size < 126:
        head += bytes([0x80 * masked | size])
    elif size < 1 << 16:
        head += bytes([0x80 * masked | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 * masked | 127]) + size.to_bytes(8, "big")
    if masked:
        head += MASK
        payload = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))
    return head + payload


def read(stream, *, masked):
    """Return the opcodes and payloads of a stream that consists of whole frames only: the plain way, for comparison."""
    found = []
    while stream:
        opcode, size, at = stream[0] & 15, stream[1] & 127, 2
        assert bool(stream[1] & 128) == masked
        if size >= 126:
            extra = 2 if size == 126 else 8
            size, at = int.from_bytes(stream[at : at + extra], "big"), at + extra
        key = stream[at : at + 4] if masked else bytes(4)
        at += 4 * masked
        payload = stream[at : at + size]
        assert len(payload) == size, "half a frame"
        found.append((opcode, bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))))
        stream = stream[at + size :]
    return found


def in_pieces(data, cuts):
    """Return ``data`` cut at the given places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


payloads = st.one_of(
    st.binary(max_size=8), st.sampled_from([b"x" * 125, b"y" * 126, b"z" * 200, b"a" * 65_535, b"b" * 65_536])
)
messages = st.lists(st.tuples(st.sampled_from([0, 1, 2]), payloads), min_size=1, max_size=5)


@given(messages, st.booleans(), st.lists(st.integers(0, 1 << 20), max_size=6), st.integers(0, 6))
@example(sent=[(1, b"a" * 65_536), (2, b"")], masked=True, cuts=[1, 3, 9, 13, 14, 15], part_after=3)
def test_a_goodbye_comes_between_two_frames(sent, masked, cuts, part_after):
    """Whenever it is asked for, and however the reads fell: whole frames, then the goodbye, then nothing."""
    stream = b"".join(frame(opcode, payload, masked=masked) for opcode, payload in sent)
    frames = Frames(masked=masked)
    goodbye = close_frame(GOING_AWAY, MASK if masked else None)
    out = b""
    for index, piece in enumerate(in_pieces(stream, cuts)):
        if index == part_after:
            out += frames.part(goodbye)
        out += frames.take(piece)
    if part_after > len(cuts):
        assert out == stream
        out += frames.part(goodbye)
    *before, last = read(out, masked=masked)
    assert last == (CLOSE, GOING_AWAY.to_bytes(2, "big"))
    assert before == sent[: len(before)]
    assert not frames.lost
    assert frames.take(frame(PING, b"", masked=masked)) == b""


def test_what_passes_is_not_copied():
    """The ordinary way costs no copy: what goes on is the object that came."""
    frames = Frames(masked=True)
    data = frame(TEXT, b"x" * 70_000, masked=True)
    for piece in (data, data[:30_000], data[30_000:], data * 3):
        assert frames.take(piece) is piece


def test_a_half_sent_frame_waits_for_its_other_half():
    """Parting in the middle of a frame says nothing yet; its rest goes on, and the goodbye comes right behind it."""
    frames = Frames(masked=False)
    data = frame(TEXT, b"hello", masked=False)
    for half in (1, 3, 6):
        frames = Frames(masked=False)
        frames.take(data[:half])
        assert frames.part(b"BYE") == b""
        assert frames.take(data[half:] + data) == data[half:] + b"BYE"


def test_who_has_said_goodbye_is_not_spoken_for():
    """After a Close frame of its own a side sends nothing, so neither do we in its name; and it counts as closed."""
    data = frame(CLOSE, b"\x03\xe8", masked=True)
    done = Frames(masked=True)
    done.take(data)
    assert done.closed
    assert done.part(b"BYE") == b""
    half = Frames(masked=True)
    half.take(data[:3])
    assert not half.closed
    assert half.part(b"BYE") == b""
    assert half.take(data[3:]) == data[3:]
    assert half.closed


def test_a_close_frame_in_answer_is_seen_and_not_passed_on():
    """Once parted, nothing goes on, but it is still followed: the answer to our Close frame tells that all is said."""
    frames = Frames(masked=True)
    frames.part(b"BYE")
    answer = frame(TEXT, b"too late", masked=True) + frame(CLOSE, b"\x03\xe9", masked=True)
    assert frames.take(answer[:20]) + frames.take(answer[20:]) == b""
    assert frames.closed


@pytest.mark.parametrize(
    ("masked", "data"),
    [
        (True, frame(TEXT, b"unmasked from a client", masked=False)),
        (False, frame(TEXT, b"masked from an origin", masked=True)),
        (True, frame(3, b"a kind that does not exist", masked=True)),
        (True, frame(0xB, b"another", masked=True)),
        (True, frame(PING, b"long" * 40, masked=True)),
        (True, frame(PING, b"in parts", masked=True, fin=False)),
        (False, b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"),
        (True, b"GET / HTTP/1.1\r\n\r\n"),
        (False, b"early;"),
    ],
)
def test_nonsense_is_passed_on_and_not_followed(masked, data):
    """What is no WebSocket goes through untouched, at once and ever after, in any pieces, and nothing is added."""
    frames = Frames(masked=masked)
    for index in range(len(data)):
        piece = data[index : index + 1]
        assert frames.take(piece) is piece
    assert frames.lost
    assert frames.take(b"anything") == b"anything"


def test_nonsense_while_parting_ends_what_goes_on():
    """A header that turns out to be none cannot be followed by a goodbye: nothing more goes on."""
    frames = Frames(masked=True)
    frames.take(b"\x81")
    assert frames.part(b"BYE") == b""
    assert frames.take(b"\x05hello") == b""
    assert frames.lost


def test_a_flood_of_tiny_frames_is_not_followed():
    """Frames made to keep us busy are given up after a bounded time, and pass on."""
    frames = Frames(masked=False)
    flood = frame(PING, b"", masked=False) * (FRAMES_MAX * 64)
    taken = []
    cost = steps(lambda: taken.extend(frames.take(flood) for _ in range(64)))
    assert all(piece is flood for piece in taken)
    assert frames.lost
    assert cost < 100 * FRAMES_MAX
