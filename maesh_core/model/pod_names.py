"""The section `pods` of the configuration: the names of pods, by address.

The section is in the document that proxies pull, only if a plugin of the controller asks for it. Proxies use it to name
clients in what they write about traffic, and never to decide about traffic. Values only.
"""

import re

PODS = "pods"
"""The name of the section."""
ADDRESSES = "addresses"
POD_NOUNS = (ADDRESSES,)

ADDRESSES_LIMIT = 20_000
"""Limit of addresses in the section, about 1 MB. A pod of a cluster with IPv4 and IPv6 has two."""

_match_pod_name = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?").fullmatch


def is_pod_name(text: str) -> bool:
    """Whether a text can name a pod: its namespace is a DNS label, and its name a DNS subdomain (RFC 1123)."""
    return _match_pod_name(text) is not None
