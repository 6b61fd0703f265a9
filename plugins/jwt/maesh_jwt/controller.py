"""The controller's half: checks the names of claims in annotations. It needs no keys."""

import re
from collections.abc import Sequence
from typing import Final

from maesh_core.plugin import PolicyChecker, SourceKind, hookimpl
from maesh_jwt import JwtSettings

_match_claim: Final = re.compile(r"[A-Za-z0-9_:/.#-]{1,256}").fullmatch
"""Names of claims are words or URLs, in which a comma would end the source."""


class ClaimKind:
    """The kind of sources `claim:NAME`."""

    name: str = "claim"

    def find_argument_problem(self, argument: str) -> str | None:
        """Explain why a text is not the name of a claim; None if it is one."""
        return None if _match_claim(argument) else "the name of a claim consists of letters, digits and _ : / . # -"


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_policy_checkers(self) -> Sequence[PolicyChecker]:
        """Return what `maesh check` reports about claims."""
        from maesh_jwt.policy import ClaimPolicyChecker  # only for this command

        return [ClaimPolicyChecker(self._settings)]

    @hookimpl
    def maesh_source_kinds(self) -> Sequence[SourceKind]:
        """Return the only kind of this plugin."""
        return [ClaimKind()]
