"""Explains the result of one request: the splits on its way, the servers with weights, or why it is refused.

Takes the documents that a controller serves (topology and configuration), a pod lookup, and the question; returns an
explanation, for a person or as JSON. Uses the same rules as a proxy: for branches here, and for access through the
plugin that owns a middleware. Does no I/O.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import msgspec

from maesh_core.controller.explaining.client import (
    Client,
    Pods,
    TopologyPods,
    find_client,
    find_client_namespace,
    is_plain_name,
    parse_plain_name,
    parse_service_name,
)
from maesh_core.controller.explaining.destinations import (
    Destination,
    describe_part_filters,
    list_destinations,
    list_rule_destinations,
)
from maesh_core.controller.explaining.limits import describe_middlewares
from maesh_core.controller.explaining.objects import ObjectRemarks, collect_remarks
from maesh_core.controller.explaining.passage import Passage, Question, QuestionHeaders, explain_passage
from maesh_core.controller.explaining.rules import (
    ChosenRule,
    choose_rule,
    choose_service,
    is_rule_service,
    name_stream_rule,
)
from maesh_core.controller.explaining.service_ports import (
    find_port,
    find_scheme_source,
    find_service_key,
    find_traffic_type,
    fits,
)
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import HttpBranch, HttpRouter, Section, chooses_by_rules
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.matching import compile_matches, has_paths, is_ambiguous
from maesh_core.model.messages import Update
from maesh_core.model.schemes import TLS


class ExplainedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The question: can `client`, a pod or an address, send this request to `service`.

    Pods and services are written as `name.namespace`, `namespace/name` or `name@namespace`, and a service may also be
    one of its cluster addresses or those of its shadow service, or a name alone, which means one of the client's
    namespace. `port` is a number, one with a protocol such as `53/udp`, or a name.
    """

    client: str
    service: str
    port: int | str | None = None
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


Outcome = Literal["allowed", "denied", "answered", "closed", "unserved"]
"""A server gets the request; access control denies it; a middleware answers it; no rule or router serves it, or an
error closes it; no server is ready, or the backend of a rule cannot be used."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer: `status` is 200 if a server gets the request, else that of the mesh's answer (0: closed or dropped).

    `undecided` are middlewares that do not explain themselves: one of them may refuse an admitted request. `objects`
    are the examined objects with errors or notices; `problems` is what the controller could not read. `decided_by` are
    the steps that decide, without those that do not apply. `limits` describes the middlewares of the request, `KIND:
    LINE`, whether they let it pass or not. `would_deny` has the reasons for which access control would deny it without
    audit mode.
    """

    client: str
    service: str
    port: int
    traffic_type: str
    is_admitted: bool
    status: int
    steps: tuple[str, ...]
    destinations: tuple[Destination, ...] = ()
    undecided: tuple[str, ...] = ()
    objects: tuple[ObjectRemarks, ...] = ()
    problems: Mapping[str, str] = {}
    outcome: Outcome = "allowed"
    decided_by: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    would_deny: tuple[str, ...] = ()


class _Place(NamedTuple):
    """The destination of a request: a port of a service, and the section that has its router."""

    service: Mapping[str, Any]
    key: str
    section: Section


class _Outcome(NamedTuple):
    """The outcome: `steps` on the way, and `reasons` for it; `decided` are those steps that decide."""

    kind: Outcome
    status: int
    steps: Sequence[str]
    reasons: Sequence[str] = ()
    destinations: Sequence[Destination] = ()
    undecided: Sequence[str] = ()
    decided: Sequence[str] = ()
    limits: Sequence[str] = ()
    would_deny: Sequence[str] = ()


