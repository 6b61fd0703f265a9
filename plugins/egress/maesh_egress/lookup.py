"""The results of DNS lookups, as values: what one family of addresses of a name resolved to.

An answer may be negative: the name does not exist, or has no address of the family. A failure is no answer at all.
"""

from collections.abc import Mapping
from typing import NamedTuple

from maesh_core.plugin import NameAddresses as NameAddresses

IPV4, IPV6 = "ipv4", "ipv6"
MISSING = "does not exist"
NO_ADDRESS = "has no address"


class Answer(NamedTuple):
    """An answer, which is valid for `ttl_s`. `problem` explains why there are no addresses, to follow the name."""

    addresses: tuple[str, ...]
    ttl_s: float
    problem: str = ""


class Failure(NamedTuple):
    """No answer; `reason` is for a person, to follow `DNS`."""

    reason: str


Lookup = Mapping[str, Answer | Failure]
"""The result for each family that was looked up."""
