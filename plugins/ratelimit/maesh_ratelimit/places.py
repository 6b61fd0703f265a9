"""The places of buckets that one limit remembers. Not compiled, because compiled objects have no weak references."""


class Places:
    """`found` has the place and the key of each client's bucket, and `looks` the values at a place when it refused."""

    __slots__ = ("__weakref__", "found", "looks")

    def __init__(self) -> None:
        self.found: dict[str | bytes, tuple[int, int]] = {}
        self.looks: dict[int, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Places of {len(self.found)} clients>"

    def forget(self) -> None:
        """Forget the places of the clients' buckets; they are searched again."""
        self.found.clear()
        self.looks.clear()
