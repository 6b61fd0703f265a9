"""The names to resolve, what each resolved to last, and when it is looked up again.

Takes names, results of lookups and times in seconds; returns names that are due, and the table for the workers. No I/O
and no clock. An answer is used for its TTL, within limits. If a lookup fails, the last addresses of the family are kept
for `stale_s` after that, and the lookup is repeated after a growing pause. A negative answer removes the addresses.
"""

import random
from collections.abc import Callable, Collection, Iterator
from ipaddress import ip_address
from itertools import islice

from maesh_egress.lookup import MISSING, NO_ADDRESS, Answer, Failure, Lookup, NameAddresses

NAMES_LIMIT = 2000
"""Limit of names that one proxy resolves; with the default `longest-ttl`, each is looked up at least every hour."""
LONGEST_NEGATIVE_S = 60.0
"""A negative answer is used for at most this long: a name that was just created must not stay unknown for hours. If the
name has addresses of the other family, the usual limits apply."""
PUBLISHED_LIMIT = 32
"""Limit of published addresses of one family of a name. Workers use as many of a name (`ADDRESS_LIMIT` in the core)."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses between lookups that fail."""
TOO_MANY = f"is not resolved: there are more than {NAMES_LIMIT} names"
_ADDRESSES_SHOWN = 3
_DOUBLINGS = 5


class Times:
    """The limits of how long answers are used, and of pauses between lookups."""

    __slots__ = ("chance", "longest_s", "shortest_s", "stale_s")

    def __init__(
        self, *, shortest_s: float, longest_s: float, stale_s: float, chance: Callable[[], float] = random.random
    ) -> None:
        self.chance = chance
        self.shortest_s, self.longest_s, self.stale_s = shortest_s, longest_s, stale_s

    def find_lifetime(self, answer: Answer, *, is_known: bool = False) -> float:
        """Find how long an answer is used; `is_known` means that the name has addresses of some family."""
        longest_s = self.longest_s if answer.addresses or is_known else min(self.longest_s, LONGEST_NEGATIVE_S)
        return max(self.shortest_s, min(answer.ttl_s, longest_s))

    def find_pause(self, failures: int) -> float:
        """Find the pause after a failure; it doubles with each, and is random so that proxies do not ask together."""
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures, _DOUBLINGS)) * (0.5 + self.chance() / 2)


class _Family:
    """The last answer of one family, which has expired at `expires_at`."""

    __slots__ = ("answer", "expires_at")

    def __init__(self, answer: Answer, expires_at: float) -> None:
        self.answer, self.expires_at = answer, expires_at


class NameState:
    """The last answers for one name, and when its next lookup is due."""

    __slots__ = ("due_at", "failure", "failures", "families", "is_asked", "resolved")

    def __init__(self, now: float) -> None:
        self.due_at = now
        self.families: dict[str, _Family] = {}
        self.failure = ""
        self.is_asked = False
        self.resolved: NameAddresses | None = None
        """The result to publish to the workers; None before the first lookup has ended."""
        self.failures = 0

    def __repr__(self) -> str:
        """Show what it resolved to."""
        return f"<NameState {[family.answer for family in self.families.values()]} {self.failure}>"

    def store(self, lookup: Lookup, now: float, times: Times) -> None:
        """Store the result of a lookup, and choose when the next one is due."""
        is_known = any(isinstance(result, Answer) and result.addresses for result in lookup.values())
        failures = [result.reason for result in lookup.values() if isinstance(result, Failure)]
        lifetimes = []
        for family, result in lookup.items():
            if isinstance(result, Answer):
                lifetimes.append(times.find_lifetime(result, is_known=is_known))
                self.families[family] = _Family(result, now + lifetimes[-1])
        too_old = [family for family, each in self.families.items() if now >= each.expires_at + times.stale_s]
        for family in too_old:
            del self.families[family]
        self.is_asked = False
        self.failure = failures[0] if failures else ""
        if failures:
            self.due_at = now + times.find_pause(self.failures)
            self.failures += 1
        else:
            self.failures = 0
            self.due_at = now + min(lifetimes, default=times.shortest_s)

    def is_stale(self, now: float) -> bool:
        """Whether it has addresses whose TTL has passed."""
        return any(family.answer.addresses and now >= family.expires_at for family in self.families.values())

    def list_addresses(self) -> tuple[str, ...]:
        """List the addresses of all families."""
        return tuple(address for each in self.families.values() for address in each.answer.addresses)

    def explain_absence(self) -> str:
        """Explain why there is no address, to follow the name."""
        if self.failure:
            return f"cannot be resolved: DNS {self.failure}"
        problems = {family.answer.problem for family in self.families.values()}
        return MISSING if MISSING in problems else NO_ADDRESS


