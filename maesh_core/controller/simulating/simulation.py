"""Runs the cases of a scenario against a state of the mesh, and compares results with expectations.

Takes a state and a scenario; returns results. Adds pods to the state for accounts that have none. Does no I/O.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from maesh_core.controller.comparing.asking import list_shares
from maesh_core.controller.explaining.explanation import ExplainedRequest, Explainer, Explanation
from maesh_core.controller.mesh_states.clients import STRANGER, list_named_accounts
from maesh_core.controller.mesh_states.state import MeshState
from maesh_core.controller.simulating.results import CaseResult, Found, ScenarioResult
from maesh_core.controller.simulating.scenarios import (
    DEFAULT_TOLERANCE,
    Case,
    Expectation,
    Scenario,
    SimulatedClient,
    parse_share,
)
from maesh_core.errors import ConfigurationError
from maesh_core.model.keys import ObjectKey

_NAME = re.compile(r"(?<![\w.@/-])([a-z0-9](?:[\w.-]*\w)?)([/@])([a-z0-9](?:[\w.-]*\w)?)(?![\w@/-])")
"""An object in a text, as `namespace/name` or `name@namespace`."""


class Simulation:
    """One state that scenarios are run against."""

    def __init__(self, state: MeshState) -> None:
        self._state = state
        self._explainers: dict[ObjectKey, Explainer] = {}

    def __repr__(self) -> str:
        return f"<Simulation of {self._state!r}>"

    def run(self, scenario: Scenario) -> ScenarioResult:
        """Run all cases of a file."""
        self.add_clients(case.client for case in scenario.cases)
        return ScenarioResult(
            path=scenario.path,
            cases=tuple(self.run_case(case) for case in scenario.cases),
            problems=dict(self._state.problems),
        )

    def add_clients(self, clients: Iterable[SimulatedClient]) -> None:
        """Make sure that each account has a pod, also the ones that rules name."""
        accounts = {client.account for client in clients if client.account is not None}
        before = self._state.topology
        self._state.add_clients(accounts | list_named_accounts(before))
        if self._state.topology is not before:
            self._explainers.clear()

    def run_case(self, case: Case) -> CaseResult:
        """Run one case."""
        found = self._ask(case)
        namespace = case.service.namespace
        return CaseResult(
            name=case.name,
            place=case.place,
            client=str(case.client),
            service="/".join(case.service),
            method=case.method,
            path=case.path,
            headers=case.headers,
            found=found,
            failures=tuple(_list_failures(case.expected, found, namespace)),
        )

    def explain(self, case: Case) -> Explanation:
        """Explain the request of a case. Raises ConfigurationError for an unknown service, port or pod."""
        explainer = self._explainers.get(case.service)
        if explainer is None:
            explainer = self._explainers[case.service] = self._state.build_explainer(case.service)
        request = ExplainedRequest(
            client=self._name_client(case.client),
            service="/".join(case.service),
            port=case.port,
            method=case.method,
            path=case.path,
            headers=case.headers,
        )
        return explainer.explain(request)

    def _ask(self, case: Case) -> Found:
        try:
            found = self.explain(case)
        except ConfigurationError as error:
            return Found(outcome="absent", by=(str(error),), steps=(str(error),))
        return Found(
            outcome=found.outcome,
            status=found.status,
            goes_to=list_shares(found) if found.outcome in ("allowed", "unserved") else {},
            by=found.decided_by,
            limits=found.limits,
            undecided=found.undecided,
            would_deny=found.would_deny,
            steps=found.steps,
        )

    def _name_client(self, client: SimulatedClient) -> str:
        if client.account is not None:
            return self._state.name_client(client.account)
        return client.pod or client.address or STRANGER


def _list_failures(expected: Expectation, found: Found, namespace: str) -> Iterator[str]:
    if expected.verdict is not None and expected.verdict != found.outcome:
        yield f"expected: {expected.verdict}, found: {_describe_outcome(found)}"
    if expected.status is not None and expected.status != found.status:
        yield f"expected: status {expected.status}, found: status {found.status}"
    if expected.would_deny is not None and expected.would_deny != bool(found.would_deny):
        wanted = "would be denied" if expected.would_deny else "would not be denied"
        shown = "; ".join(found.would_deny) or "it would not"
        yield f"expected: {wanted} if access control were enforced, found: {shown}"
    for text in (expected.by,) if isinstance(expected.by, str) else expected.by:
        if not any(mentions(line, text) for line in found.by):
            yield f"expected: by {text}, found: by {'; '.join(found.by) or 'nothing that is named'}"
    yield from _list_share_failures(expected, found, namespace)
    yield from _list_limit_failures(expected, found)


def _describe_outcome(found: Found) -> str:
    status = f" with status {found.status}" if found.outcome != "allowed" and found.status else ""
    reason = f" ({'; '.join(found.by)})" if found.by else ""
    return f"{found.outcome}{status}{reason}"


def _list_share_failures(expected: Expectation, found: Found, namespace: str) -> Iterator[str]:
    wanted = expected.goes_to
    if not wanted:
        return
    if isinstance(wanted, Mapping):
        shares = {name: parse_share(value) for name, value in wanted.items()}
    else:
        shares = dict.fromkeys((wanted,) if isinstance(wanted, str) else wanted)
    tolerance = parse_share(expected.tolerance)
    limit = (DEFAULT_TOLERANCE if tolerance is None else tolerance) + 1e-9
    left = dict(found.goes_to)
    for name, share in shares.items():
        matching = [key for key in left if _is_service(key, name, namespace)]
        actual = sum(left.pop(key) for key in matching)
        if not matching and (share is None or share > limit):
            yield f"expected: goes to {name}, found: {_describe_shares(found)}"
        elif share is not None and abs(actual - share) > limit:
            yield f"expected: {_show_share(share)} to {name}, found: {_show_share(actual)}"
    others = {key: share for key, share in left.items() if share > limit}
    if others:
        text = ", ".join(f"{_show_share(share)} to {key}" for key, share in others.items())
        yield f"expected: no other service, found: {text}"


def _is_service(key: str, name: str, namespace: str) -> bool:
    """Whether a destination, `namespace/name:port`, is the one that is written with or without namespace and port."""
    service, _, port = key.rpartition(":")
    written, colon, wanted_port = name.partition(":")
    written = written if "/" in written else f"{namespace}/{written}"
    return written == service and (not colon or wanted_port == port)


def _describe_shares(found: Found) -> str:
    return ", ".join(f"{_show_share(share)} to {key}" for key, share in found.goes_to.items()) or found.outcome


def _show_share(share: float) -> str:
    return f"{share:.2%}".replace(".00%", "%")


def _list_limit_failures(expected: Expectation, found: Found) -> Iterator[str]:
    if expected.limits is None:
        return
    shown = "; ".join(found.limits) or "none"
    if not expected.limits and found.limits:
        yield f"expected: no limits, found: {shown}"
    for text in expected.limits:
        if not any(_contains(line, text) for line in found.limits):
            yield f"expected: limit {text}, found: {shown}"


def mentions(line: str, text: str) -> bool:
    """Whether a line mentions an object, in either notation or without its namespace, or another text."""
    if _NAME.search(text) is not None:
        return _contains(_NAME.sub(_swap, line), _NAME.sub(_swap, text))
    return _contains(line, text) or _contains(_NAME.sub(_shorten, line), text)


def _swap(match: re.Match[str]) -> str:
    return f"{match[3]}/{match[1]}" if match[2] == "@" else f"{match[1]}/{match[3]}"


def _shorten(match: re.Match[str]) -> str:
    return match[1] if match[2] == "@" else match[3]


def _contains(line: str, text: str) -> bool:
    """Whether a line contains a text as whole words: `limit 10` is not in `limit 100`."""
    return re.search(rf"(?<![\w./@-]){re.escape(text)}(?![\w/@-]|\.\w)", line) is not None
