"""What was observed: requests, connections and sessions of one client, as the input of suggestions. Values only."""

import msgspec

from maesh_core.plugin import ObjectKey


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Equal requests of the pods of one service account, or its connections or sessions to a service port.

    Everything in it may come from clients or files, so none of it is trusted.
    """

    service: str
    """The key of the called service port: `namespace/name:port`."""
    client: ObjectKey | None
    """The service account; None if the address identified none."""
    traffic_type: str = "http"
    destination: str = ""
    """The key of the branch or rule that routed it; empty: the service itself."""
    is_part: bool = False
    """Whether `destination` may be one of the backends of a branch or rule, as access logs have it."""
    leaves: tuple[str, ...] = ()
    """The services, `name@namespace`, whose pods the client must be allowed to reach; empty: all of the destination."""
    method: str = ""
    path: str = ""
    """The path without the query."""
    is_cut: bool = False
    """Whether `path` is only the beginning of one or more paths."""
    count: int = 1
    first: str = ""
    last: str = ""
    """When it was first and last observed, in RFC 3339."""
    address: str = ""
    """An address of the client, for messages about clients without an account."""
