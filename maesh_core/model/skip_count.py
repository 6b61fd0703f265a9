"""How many requests pass a middleware by without a call: the part of `Middleware.skips_request` that costs nothing.

A middleware such as tracing draws in advance how many requests it does not need. The proxy counts them down.
"""

from typing import final


@final
class SkipCount:
    """The next `left` requests without a trace context need no middleware; all routes of the middleware share it."""

    __slots__ = ("left",)

    def __init__(self, left: int = 0) -> None:
        self.left = left

    def __repr__(self) -> str:
        return f"<SkipCount {self.left}>"
