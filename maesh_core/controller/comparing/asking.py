"""The questions about one port: its examples and clients, and what both states answer.

Takes two states and the views of a port; explains each example at most once for each client and state. Renders answers
as results of the comparison.
"""

from collections.abc import Sequence
from typing import NamedTuple

from maesh_core.controller.comparing.changes import Example, Result
from maesh_core.controller.comparing.port_views import PortName, PortView, locate_accounts
from maesh_core.controller.comparing.requests import STREAM_EXAMPLES, ExampleRequest, Examples, build_examples
from maesh_core.controller.explaining.destinations import Destination
from maesh_core.controller.explaining.explanation import ExplainedRequest, Explanation
from maesh_core.controller.mesh_states.clients import STRANGER, Account, list_accounts
from maesh_core.controller.mesh_states.state import MeshState
from maesh_core.model.keys import ObjectKey, cut_port_key

ANYBODY = "*"
"""The client of examples for all clients that no rule names."""
ABSENT = "absent"
SHOWN_STEPS = 3
SHOWN_REQUESTS = 5


class ClientGroup(NamedTuple):
    """Clients that the rules of both states treat alike. `account` is the examined one; None: a client without a pod.

    `clients` are as in `changes.AccessChange`.
    """

    account: Account | None
    clients: tuple[str, ...]


Answers = tuple[ExampleRequest, Explanation | None, Explanation | None]
"""An example, and the answers of the old and the new state; None if a state has no such port or client."""

ADMITTED = frozenset({"allowed", "answered", "unserved"})


def is_admitted(found: Explanation | None) -> bool:
    """Whether a state lets a request in."""
    return found is not None and found.outcome in ADMITTED


class PortQuestions(NamedTuple):
    """Everything that is asked about one port."""

    old: MeshState
    new: MeshState
    name: PortName
    before: PortView | None
    after: PortView | None
    examples: Examples

    @property
    def is_guarded(self) -> bool:
        """Whether access control decides about the port in one of the states."""
        return any(view.is_guarded for view in (self.before, self.after) if view is not None)

    @property
    def is_stream(self) -> bool:
        """Whether connections or sessions are carried, and not requests."""
        return all(view.traffic_type != "http" for view in (self.before, self.after) if view is not None)

    def list_groups(self) -> list[ClientGroup]:
        """Group the clients: those that no rule names, and each set of accounts with the same places in rules."""
        views = (self.before, self.after)
        places = [locate_accounts(view.guard_settings) if view is not None else {} for view in views]
        namespaces = {each for view in views if view is not None for each in view.namespaces}
        groups: dict[object, list[str]] = {}
        for account in sorted({*places[0], *places[1], *self._list_inhabitants(namespaces)}):
            namespace = account.partition("/")[0]
            signature = (
                places[0].get(account),
                places[1].get(account),
                namespace if namespace in namespaces else "",
            )
            groups.setdefault(signature, []).append(account)
        found = [ClientGroup(Account(*names[0].split("/", 1)), tuple(names)) for names in groups.values()]
        return [ClientGroup(None, (ANYBODY,)), *found]

    def list_route_groups(self) -> list[ClientGroup]:
        """Group the clients by the routes that apply to them: all, and those of each namespace with own rules."""
        views = (self.before, self.after)
        namespaces = {each for view in views if view is not None for each in view.namespaces}
        found = {account.partition("/")[0]: account for account in self._list_inhabitants(namespaces)}
        groups = [ClientGroup(Account(*account.split("/", 1)), (account,)) for account in found.values()]
        return [ClientGroup(None, (ANYBODY,)), *groups]

    def _list_inhabitants(self, namespaces: set[str]) -> list[str]:
        """List an account of each namespace."""
        if not namespaces:
            return []
        found = {account.namespace: account for account in sorted(list_accounts(self.new.engine), reverse=True)}
        return ["/".join(found[namespace]) for namespace in sorted(namespaces) if namespace in found]

    def explain(self, group: ClientGroup, *, is_open: bool = False) -> list[Answers]:
        """Explain all examples for a group in both states; None if a state has no such port or client."""
        asked = []
        for state, view in ((self.old, self.before), (self.new, self.after)):
            explainer = None if view is None else state.build_explainer(self.name.service, is_open=is_open)
            client = STRANGER if group.account is None else state.name_client(group.account)
            asked.append(
                [
                    None if explainer is None or not client else state.explain(self._build(client, each), explainer)
                    for each in self.examples.requests
                ]
            )
        return list(zip(self.examples.requests, *asked, strict=True))

    def _build(self, client: str, example: ExampleRequest) -> ExplainedRequest:
        return ExplainedRequest(
            client=client,
            service="/".join(self.name.service),
            port=self.name.port,
            method=example.method,
            path=example.path,
            headers=example.headers,
        )

    def show_example(self, client: str, example: ExampleRequest) -> Example:
        """Render an example."""
        found = Example(client=client, service="/".join(self.name.service), port=self.name.port)
        if self.is_stream:
            return found
        return Example(
            client=client,
            service=found.service,
            port=found.port,
            method=example.method,
            path=example.path,
            headers=example.headers,
        )

    def show_requests(self, examples: Sequence[ExampleRequest]) -> tuple[str, ...]:
        """Render further examples, the first ones of many."""
        return () if self.is_stream else tuple(map(str, examples[:SHOWN_REQUESTS]))


def build_questions(
    old: MeshState, new: MeshState, name: PortName, before: PortView | None, after: PortView | None
) -> PortQuestions:
    """Build the questions about a port."""
    views = [view for view in (before, after) if view is not None]
    if all(view.traffic_type != "http" for view in views):
        return PortQuestions(old, new, name, before, after, STREAM_EXAMPLES)
    known = [dict.fromkeys((*view.matches, *view.guard_matches)) for view in views]
    changed = [match for each in known for match in each if any(match not in other for other in known)]
    matches = [match for each in known for match in each]
    return PortQuestions(old, new, name, before, after, build_examples(matches, changed=changed))


def show_result(found: Explanation | None) -> Result:
    """Render what a state does with an example."""
    if found is None:
        return Result(outcome=ABSENT)
    return Result(
        outcome=found.outcome,
        status=0 if found.outcome == "allowed" else found.status,
        goes_to=list_shares(found) if found.outcome == "allowed" else {},
        by=found.decided_by[:SHOWN_STEPS],
        would_deny=found.would_deny[:SHOWN_STEPS],
    )


def list_shares(found: Explanation) -> dict[str, float]:
    """List the services that get a request, as `namespace/name:port`, with their shares."""
    shares: dict[str, float] = {}
    for each in found.destinations:
        name = name_destination(each, found)
        shares[name] = round(shares.get(name, 0.0) + each.share, 4)
    return shares


def name_destination(destination: Destination, found: Explanation) -> str:
    """Name a destination as `namespace/name:port`: splits name a service only."""
    if "/" in destination.service:
        return cut_port_key(destination.service)
    return f"{ObjectKey(*found.service.split('/')).namespace}/{destination.service}:{found.port}"
