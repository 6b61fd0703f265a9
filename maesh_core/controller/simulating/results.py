"""The results of a simulation, as `maesh simulate --json` prints them. Values only."""

from collections.abc import Mapping

import msgspec


class _Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all results."""


class Found(_Value, frozen=True):
    """What happens to a request: `outcome` as in `maesh explain`, or `absent` without such a service, port or client.

    `steps` are those of `maesh explain`, `by` the ones that decide.
    """

    outcome: str
    status: int = 0
    goes_to: Mapping[str, float] = {}
    by: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    would_deny: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


class CaseResult(_Value, frozen=True):
    """One case; it has passed if there are no `failures`, each of which says what was expected and what was found."""

    name: str
    place: int
    client: str
    service: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    found: Found
    failures: tuple[str, ...] = ()


class ScenarioResult(_Value, frozen=True):
    """The cases of one file. `problems` is what could not be read of its manifests, by origin."""

    path: str
    cases: tuple[CaseResult, ...]
    problems: Mapping[str, str] = {}

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        """The cases that have failed."""
        return tuple(case for case in self.cases if case.failures)
