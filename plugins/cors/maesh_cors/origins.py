"""Origins of pages: which ones a policy allows.

An origin is a scheme, a host and a port (RFC 6454). The default port of a scheme counts as written. A `*` stands for a
whole host, or for one or more labels at its left. Both processes use this module: the controller refuses origins that a
proxy could not compare.
"""

import re
from collections.abc import Iterable
from typing import Final

ANY: Final = "*"
_PORTS: Final = {"http": "80", "https": "443"}
_parse_allowed: Final = re.compile(
    r"(https?)://(\*|(?:\*\.)?(?:[a-z0-9-]+\.)*[a-z0-9-]+)(?::([0-9]{1,5}))?", re.IGNORECASE
).fullmatch
"""Matches what the Gateway API allows as an origin, except `*`."""
_parse_origin: Final = re.compile(
    rb"(https?)://([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.IGNORECASE
).fullmatch


def is_origin(text: str) -> bool:
    """Return whether a text is an origin that a policy can allow; `*` is not one of them."""
    parsed = _parse_allowed(text)
    return parsed is not None and (parsed[3] is None or 1 <= int(parsed[3]) <= 65535)


class AllowedOrigins:
    """The origins of a policy."""

    def __init__(self, origins: Iterable[str]) -> None:
        texts = tuple(origins)
        self.allows_any = ANY in texts
        self._exact: set[tuple[str, str, str]] = set()
        self._any_host: set[tuple[str, str]] = set()
        self._below: list[tuple[str, str, str]] = []
        for text in texts:
            parsed = _parse_allowed(text)
            if parsed is not None:
                self._add(parsed[1].lower(), parsed[2].lower(), parsed[3])

    def __repr__(self) -> str:
        return f"<AllowedOrigins {'*' if self.allows_any else self._exact} {self._any_host} {self._below}>"

    def _add(self, scheme: str, host: str, written_port: str | None) -> None:
        port = _find_port(scheme, written_port)
        if host == ANY:
            self._any_host.add((scheme, port))
        elif host.startswith("*."):
            self._below.append((scheme, host[1:], port))
        else:
            self._exact.add((scheme, host, port))

    def allows(self, origin: bytes) -> bool:
        """Return whether pages of an origin, as the field Origin has it, are allowed."""
        if self.allows_any:
            return True
        parsed = _parse_origin(origin)
        if parsed is None:  # such as `null`
            return False
        scheme, host = parsed[1].decode().lower(), parsed[2].decode().lower()
        port = _find_port(scheme, None if parsed[3] is None else parsed[3].decode())
        if (scheme, host, port) in self._exact or (scheme, port) in self._any_host:
            return True
        return any(
            scheme == each_scheme and port == each_port and host.endswith(suffix)
            for each_scheme, suffix, each_port in self._below
        )


def _find_port(scheme: str, written: str | None) -> str:
    return _PORTS[scheme] if written is None else written.lstrip("0")
