"""TLS toward the origin: what is asked of it, and in plain words what is wrong when it does not come about.

An origin is always verified, by its authority and by its name; there is no way to leave that out. What the settings say
of it (``OriginTls``) is what differs.
"""

from __future__ import annotations

import ssl

from waitroom.model import OriginTls


def context(known_by: OriginTls | None) -> ssl.SSLContext:
    """Return what verifies an origin: by its own authorities, or by those that the system trusts."""
    made = ssl.create_default_context(cadata=(known_by or OriginTls()).ca_pem)
    made.minimum_version = ssl.TLSVersion.TLSv1_2  # whatever the system's configuration thinks
    made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # an intermediate, or the very certificate, suffices
    made.set_alpn_protocols(["http/1.1"])
    return made


_CERTIFICATE = {
    2: "nobody whom we trust vouches for its certificate; name who signed it in `origin_tls.ca_file`",
    9: "its certificate is not valid yet, or the clock here is wrong",
    10: "its certificate has expired, or the one of who signed it",
    23: "its certificate has been revoked",
    26: "its certificate is not one for servers",
    62: "its certificate is not valid for {name}; write a name that it has in `origin_tls.server_name`",
    66: "the key of its certificate is too weak",
    67: "the key of who signed its certificate is too weak",
    68: "the signature of its certificate is too weak",
}
_CERTIFICATE |= dict.fromkeys((18, 19, 20, 21), _CERTIFICATE[2]) | {64: _CERTIFICATE[62]}
"""By what OpenSSL calls ``X509_V_ERR_*`` (x509_vfy.h)."""

_NO_TLS = "it does not speak TLS on this port; write http:// if that is meant, or the port of its https"
_TOO_OLD = "it speaks no version of TLS that is safe, 1.2 or later"
_NO_COMMON = "it takes none of the ciphers that are safe, or wants a certificate of us, and we show none"
_HANDSHAKE = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "TLSV1_ALERT_PROTOCOL_VERSION": _TOO_OLD,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _NO_COMMON,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": _NO_COMMON,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate of us, and we show none",
    "TLSV1_UNRECOGNIZED_NAME": "it serves no {name}; write a name that it serves in `origin_tls.server_name`",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "it does not speak HTTP/1.1",
}
"""By what OpenSSL calls its reasons; those with ALERT are the origin's own words."""


def is_about(error: Exception) -> bool:
    """Tell whether connecting to an https origin failed in its TLS; whoever ends the connection then does it there."""
    return isinstance(error, ssl.SSLError | ConnectionResetError | ConnectionAbortedError)


def words(error: Exception, name: str) -> str:
    """Return what is wrong with an origin that should prove to be ``name``, for its operator."""
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _CERTIFICATE.get(error.verify_code)
        return known.format(name=name) if known else f"its certificate is refused ({error.verify_message})"
    if isinstance(error, ssl.SSLError) and error.reason:
        known = _HANDSHAKE.get(error.reason)
        return known.format(name=name) if known else f"TLS fails ({error.reason.lower().replace('_', ' ')})"
    return "it ended the connection before TLS was agreed on"
