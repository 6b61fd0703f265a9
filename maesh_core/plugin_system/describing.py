"""The optional interface of a middleware's builder that describes what the middleware does, and what it limits.

`maesh explain`, `maesh diff` and `maesh simulate` show and compare these lines. Declares, and does nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

# --- middleware ------------------------------------------------------------------------------------------------------


class DescribingBuilder(Protocol):
    """A middleware's builder that describes its settings."""

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Return short lines such as `at most 100 requests per second for each address`; pure.

        `settings` are those it built, as sent. Equal lines mean equal behaviour: mention everything that a user can
        set. A line is compared as text, so it should only change if its meaning changes.
        """
