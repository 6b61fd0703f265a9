"""What one limit remembers of its clients' buckets. It stays interpreted: compiled objects have no weak references."""


class Places:
    """`found` has the place and the key of each client's bucket, `looks` what was seen at a place when it refused."""

    __slots__ = ("__weakref__", "found", "looks")

    def __init__(self) -> None:
        self.found: dict[str | bytes, tuple[int, int]] = {}
        self.looks: dict[int, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Places of {len(self.found)} clients>"

    def forget(self) -> None:
        """Forget where clients' buckets are; they are found again."""
        self.found.clear()
        self.looks.clear()
