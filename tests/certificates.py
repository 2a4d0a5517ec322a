"""Certificates for tests, made when they are needed: authorities, servers, and those that nobody should accept.

A certificate is a few nested DER values and one ECDSA signature over them (RFC 5280, FIPS 186-5). Neither the standard
library nor anything that the tests need makes one, so it is written out here; secret it is not, nor fast.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
import tempfile
import time
from dataclasses import dataclass
from ipaddress import ip_address

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
DAY_S = 86_400

ECDSA_SHA256 = "1.2.840.10045.4.3.2"
EC_KEY = "1.2.840.10045.2.1"
P256 = "1.2.840.10045.3.1.7"
COMMON_NAME = "2.5.4.3"
SUBJECT_KEY, KEY_USAGE, SUBJECT_NAMES, CONSTRAINTS, AUTHORITY_KEY = (
    f"2.5.29.{number}" for number in (14, 15, 17, 19, 35)
)


def times(scalar):
    """Return the point of P-256 that is so many times its base point."""
    found, step = None, G
    while scalar:
        if scalar & 1:
            found = step if found is None else plus(found, step)
        step = plus(step, step)
        scalar >>= 1
    return found


def plus(one, other):
    """Return the sum of two points, neither of which is the other's opposite."""
    if one == other:
        slope = (3 * one[0] ** 2 - 3) * pow(2 * one[1], -1, P)
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, P)
    x = (slope**2 - one[0] - other[0]) % P
    return x, (slope * (one[0] - x) - one[1]) % P


def der(tag, *parts):
    """Return one DER value."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(value):
    """Return an INTEGER."""
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def identifier(dotted):
    """Return an OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    content = bytes((40 * first + second,))
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.insert(0, 0x80 | (number & 0x7F))
        content += bytes(groups)
    return der(6, content)


def sequence(*parts):
    """Return a SEQUENCE."""
    return der(0x30, *parts)


def named(name):
    """Return a distinguished name of one common name."""
    return sequence(der(0x31, sequence(identifier(COMMON_NAME), der(12, name.encode()))))


def moment(seconds):
    """Return a time."""
    return der(24, time.strftime("%Y%m%d%H%M%SZ", time.gmtime(seconds)).encode())


def pem(label, content):
    """Return DER as text."""
    text = base64.encodebytes(content).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


@dataclass
class Certificate:
    """A certificate and its key; ``pem`` is the one, ``with_key`` both, as a server wants them."""

    name: str
    pem: str
    secret: int
    key_id: bytes

    @property
    def with_key(self):
        """The certificate and its key."""
        return self.pem + pem("EC PRIVATE KEY", key(self.secret))


def key(secret):
    """Return a private key in the form of RFC 5915."""
    return sequence(integer(1), der(4, secret.to_bytes(32, "big")), der(0xA0, identifier(P256)))


def extension(name, content, *, critical=False):
    """Return one extension."""
    return sequence(identifier(name), der(1, b"\xff") if critical else b"", der(4, content))


def make(name, issuer=None, *, authority=False, begins_s=-DAY_S, ends_s=DAY_S):
    """Return a certificate for ``name``, a host or an address, signed by ``issuer``, or by itself.

    ``begins_s`` and ``ends_s`` are seconds from now.
    """
    secret = secrets.randbelow(N - 1) + 1
    point = b"\x04" + b"".join(part.to_bytes(32, "big") for part in times(secret))
    key_id = hashlib.sha1(point, usedforsecurity=False).digest()
    signer_secret, signer_name, signer_key = (
        (secret, name, key_id) if issuer is None else (issuer.secret, issuer.name, issuer.key_id)
    )
    try:
        subject = der(0x87, ip_address(name).packed)
    except ValueError:
        subject = der(0x82, name.encode())
    extensions = [
        extension(SUBJECT_KEY, der(4, key_id)),
        extension(AUTHORITY_KEY, sequence(der(0x80, signer_key))),
        extension(CONSTRAINTS, sequence(der(1, b"\xff")) if authority else sequence(), critical=True),
        extension(KEY_USAGE, der(3, b"\x02\x04" if authority else b"\x07\x80"), critical=True),
    ]
    if not authority:
        extensions.append(extension(SUBJECT_NAMES, sequence(subject)))
    algorithm = sequence(identifier(ECDSA_SHA256))
    now = time.time()
    stated = sequence(
        der(0xA0, integer(2)),
        integer(secrets.randbits(100)),
        algorithm,
        named(signer_name),
        sequence(moment(now + begins_s), moment(now + ends_s)),
        named(name),
        sequence(sequence(identifier(EC_KEY), identifier(P256)), der(3, b"\x00", point)),
        der(0xA3, sequence(*extensions)),
    )
    signed = sequence(stated, algorithm, der(3, b"\x00", signature(signer_secret, stated)))
    return Certificate(name, pem("CERTIFICATE", signed), secret, key_id)


def signature(secret, content):
    """Return the ECDSA signature of ``content``."""
    digest = int.from_bytes(hashlib.sha256(content).digest(), "big")
    nonce = secrets.randbelow(N - 1) + 1
    r = times(nonce)[0] % N
    return sequence(integer(r), integer(pow(nonce, -1, N) * (digest + r * secret) % N))


def serving(name="shop.internal", issuer=None, **more):
    """Return what a server speaks TLS with that shows a certificate made so."""
    return showing(make(name, issuer, **more))


def showing(certificate):
    """Return what a server speaks TLS with that shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(certificate.with_key)
        file.flush()
        context.load_cert_chain(file.name)
    return context
