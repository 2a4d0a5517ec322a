"""Tickets and passes: what is signed is read back, and nothing else is believed."""

from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous.signer import HMACAlgorithm, Signer

from waitroom.core.tokens import TOKEN_BYTES_MAX, Keyring, key_id
from waitroom.errors import InvalidToken
from waitroom.model import Pass, Ticket

KEY, OTHER = "k" * 32, "o" * 32
TICKET = Ticket("launch", 1, 1234, "0123456789abcdef", 1_700_000_000_000)
PASS = Pass("launch", 1, 1234, "0123456789abcdef", 1_700_000_000_000, 1_700_000_060_000)
BASE64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@pytest.fixture
def keyring():
    """One key."""
    return Keyring([KEY])


def reason(keyring, text):
    """Return why ``text`` is no token."""
    with pytest.raises(InvalidToken) as caught:
        keyring.read(text)
    return caught.value.reason


def signed(kind, *fields, key=KEY):
    """Return a token with a good signature over whatever ``fields`` say."""
    return Keyring([key])._sign(kind, *fields)


@given(
    number=st.integers(0, 2**53 - 1),
    generation=st.integers(0, 2**31),
    visitor=st.text("0123456789abcdef", min_size=16, max_size=32),
    at_ms=st.integers(0, 2**50),
    stood_ms=st.integers(0, 2**50),
)
def test_what_was_signed_is_what_is_read(number, generation, visitor, at_ms, stood_ms):
    """A ticket and a pass of any number, as far as the longest series goes, come back as they were."""
    keyring = Keyring([KEY])
    ticket = Ticket("a-room-name-of-forty-characters-in-length", generation, number, visitor, at_ms)
    entry_pass = Pass(ticket.room, generation, number, visitor, at_ms, at_ms + 1, stood_ms)
    assert keyring.read(keyring.sign_ticket(ticket)) == ticket
    assert keyring.read(keyring.sign_pass(entry_pass)) == entry_pass
    assert len(keyring.sign_pass(entry_pass)) < TOKEN_BYTES_MAX


def test_a_signature_is_the_one_that_itsdangerous_makes(keyring):
    """Whatever makes it quick, it is HMAC with SHA-256 as everybody knows it, by a key derived for the kind."""
    for text, kind in ((keyring.sign_ticket(TICKET), "t"), (keyring.sign_pass(PASS), "p")):
        signer = Signer(KEY, salt=f"waitroom.{kind}.1", key_derivation="hmac", digest_method=hashlib.sha256)
        assert signer.unsign(text).decode() == text.rpartition(".")[0]
        assert signer.sign(text.rpartition(".")[0]).decode() == text


def test_the_kind_is_part_of_what_is_signed(keyring):
    """A ticket whose first letter is made that of a pass, fields added or not, opens nothing."""
    ticket = keyring.sign_ticket(TICKET)
    stated, signature = ticket.rsplit(".", 1)
    assert reason(keyring, "p" + ticket[1:]) == "malformed"
    assert reason(keyring, f"p{stated[1:]}.1700000060000.0.{signature}") == "forged"
    assert reason(keyring, "t" + keyring.sign_pass(PASS)[1:]) == "malformed"


def test_each_kind_is_signed_with_a_key_of_its_own(keyring):
    """Even the same stated text signs differently as a ticket and as a pass."""
    of_ticket, of_pass = (keyring._signers[kind, key_id(KEY)].get_signature("x") for kind in "tp")
    assert of_ticket != of_pass


@pytest.mark.parametrize("position", range(8))
def test_no_field_can_be_altered(keyring, position):
    """Another character in any field of a ticket makes it no token."""
    fields = keyring.sign_ticket(TICKET).split(".")
    last = fields[position][-1]
    fields[position] = fields[position][:-1] + ("1" if last != "1" else "2")
    assert reason(keyring, ".".join(fields)) in {"forged", "unknown-kind", "unknown-key", "malformed"}


@given(cut=st.integers(0, 200))
def test_no_part_of_a_token_is_a_token(cut):
    """However much of its end or its beginning is missing, what is left is refused."""
    keyring = Keyring([KEY])
    text = keyring.sign_pass(PASS)
    cut = 1 + cut % (len(text) - 1)
    reason(keyring, text[:-cut])
    reason(keyring, text[cut:])


def test_digits_cannot_move_between_fields(keyring):
    """Generation 1 and number 1234 are not generation 11 and number 234, nor can the delimiter wander."""
    text = keyring.sign_ticket(TICKET)
    assert reason(keyring, text.replace(".1.1234.", ".11.234.")) == "forged"
    assert reason(keyring, text.replace(".1.1234.", ".11.23.4.")) == "malformed"
    assert reason(keyring, text.replace("launch.1.", "launch1..")) == "forged"


def test_a_signature_has_one_spelling(keyring):
    """Base64 spells one signature in four ways; only the way it was written is taken."""
    text = keyring.sign_ticket(TICKET)
    ours = BASE64.index(text[-1])
    spellings = [text[:-1] + BASE64[ours & ~3 | spare] for spare in range(4)]
    taken = [spelling for spelling in spellings if spelling == text or not reason(keyring, spelling)]
    assert taken == [text]
    assert reason(keyring, text + "=") == "forged"


