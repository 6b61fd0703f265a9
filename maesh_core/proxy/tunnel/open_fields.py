"""The header lists that open a stream and answer it (RFC 9113 section 8.5): Delivery and Refusal as fields, and back.

Pure. A list that is not valid is a stream error; unknown fields are ignored.
"""

import socket
from typing import Final

from maesh_core.plugin_system.transports import Delivery, Refusal
from maesh_core.proxy.http.http2.errors import StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import PROTOCOL_ERROR

OPENED: Final[Fields] = ((b":status", b"200"),)
"""The answer once the server has accepted the connection."""
REASON_LIMIT: Final = 200
"""Characters of a refusal's reason that are sent."""
PROTOCOLS: Final = frozenset({b"http", b"tcp"})

_METHOD: Final = b":method"
_AUTHORITY: Final = b":authority"
_STATUS: Final = b":status"
_SERVICE: Final = b"maesh-service"
_CLIENT: Final = b"maesh-client"
_PROTOCOL: Final = b"maesh-protocol"
_REASON: Final = b"maesh-reason"
_OPEN_FIELDS: Final = frozenset({_METHOD, _AUTHORITY, _SERVICE, _CLIENT, _PROTOCOL})


def render_open(delivery: Delivery) -> Fields:
    """Render the header list that opens a stream. Raises ValueError if a text has characters beyond ASCII."""
    address = f"[{delivery.address}]" if ":" in delivery.address else delivery.address
    fields = [
        (_METHOD, b"CONNECT"),
        (_AUTHORITY, f"{address}:{delivery.port}".encode("ascii")),
        (_SERVICE, delivery.service.encode("ascii")),
        (_PROTOCOL, delivery.protocol.encode("ascii")),
    ]
    if delivery.client:
        fields.append((_CLIENT, delivery.client.encode("ascii")))
    return tuple(fields)


def parse_open(fields: Fields) -> Delivery:
    """Parse the header list that opens a stream. Raises StreamError."""
    values: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _OPEN_FIELDS:
            if name in values:
                raise _invalid("a field is repeated")
            values[name] = value
        elif name.startswith(b":"):
            raise _invalid("a pseudo-header field that CONNECT does not have")
    if values.get(_METHOD) != b"CONNECT":
        raise _invalid("the method is not CONNECT")
    protocol = values.get(_PROTOCOL, b"")
    if protocol not in PROTOCOLS:
        raise _invalid("an unknown protocol")
    address, port = _parse_authority(values.get(_AUTHORITY, b""))
    client = _read_text(values.get(_CLIENT, b""))
    if client and not _is_address(client):
        raise _invalid("the client is not an address")
    service = _read_text(values.get(_SERVICE, b""))
    return Delivery(address=address, port=port, service=service, client=client, protocol=protocol.decode("ascii"))


def render_refusal(refusal: Refusal) -> Fields:
    """Render the answer that refuses a stream."""
    reason = "".join(each if each.isprintable() else " " for each in refusal.reason[:REASON_LIMIT])
    return ((_STATUS, b"%d" % refusal.status), (_REASON, reason.encode("ascii", "replace")))


def parse_answer(fields: Fields) -> Refusal | None:
    """Parse the answer to an open: None if it was opened. Raises StreamError."""
    status, reason = b"", b""
    for name, value in fields:
        if name == _STATUS:
            status = value
        elif name == _REASON:
            reason = value
    if len(status) != 3 or not status.isdigit():
        raise _invalid("an answer without a status")
    if status == b"200":
        return None
    return Refusal(status=int(status), reason=_read_text(reason[:REASON_LIMIT]))


def _parse_authority(authority: bytes) -> tuple[str, int]:
    text = _read_text(authority)
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_valid = ":" in host
    else:
        is_valid = ":" not in host
    if not (is_valid and _is_address(host) and 0 < len(port) <= 5 and port.isdigit() and 0 < int(port) < 65536):
        raise _invalid("the authority is not an address and a port")
    return host, int(port)


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        return False
    return True


def _read_text(value: bytes) -> str:
    """Decode printable ASCII. Raises StreamError for anything else."""
    text = value.decode("latin-1")
    if not text.isascii() or not (text.isprintable() or not text):
        raise _invalid("a value is not printable ASCII")
    return text


def _invalid(text: str) -> StreamError:
    return StreamError(PROTOCOL_ERROR, text)
