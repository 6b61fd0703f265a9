"""Facts: what a proxy reports of its transport with each pull, such as the end of its certificate.

A fact is a short text with a name, in the query of a pull as `transport.NAME=TEXT`. Names and texts are limited,
because any client can send them. What a fact means is up to the transport.
"""

import re
from collections.abc import Mapping
from typing import Final

FACT_PREFIX: Final = "transport."
FACTS_LIMIT: Final = 8
"""Facts of one proxy; further ones are ignored."""
TEXT_LIMIT: Final = 96
"""Characters of a fact; a serial number has 40."""

_match_name = re.compile(r"[a-z][a-z0-9-]{0,31}").fullmatch


def pick_facts(query: Mapping[str, str]) -> dict[str, str]:
    """Pick the facts of a query, by name; those that are invalid, or too many, are left out."""
    found = {name.removeprefix(FACT_PREFIX): text for name, text in query.items() if name.startswith(FACT_PREFIX)}
    valid = sorted((name, text) for name, text in found.items() if is_fact(name, text))
    return dict(valid[:FACTS_LIMIT])


def is_fact(name: str, text: str) -> bool:
    """Whether a name and a text are valid."""
    is_text = 0 < len(text) <= TEXT_LIMIT and text.isascii() and text.isprintable()
    return is_text and _match_name(name) is not None