@pytest.mark.parametrize(
    "field",
    ["01", "+1", "-1", " 1", "1_0", "1e3", "\u0661", "", "1" * 17],
    ids=["zero", "plus", "minus", "space", "underscore", "exponent", "arabic", "empty", "long"],
)
def test_a_number_has_one_spelling(keyring, field):
    """Whatever Python would also read as a number is refused, though its signature were good."""
    assert reason(keyring, signed("t", "launch", 1, field, TICKET.visitor, 0)) in {"malformed", "forged"}


def test_a_visitor_is_hexadecimal(keyring):
    """A well signed token whose visitor is no id of ours is refused: it goes into a header and into logs."""
    assert reason(keyring, signed("t", "launch", 1, 1, "<script>alert(1)", 0)) == "malformed"


def test_what_is_too_long_is_not_looked_at(keyring):
    """Longer text than any token of ours is refused before anything is computed from it."""
    assert reason(keyring, "t." + "x" * TOKEN_BYTES_MAX) == "oversized"
    assert reason(keyring, "t." + "x" * (TOKEN_BYTES_MAX - 2)) == "malformed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "unknown-kind"),
        (".", "unknown-kind"),
        ("x.1.2", "unknown-kind"),
        ("t", "unknown-kind"),
        ("t.1", "malformed"),
        ("t" + "." * 8, "malformed"),
        ("t.1" + "." * 7, "unknown-key"),
    ],
)
def test_other_text_is_refused_with_a_word(keyring, text, expected):
    """What is no token is refused with one word that says why, and never with another exception."""
    assert reason(keyring, text) == expected


@given(text=st.text())
def test_any_text_is_judged(text):
    """Any text at all, surrogates and all, is refused and raises nothing else."""
    reason(Keyring([KEY]), text)


def test_text_beyond_ascii_is_refused(keyring):
    """Letters beyond ASCII, in what is stated or in the signature, are refused without a comparison."""
    stated, signature = keyring.sign_ticket(TICKET).rsplit(".", 1)
    assert reason(keyring, f"{stated}.{signature[:-1]}é") == "forged"
    assert reason(keyring, stated.replace("launch", "läunch") + "." + signature) == "forged"


def test_another_version_is_refused(keyring):
    """A token of a format that this build does not know is not guessed at."""
    assert reason(keyring, keyring.sign_ticket(TICKET).replace("t.1.", "t.2.", 1)) == "malformed"


def test_a_rotated_key_still_verifies_and_a_retired_one_does_not():
    """Tokens of the key before stay good while it is kept; those of a key that is gone are told from forgeries."""
    old = Keyring([KEY]).sign_ticket(TICKET)
    rotated = Keyring([KEY, OTHER])
    assert rotated.read(old) == TICKET
    assert key_id(OTHER) in rotated.sign_ticket(TICKET)
    assert reason(Keyring([OTHER]), old) == "unknown-key"
    assert reason(Keyring([OTHER]), old.replace(key_id(KEY), key_id(OTHER))) == "forged"


def test_a_key_id_tells_keys_apart_and_nothing_about_them():
    """Two keys have two ids, of eight letters, that are not part of the key."""
    assert key_id(KEY) != key_id(OTHER)
    assert len(key_id(KEY)) == 8
    assert key_id("0123456789abcdef" * 4) not in "0123456789abcdef" * 8


def test_a_keyring_is_never_empty():
    """Without a key nothing could be signed; that is found out at once."""
    with pytest.raises(ValueError, match="at least one key"):
        Keyring([])


def test_it_is_known_whether_the_newest_key_signed():
    """What an older key signed is good, and is to be signed anew before that key goes."""
    old, both = Keyring(["o" * 32]), Keyring(["o" * 32, "n" * 32])
    ticket = Ticket("launch", 1, 7, "a" * 16, 0)
    assert not both.is_newest(old.sign_ticket(ticket))
    assert both.is_newest(both.sign_ticket(ticket))


@given(
    number=st.integers(0, 2**53),
    at_ms=st.integers(0, 10**15),
    visitor=st.binary(min_size=8, max_size=8).map(bytes.hex),
)
def test_every_token_is_one_that_itsdangerous_signs(number, at_ms, visitor):
    """The bytes are those of its ``Signer`` with HMAC and SHA-256, by whichever way of ours they were made."""
    keyring = Keyring(["o" * 40, "k" * 40])
    ticket, entry_pass = (
        Ticket("launch", 2, number, visitor, at_ms),
        Pass("launch", 2, number, visitor, at_ms, at_ms, 0),
    )
    texts = [
        keyring.sign_ticket(ticket),
        keyring.sign_pass(entry_pass),
        keyring.sign_place("launch", 2, number, visitor, at_ms),
    ]
    assert texts[0] == texts[2]
    for text in texts:
        theirs = Signer(
            "k" * 40, f"waitroom.{text[0]}.1", sep=".", key_derivation="hmac", digest_method=hashlib.sha256,
            algorithm=HMACAlgorithm(hashlib.sha256),
        )  # fmt: skip
        stated, _, _ = text.rpartition(".")
        assert theirs.sign(stated).decode() == text
