"""The names of pods in the section `pods` of the configuration: what a name can be, and how many there are at most."""

import re

ADDRESSES_LIMIT = 20_000
"""Limit of addresses in the section, about 1 MB. A pod of a cluster with IPv4 and IPv6 has two."""

_match_pod_name = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?").fullmatch


def is_pod_name(text: str) -> bool:
    """Whether a text can name a pod: its namespace is a DNS label, and its name a DNS subdomain (RFC 1123)."""
    return _match_pod_name(text) is not None