class Explainer:
    """Answers questions about one state of a mesh.

    `middleware_builders` are keyed by kind. `pods` finds pods; without it, those of the topology are known. `objects`
    and `problems` are the controller's reports about objects, and what it could not read. `services` are the names of
    all services, for hints; without it, those of the topology are known.
    """

    def __init__(
        self,
        topology: Mapping[str, Any],
        update: Update,
        middleware_builders: Mapping[str, Any],
        *,
        pods: Pods | None = None,
        objects: Iterable[Mapping[str, Any]] = (),
        problems: Mapping[str, str] | None = None,
        services: Iterable[ObjectKey] | None = None,
    ) -> None:
        self._topology, self._update, self._middleware_builders = topology, update, middleware_builders
        self._pods = pods or TopologyPods(topology)
        self._objects, self._problems = tuple(objects), problems or {}
        self._services = services

    def explain(self, request: ExplainedRequest) -> Explanation:
        """Explain a request; raises ConfigurationError for an unknown service, port or pod."""
        client = find_client(request.client, self._pods)
        lines: list[str] = [*client.lines]
        if is_plain_name(request.service):
            key, line = parse_plain_name(request.service, client)
            lines.append(line)
        else:
            key = find_service_key(request.service, self._topology["services"])
        service = self._topology["services"].get(str(key))
        if service is None:
            hint = self._hint(key) or self._name_problem()
            raise ConfigurationError(f"the mesh knows no service {key.name} in namespace {key.namespace}{hint}")
        document = find_port(service, request.port)
        port = int(document["port"])
        kind = str(find_traffic_type(service, document))
        section = self._update.sections.get(kind) if fits(service, document) else None
        service = {**service, "trafficType": kind}
        place = _Place(service, build_port_key(key, port), section or Section())
        outcomes = [self._follow(request, client, address, place) for address in client.addresses or ("",)]
        first = outcomes[0]
        steps = [*lines, f"service {key.namespace}/{key.name}, port {port}, traffic type {kind}"]
        steps += [*first.steps, *first.reasons]
        for address, other in zip(client.addresses[1:], outcomes[1:], strict=True):
            if other.status != first.status:
                steps += [f"from its address {address}: {text}" for text in other.reasons or ("it is let in",)]
        named = [pod for found in client.holders.values() for pod in found] + ([client.pod] if client.pod else [])
        pods = {ObjectKey(pod.namespace, pod.name) for pod in named}
        return Explanation(
            client=request.client,
            service=f"{key.namespace}/{key.name}",
            port=port,
            traffic_type=kind,
            is_admitted=first.status == 200,
            status=first.status,
            steps=tuple(steps),
            destinations=tuple(first.destinations),
            undecided=tuple(first.undecided),
            objects=collect_remarks(self._topology, self._objects, service=key, pods=sorted(pods)),
            problems=self._problems,
            outcome=first.kind,
            decided_by=(*first.decided, *first.reasons),
            limits=tuple(first.limits),
            would_deny=tuple(first.would_deny),
        )

    def _name_problem(self) -> str:
        """Describe the first thing that could not be read, because it may contain the service."""
        if not self._problems:
            return ""
        origin, text = min(self._problems.items())
        more = f" (and {len(self._problems) - 1} more)" if len(self._problems) > 1 else ""
        return f"; what could not be read may have it: {origin}: {text}{more}"

    def _hint(self, key: ObjectKey) -> str:
        """Suggest a service: one of this name in another namespace, or one with a similar name."""
        if self._services is not None:
            known = {(each.name, each.namespace) for each in self._services}
        else:
            known = {(each["name"], each["namespace"]) for each in self._topology["services"].values()}
        named = sorted(f"{name}.{namespace}" for name, namespace in known if name == key.name)
        close = get_close_matches(f"{key.name}.{key.namespace}", [".".join(each) for each in sorted(known)], n=1)
        return f"; did you mean {(named or close)[0]}?" if named or close else ""

    def _follow(self, request: ExplainedRequest, client: Client, address: str, place: _Place) -> _Outcome:
        """Follow a request from an address."""
        is_http = place.service["trafficType"] == "http"
        router = place.section.routers.get(place.key)
        if router is None:
            reasons = place.service["errors"] or ["no proxy serves this port"]
            return _Outcome("closed", 404 if is_http else 0, (), [f"closed: {text}" for text in reasons])
        if isinstance(router, HttpRouter) and chooses_by_rules(router):
            return self._follow_rules(router, self._build_question(request, client, address, place), place)
        if router.service is None:
            return _Outcome("closed", router.status, (), [f"closed: {router.reason}"])
        question = self._build_question(request, client, address, place)
        if isinstance(router, HttpRouter) and _has_ambiguous_path(router, question):
            text = "denied: the path is ambiguous, and the service is split by path"
            return _Outcome("denied", 403, (), [text])
        steps: list[str] = []
        destination = self._choose(router, place, question, steps)
        decided = [steps[-1]] if destination != place.key else []
        question = question._replace(destination=destination)
        passage = self._explain_passage(router.middlewares, place, question, steps)
        if not passage.verdict.is_admitted:
            return _refuse(passage, steps, decided, is_http=is_http)
        allowed = passage.verdict.servers
        if is_rule_service(destination, place.key):
            chosen = ChosenRule(destination, router.middlewares)
            found = list_rule_destinations(
                place.section.services, chosen, port_key=place.key, allowed=allowed, is_http=False
            )
            found = [
                msgspec.structs.replace(each, scheme_source=self._find_source(each.service)) if each.scheme else each
                for each in found
            ]
        else:
            found = list_destinations(place.section.services, destination, allowed)
            found = [self._add_scheme(each, place, destination, is_http=is_http) for each in found]
        outcome = _Outcome(
            "allowed",
            200,
            steps,
            destinations=found,
            undecided=passage.undecided,
            decided=[*decided, *passage.reasons],
            would_deny=passage.verdict.would_deny,
            limits=passage.limits,
        )
        if not any(each.servers for each in found):
            return outcome._replace(kind="unserved", status=503 if is_http else 0, reasons=["no server is ready"])
        return outcome

    def _follow_rules(self, router: HttpRouter, question: Question, place: _Place) -> _Outcome:
        """Follow a request to a port with rules."""
        steps: list[str] = []
        namespace = find_client_namespace(question.client_pods)
        chosen = choose_rule(router, _find_document(place), question, namespace=namespace, steps=steps)
        if not chosen.service:
            return _Outcome("denied" if chosen.status == 403 else "closed", chosen.status, steps, [chosen.reason])
        decided = [each for each in steps if "the request matches" in each]
        question = question._replace(destination=chosen.service)
        passage = self._explain_passage(chosen.middlewares, place, question, steps)
        if not passage.verdict.is_admitted:
            return _refuse(passage, steps, decided, is_http=True)
        services = place.section.services
        found = [
            msgspec.structs.replace(each, scheme_source=self._find_source(each.service) if each.servers else "")
            for each in list_rule_destinations(services, chosen, port_key=place.key, allowed=passage.verdict.servers)
        ]
        part_lines = list(describe_part_filters(services, chosen, place.section.middlewares))
        steps += part_lines
        outcome = _Outcome(
            "allowed",
            200,
            steps,
            destinations=found,
            undecided=passage.undecided,
            decided=[*decided, *passage.reasons],
            would_deny=passage.verdict.would_deny,
            limits=[*passage.limits, *self._describe_parts(chosen, place.section)],
        )
        if any(each.servers for each in found):
            return outcome
        largest = max(found, key=lambda each: each.share)
        return outcome._replace(kind="unserved", status=largest.status, reasons=[largest.reason])

    def _describe_parts(self, chosen: ChosenRule, section: Section) -> Iterator[str]:
        """Describe the middlewares that only single backends of a rule have."""
        for part in section.services[chosen.service].parts:
            own = [key for key in part.middlewares if key not in chosen.middlewares]
            name = part.service.rpartition("/backend/")[2]
            for line in describe_middlewares(own, section.middlewares, self._middleware_builders, {}):
                yield f"{line} ({name})"

    def _find_source(self, service_port: str) -> str:
        """Find what selects the scheme of a service's port, `namespace/name:port`."""
        name, _, port = service_port.rpartition(":")
        document = self._topology["services"].get(str(parse_service_name(name)), {})
        return find_scheme_source(document, int(port)) if port.isdecimal() else ""

    def _add_scheme(self, found: Destination, place: _Place, destination: str, *, is_http: bool) -> Destination:
        """Add the scheme of a service's servers, and what selects it. A backend is in the namespace of the service."""
        is_whole = found.service == destination
        service = place.section.services[destination if is_whole else f"{destination}/{found.service}"]
        if not is_http and service.scheme != TLS:
            return found
        key = f"{found.service}@{place.service['namespace']}"
        document = place.service if destination == place.key else self._topology["services"].get(key, {})
        source = find_scheme_source(document, int(place.key.rpartition(":")[2]))
        return msgspec.structs.replace(found, scheme=service.scheme, scheme_source=source)

    def _build_question(self, request: ExplainedRequest, client: Client, address: str, place: _Place) -> Question:
        return Question(
            client_address=address,
            client_account=client.account,
            client_pods=client.holders.get(address, ()),
            destination=place.key,
            traffic_type=str(place.service["trafficType"]),
            is_http=place.service["trafficType"] == "http",
            method=request.method.encode(),
            target=request.path.encode(),
            client_headers=QuestionHeaders(request.headers),
            problems=self._problems,
            topology=self._topology,
        )

    def _explain_passage(self, keys: Sequence[str], place: _Place, question: Question, steps: list[str]) -> Passage:
        return explain_passage(keys, place.section, question, builders=self._middleware_builders, steps=steps)

    def _choose(self, router: Any, place: _Place, question: Question, steps: list[str]) -> str:
        """Choose the branch as a proxy does; a stream's router has one branch or rule for each client."""
        branches: tuple[HttpBranch, ...] = getattr(router, "branches", ())
        if not branches:
            return self._choose_whole(router, place, question, steps)
        for branch in branches:
            name = _name_branch(branch.service, place.key)
            if compile_matches(branch.matches)(question):
                why = "the request matches" if branch.matches else "it applies to all requests"
                steps.append(f"{name}: {why}")
                return str(branch.service)
            steps.append(f"{name}: the request does not match")
        return str(router.service)

    def _choose_whole(self, router: Any, place: _Place, question: Question, steps: list[str]) -> str:
        """Choose the rule or branch that gets all traffic of the client."""
        namespace = find_client_namespace(question.client_pods)
        noun = {"http": "requests", "udp": "sessions"}.get(question.traffic_type, "connections")
        service = choose_service(router, namespace=namespace, steps=steps)
        if service != place.key:
            name = name_stream_rule(_find_document(place), service) or _name_branch(service, place.key)
            whose = f" of clients of namespace {namespace}" if service != router.service else ""
            steps.append(f"{name}: it applies to all {noun}{whose}")
        return service


