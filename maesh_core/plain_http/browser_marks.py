"""Recognizes requests of browsers by their header fields.

A web site can make a browser send requests to any address, so ports without authentication treat browsers with care.
Proxies, probes and commands are no browsers. Takes the fields of a request, with names in lower case.
"""

from collections.abc import Sequence

BROWSER_FIELDS = frozenset({b"accept-language", b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode"})
"""Commands send none of these. Browsers send at least one with nearly every request (fetch.spec.whatwg.org section 4.6
adds Accept-Language); at an address without TLS, they leave out the fields that begin with Sec-Fetch."""

_AGENT = b"mozilla/"
"""The User-Agent of every browser begins with this; a page cannot change it for a request to another site."""
_DOCUMENT = b"text/html"
"""The Accept of a navigation, also in a frame."""


def is_from_browser(fields: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a browser may have sent a request."""
    return any(
        name in BROWSER_FIELDS
        or (name == b"user-agent" and value.strip().lower().startswith(_AGENT))
        or (name == b"accept" and _DOCUMENT in value.lower())
        for name, value in fields
    )
