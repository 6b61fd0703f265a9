"""Finds the route by which an observed request was sent: the key of the branch or rule that access control judged.

Takes a service port and an observation. An access log names the backend that was picked, and not the rule. All rules
that can have picked it are returned, because a log has no headers: usually it is one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from maesh_acl.suggesting.mesh import RouteRule, ServicePort
from maesh_acl.suggesting.observation import Observation
from maesh_acl.suggesting.request_view import RequestView
from maesh_core.plugin import HttpMatch, compile_matches


class RouteFinder:
    """Finds routes, and remembers the compiled matches of rules."""

    def __init__(self) -> None:
        self._predicates: dict[HttpMatch, Callable[[object], bool]] = {}

    def __repr__(self) -> str:
        return f"<RouteFinder {len(self._predicates)} matches>"

    def find(self, port: ServicePort, observation: Observation) -> Sequence[str]:
        """Find the keys of the destinations that an observation was judged by; empty if they no longer exist."""
        named = observation.destination or port.key
        if not observation.is_part:
            return [named] if named in port.destinations else []
        client = observation.client
        rules = port.rules.get(client.namespace if client is not None else "", port.rules.get("", ()))
        found = list(dict.fromkeys(self._find_rules(rules, named, observation)))
        if found:
            return [key for key in found if key in port.destinations]
        if named in port.destinations:
            return [named]
        branch = named.rpartition("/")[0]
        return [branch] if branch in port.destinations else []

    def _find_rules(self, rules: Iterable[RouteRule], part: str, observation: Observation) -> Iterator[str]:
        """Yield the rules with this backend that can have matched a request, up to the first that must have."""
        request = RequestView(observation)
        ordered = sorted(((match, rule) for rule in rules for match in rule.matches), key=lambda each: each[0].place)
        for match, rule in ordered:
            if part not in rule.parts or not self._compile(match)(request):
                continue
            yield rule.key
            if not match.headers and not match.queries:
                return

    def _compile(self, match: HttpMatch) -> Callable[[object], bool]:
        """Compile a match without the conditions that an observation cannot be compared with."""
        found = self._predicates.get(match)
        if found is None:
            known = HttpMatch(**{name: getattr(match, name) for name in _KNOWN})
            found = self._predicates[match] = compile_matches((known,))
        return found


_KNOWN = tuple(name for name in HttpMatch.__struct_fields__ if name not in ("headers", "queries"))
"""The conditions that an observation without headers and query can be compared with."""
