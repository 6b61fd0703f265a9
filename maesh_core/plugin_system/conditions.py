"""The interface of conditions: what a plugin says about the whole mesh, such as a server that its proxies do not reach.

Values and interfaces only. `controller/api/conditions.py` asks the checkers, and serves their answers.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

# --- conditions ------------------------------------------------------------------------------------------------------


class MeshCondition(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One thing that should hold for the whole mesh. It does if there are no `problems`.

    A problem is one line that makes sense alone. It does not make a mesh unready: operators read it as a warning.
    """

    id: str
    """A stable name of words in lower case with hyphens, such as `limit-stores`."""
    title: str
    """What holds if all is well."""
    hint: str
    """What to do about a problem."""
    problems: Sequence[str] = ()
    found: Sequence[str] = ()
    """Details if all is well."""


class ConditionChecker(Protocol):
    """Finds out whether the conditions of a plugin hold now."""

    async def check_conditions(self) -> Sequence[MeshCondition]:
        """Check in the controller's event loop. If it raises, that is the problem. May ask the proxies."""