def _refuse(passage: Passage, steps: Sequence[str], decided: Sequence[str], *, is_http: bool) -> _Outcome:
    """Build the outcome of a request that a middleware does not pass on."""
    verdict = passage.verdict
    if verdict.status:
        reasons = [f"answered: {text}" for text in verdict.reasons]
        return _Outcome("answered", verdict.status, steps, reasons, decided=decided, limits=passage.limits)
    reasons = [f"denied: {text}" for text in verdict.reasons]
    return _Outcome("denied", 403 if is_http else 0, steps, reasons, decided=decided, limits=passage.limits)


def _find_document(place: _Place) -> Mapping[str, Any]:
    """Find the document of the port of a request in the topology."""
    wanted = (int(place.key.rpartition(":")[2]), "UDP" if place.service["trafficType"] == "udp" else "TCP")
    ports = (each for each in place.service["ports"] if (each["port"], each.get("protocol", "TCP")) == wanted)
    return next(ports, {})


def _name_branch(service: str, key: str) -> str:
    """Name a branch of a port for a person: the part of its key after the port, as in `split canary`."""
    return service.removeprefix(f"{key}/").replace("/", " ", 1)


def _has_ambiguous_path(router: HttpRouter, question: Question) -> bool:
    return any(has_paths(branch.matches) for branch in router.branches) and is_ambiguous(question.target)