class NameTable:
    """All names. `is_usable` decides which addresses are used, and `has_route` whether there is a way to one."""

    __slots__ = ("_has_route", "_is_usable", "_refused", "_states", "_times")

    def __init__(
        self, times: Times, *, is_usable: Callable[[str], bool], has_route: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._times = times
        self._is_usable = is_usable
        self._has_route = has_route
        self._states: dict[str, NameState] = {}
        self._refused: dict[str, str] = {}

    def __repr__(self) -> str:
        """Show the number of names."""
        return f"<NameTable {len(self._states)} names, {len(self._refused)} refused>"

    def set_names(self, names: Collection[str], now: float, *, refused: Collection[str] = (), reason: str = "") -> None:
        """Resolve these names and no others; those that are `refused` are shown with the reason."""
        accepted = sorted(set(names).difference(refused))
        self._states = {name: self._states.get(name) or NameState(now) for name in accepted[:NAMES_LIMIT]}
        self._refused = {**dict.fromkeys(sorted(refused), reason), **dict.fromkeys(accepted[NAMES_LIMIT:], TOO_MANY)}

    def take_due(self, now: float) -> list[str]:
        """Return the names whose lookup is due; each is then not due until its result is stored."""
        due = [name for name, state in self._states.items() if not state.is_asked and state.due_at <= now]
        for name in due:
            self._states[name].is_asked = True
        return due

    def find_next_due(self) -> float | None:
        """Return when the next lookup is due; None if none is."""
        return min((state.due_at for state in self._states.values() if not state.is_asked), default=None)

    def store(self, name: str, lookup: Lookup, now: float) -> None:
        """Store the result of a lookup, unless the name is no longer configured."""
        state = self._states.get(name)
        if state is not None:
            state.store(lookup, now, self._times)
            state.resolved = self._resolve(state)

    def forget_lookups(self) -> None:
        """Forget the lookups under way, because the task that began them has ended."""
        for state in self._states.values():
            state.is_asked = False

    @property
    def is_complete(self) -> bool:
        """Whether every name was looked up."""
        return all(state.resolved is not None for state in self._states.values())

    def count_stale(self, now: float) -> int:
        """Count the names whose addresses are used although their TTL has passed."""
        return sum(state.is_stale(now) for state in self._states.values())

    @property
    def size(self) -> int:
        """The number of names that are resolved."""
        return len(self._states)

    def render(self) -> dict[str, NameAddresses]:
        """Return what each name resolves to; one that was not looked up yet is left out."""
        tried = {name: state.resolved for name, state in self._states.items() if state.resolved is not None}
        return {**tried, **{name: NameAddresses(problem=reason) for name, reason in self._refused.items()}}

    def list_problems(self) -> Iterator[tuple[str, str]]:
        """List the names without an address, with the reasons."""
        return ((name, each.problem) for name, each in sorted(self.render().items()) if each.problem)

    def _resolve(self, state: NameState) -> NameAddresses:
        found = state.list_addresses()
        usable = [
            address
            for family in state.families.values()
            for address in islice(filter(self._is_usable, family.answer.addresses), PUBLISHED_LIMIT)
        ]
        if usable:
            routed = [address for address in usable if self._has_route(address)]
            return NameAddresses(tuple(sorted(routed or usable, key=_sort)))
        if found:
            shown = ", ".join(found[:_ADDRESSES_SHOWN]) + (", ..." if len(found) > _ADDRESSES_SHOWN else "")
            return NameAddresses(problem=f"resolves to {shown}, which the setting egress.networks does not allow")
        return NameAddresses(problem=state.explain_absence())


def _sort(address: str) -> tuple[int, int]:
    parsed = ip_address(address)
    return parsed.version, int(parsed)
