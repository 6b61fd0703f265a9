"""The bearer token with which a client of the controller's API identifies itself (RFC 6750).

Takes the file of the token; returns the token. A token is never sent in clear to another machine. Raises ValueError
with a text that names the file.
"""

import ipaddress

LINE_LIMIT_CHARACTERS = 8192


def read_token(path: str) -> str:
    """Read the token in a file: the last word of its first line, which may begin with a name. Raises ValueError."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            words = file.readline(LINE_LIMIT_CHARACTERS).split()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if not words or not (words[-1].isascii() and words[-1].isprintable()):
        raise ValueError(f"{path} has no token in its first line")
    return words[-1]


def is_private(scheme: str, host: str) -> bool:
    """Whether a token can be sent to an endpoint: over TLS, or within this machine."""
    if scheme == "https":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
