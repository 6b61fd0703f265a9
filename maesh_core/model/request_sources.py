"""Sources of requests: the parts of a request that identify its client, for plugins that limit each client.

Takes texts of annotations; returns checked sources, which proxy/routing/request_sources.py compiles. A source is
`KIND` or `KIND:ARGUMENT`. Several, separated by commas, identify a client by all their values together. Pure.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

ADDRESS, ACCOUNT, HOST, HEADER, PATH = "ip", "account", "host", "header", "path"
CORE_SOURCES: Final = frozenset({ADDRESS, ACCOUNT, HOST, HEADER, PATH})
"""The kinds of the core."""
SHIPPED_KINDS: Final[Mapping[str, str]] = {"claim": "jwt"}
"""The kinds of the project's own plugins, so that messages can name the flag of one that is off."""
SOURCES_LIMIT: Final = 4
"""Limit of the sources that identify one client together."""
TEMPLATE_LIMIT: Final = 512
"""Limit of a path template, in characters."""

_match_header = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}").fullmatch
"""A header's name is a token (RFC 9110 section 5.6.2)."""
_match_name = re.compile(r"\{[A-Za-z_][A-Za-z0-9_-]*\}").fullmatch
_match_segment = re.compile(r"(?:[A-Za-z0-9._~!$&'()+=:@-]|%[0-9A-Fa-f]{2})+").fullmatch
"""A segment of a path (RFC 3986 section 3.3) without `*`, which is a wildcard, and without `,` and `;`."""


class ArgumentChecker(Protocol):
    """A kind of sources of a plugin."""

    def find_argument_problem(self, argument: str) -> str | None:
        """Explain why the argument of a source is invalid, as the end of a sentence; None if it is valid."""


def parse_sources(
    text: str, plugin_kinds: Mapping[str, ArgumentChecker] | None = None, *, accounts_setting: str = ""
) -> tuple[str, ...]:
    """Parse sources separated by commas; raises ValueError with a text that follows the value.

    `plugin_kinds` are the kinds of plugins by name. `accounts_setting` names the setting that a user must enable before
    `account` can be used; it is empty if that is enabled. Kinds and names of headers become lower case.
    """
    found = [_parse_one(part.strip(), plugin_kinds or {}) for part in text.split(",")]
    if len(found) > SOURCES_LIMIT:
        raise ValueError(f"has more than {SOURCES_LIMIT} sources")
    if len(set(found)) < len(found):
        raise ValueError("has a source twice")
    if accounts_setting and ACCOUNT in found:
        raise ValueError(f"needs the accounts of clients: --set {accounts_setting}=true")
    return tuple(found)


def _parse_one(text: str, plugin_kinds: Mapping[str, ArgumentChecker]) -> str:
    kind, colon, argument = text.partition(":")
    if not colon and kind in (ADDRESS, ACCOUNT, HOST):
        return kind
    if kind == HEADER and _match_header(argument):
        return f"{HEADER}:{argument.lower()}"
    if kind == PATH and colon:
        if problem := find_template_problem(argument):
            raise ValueError(f"has an invalid path template: {problem}")
        return text
    if colon and kind in plugin_kinds:
        if problem := plugin_kinds[kind].find_argument_problem(argument):
            raise ValueError(f"has an invalid source: {problem}")
        return text
    if kind in SHIPPED_KINDS and colon:
        raise ValueError(
            f"has a source of plugin {SHIPPED_KINDS[kind]}, which is off; --{SHIPPED_KINDS[kind]} switches it on"
        )
    names = ", ".join(f"{name}:…" for name in sorted(plugin_kinds))
    raise ValueError(f"is not one of ip, account, host, header:NAME, path:TEMPLATE{names and f', {names}'}")


def find_template_problem(template: str) -> str | None:
    """Explain why a text is not a path template; None if it is one.

    A template starts with `/`. Its segments are texts, `{NAME}` for a value that identifies a client, `*` for any
    segment, and at the end `**` for anything, also nothing.
    """
    if len(template) > TEMPLATE_LIMIT:
        return f"it has more than {TEMPLATE_LIMIT} characters"
    if not template.startswith("/"):
        return "it does not start with /"
    segments = template[1:].removesuffix("/").split("/") if template != "/" else []
    for index, segment in enumerate(segments):
        if segment == "**":
            if index < len(segments) - 1:
                return "** is not its last segment"
        elif segment != "*" and not _match_name(segment) and not _match_segment(segment):
            return f"segment {segment!r} is not a text, {{NAME}} or *"
        if segment in (".", ".."):
            return f"segment {segment!r} changes the path"
    return None


def compile_template(template: str) -> Callable[[bytes], bytes | None]:
    """Compile a valid template to a function of a decoded path, which is not ambiguous.

    It returns the values of the names, joined with `/`; None if the path does not match. A final slash, and parameters
    after `;` in a segment, make no difference, because many servers ignore them.
    """
    parts = []
    for segment in template[1:].removesuffix("/").split("/") if template != "/" else ():
        if segment == "**":
            parts.append(rb"(?:/.*)?")
        elif segment == "*":
            parts.append(rb"/[^/]+")
        elif _match_name(segment):
            parts.append(rb"/([^/;]+)(?:;[^/]*)?")
        else:
            parts.append(b"/" + re.escape(unquote_to_bytes(segment)) + rb"(?:;[^/]*)?")
    search = re.compile(b"".join(parts) + b"/?", re.DOTALL).fullmatch

    def find(path: bytes) -> bytes | None:
        match = search(path)
        return None if match is None else b"/".join(match.groups())

    return find


def describe_sources(sources: tuple[str, ...]) -> str:
    """Describe what identifies a client, to follow `for each`."""
    texts = {ADDRESS: "address", ACCOUNT: "service account", HOST: "host"}
    words = []
    for source in sources:
        kind, _, argument = source.partition(":")
        if kind == HEADER:
            words.append(f"value of header {argument}")
        elif kind == PATH and "{" in argument:
            words.append(f"value in the path {argument}")
        elif kind == PATH:
            words.append(f"request path {argument}")
        else:
            words.append(texts.get(kind, f"{kind} {argument}"))
    return " and ".join(words)
