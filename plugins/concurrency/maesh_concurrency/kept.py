"""What outlives a middleware while its requests run. Not compiled, because compiled objects have no weak references."""

from collections.abc import Callable
from typing import Any


class Kept:
    """The counts of one limit. A limit that is built again while requests of it still run continues with them.

    `count` is a ServiceCount or ClientCounts; `read_limit` returns the limit in force.
    """

    __slots__ = ("__weakref__", "count", "read_limit", "service")

    def __init__(self, service: str, count: Any, read_limit: Callable[[], int]) -> None:
        self.service, self.count, self.read_limit = service, count, read_limit

    def __repr__(self) -> str:
        return f"<Kept {self.count!r} of {self.service}, limit {self.read_limit()}>"
