"""What would become of one request: which splits it passes, where it ends and with what weights, or what denies it.

Takes the documents that a controller serves (topology and configuration) and the question; gives an explanation, for a
person or as JSON. Judges by the same rules as a proxy does: branches here, and access by what the plugin that owns a
middleware says. Does no I/O.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from maesh_core.errors import ConfigurationError
from maesh_core.interfaces import Verdict
from maesh_core.matching import compile_matches, has_paths, is_ambiguous
from maesh_core.model.configuration import HttpRouter, Section, Service
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.messages import Update


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. `client` is a pod, `namespace/name`, or an address; `service` is `name.namespace`, or as a pod."""

    client: str
    service: str
    port: int | None = None
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A service that may have the request, its share of such requests, and its servers."""

    service: str
    share: float
    servers: tuple[str, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer: `status` is 200 where a server would have it, else what the mesh answers (0: it closes or drops)."""

    client: str
    service: str
    port: int
    traffic_type: str
    is_admitted: bool
    status: int
    steps: tuple[str, ...]
    destinations: tuple[Destination, ...] = ()


class _Headers:
    """Implements `interfaces.ReadableHeaders`."""

    def __init__(self, headers: Sequence[tuple[str, str]]) -> None:
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers]

    def get(self, name: bytes) -> bytes | None:
        return next(iter(self.get_all(name)), None)

    def get_all(self, name: bytes) -> list[bytes]:
        return [value for known, value in self._headers if known == name.lower()]

    def items(self) -> list[tuple[bytes, bytes]]:
        return list(self._headers)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._headers)


class _Question(NamedTuple):
    """Implements `interfaces.Question`."""

    client_address: str
    client_account: str
    destination: str
    is_http: bool
    method: bytes
    target: bytes
    client_headers: _Headers


class Explainer:
    """Answers questions about one state of a mesh. `judges` are middleware builders, by kind."""

    def __init__(self, topology: Mapping[str, Any], update: Update, judges: Mapping[str, Any]) -> None:
        self._topology, self._update, self._judges = topology, update, judges

    def explain(self, asked: Asked) -> Explanation:
        """Explain; raises ConfigurationError for a service or port that there is not."""
        key = parse_name(asked.service)
        service = self._topology["services"].get(str(key))
        if service is None:
            raise ConfigurationError(f"the mesh knows no service {key.name} in namespace {key.namespace}")
        client = self._describe_client(asked.client)
        port = self._find_port(service, asked.port)
        kind = str(service["trafficType"])
        steps = [client.text, f"service {key.namespace}/{key.name}, port {port}, traffic type {kind}"]
        section = self._update.sections.get(kind, Section())
        port_key = build_port_key(key, port)
        router = section.routers.get(port_key)

        def answer(status: int, *more: str, destinations: Sequence[Destination] = ()) -> Explanation:
            return Explanation(
                client=asked.client,
                service=f"{key.namespace}/{key.name}",
                port=port,
                traffic_type=kind,
                is_admitted=status == 200,
                status=status,
                steps=(*steps, *more),
                destinations=tuple(destinations),
            )

        if router is None:
            reasons = service["errors"] or ["no proxy carries this port"]
            return answer(404 if kind == "http" else 0, *(f"closed: {text}" for text in reasons))
        if router.service is None:
            return answer(router.status, f"closed: {router.reason}")
        question = self._build_question(asked, client, router)
        if isinstance(router, HttpRouter) and _is_blurred(router, question):
            return answer(403, "the path could be taken for another, and the service is split by path")
        destination = self._choose(router, port_key, question, steps)
        question = question._replace(destination=destination)
        verdict = self._ask_judges(router, section, question, steps)
        if not verdict.is_admitted:
            return answer(403 if kind == "http" else 0, *(f"denied: {text}" for text in verdict.reasons))
        found = list_destinations(section.services, destination, verdict.servers)
        if not any(each.servers for each in found):
            return answer(503 if kind == "http" else 0, "no server is ready", destinations=found)
        return answer(200, destinations=found)

    # --- who and what

    def _describe_client(self, text: str) -> "_Client":
        pods = self._topology["pods"]
        if "/" in text or "@" in text or not any(each in text for each in ".:"):
            key = parse_name(text)
            pod = pods.get(str(key))
            if pod is None:
                return _Client("", "", f"client {text}: no service has this pod and no rule names it")
        else:
            pod = next((pods[name] for name in sorted(pods) if pods[name]["ip"] == text), None)
            if pod is None:
                return _Client(text, "", f"client {text}: the address of no pod that a service has or a rule names")
        account = f"{pod['serviceAccount']}@{pod['namespace']}"
        shown = f"client pod {pod['namespace']}/{pod['name']} at {pod['ip'] or 'no address'}, service account {account}"
        return _Client(pod["ip"], account, shown)

    def _find_port(self, service: Mapping[str, Any], wanted: int | None) -> int:
        ports = [int(port["port"]) for port in service["ports"]]
        if not ports or (wanted is not None and wanted not in ports):
            listed = ", ".join(map(str, ports)) or "none"
            raise ConfigurationError(f"service {service['name']} has no port {wanted or ''}; its ports: {listed}")
        return wanted if wanted is not None else ports[0]

    def _build_question(self, asked: Asked, client: "_Client", router: Any) -> _Question:
        return _Question(
            client.address,
            client.account,
            router.service,
            isinstance(router, HttpRouter),
            asked.method.encode(),
            asked.path.encode(),
            _Headers(asked.headers),
        )

    # --- what becomes of it

    def _choose(self, router: Any, key: str, question: _Question, steps: list[str]) -> str:
        """Choose the branch as a proxy does; a stream's router leads to its branch at once."""
        if router.service != key:
            steps.append(f"{_name_branch(router.service, key)}: it is about all of them")
        for branch in getattr(router, "branches", ()):
            name = _name_branch(branch.service, key)
            if compile_matches(branch.matches)(question):
                why = "the request matches" if branch.matches else "it is about all requests"
                steps.append(f"{name}: {why}")
                return str(branch.service)
            steps.append(f"{name}: the request does not match")
        return str(router.service)

    def _ask_judges(self, router: Any, section: Section, question: _Question, steps: list[str]) -> Verdict:
        servers: tuple[tuple[str, int], ...] | None = None
        for key in router.middlewares:
            middleware = section.middlewares[key]
            explain = getattr(self._judges.get(middleware.kind), "explain", None)
            if explain is None:
                steps.append(f"middleware {middleware.kind}")
                continue
            verdict: Verdict = explain(middleware.settings, question)
            if not verdict.is_admitted:
                return verdict
            steps += [f"{middleware.kind}: {text}" for text in verdict.reasons]
            servers = verdict.servers if verdict.servers is not None else servers
        return Verdict(is_admitted=True, servers=servers)


class _Client(NamedTuple):
    address: str
    account: str
    text: str


def _name_branch(service: str, key: str) -> str:
    """Name a branch of a port for a person: what stands behind the port in its key, as in `split canary`."""
    return service.removeprefix(f"{key}/").replace("/", " ", 1)


def _is_blurred(router: HttpRouter, question: _Question) -> bool:
    return any(has_paths(branch.matches) for branch in router.branches) and is_ambiguous(question.target)


def list_destinations(
    services: Mapping[str, Service], key: str, allowed: Sequence[tuple[str, int]] | None
) -> list[Destination]:
    """List who may have a request, with their shares; `allowed` are the only servers that may, None for all."""
    service = services[key]
    total = sum(part.weight for part in service.parts)
    found = [(part.service, part.weight / total) for part in service.parts] or [(key, 1.0)]
    return [
        Destination(
            service=name.rpartition("/")[2] if service.parts else key,
            share=round(share, 4),
            servers=tuple(
                f"[{each.address}]:{each.port}" if ":" in each.address else f"{each.address}:{each.port}"
                for each in services[name].servers
                if each.weight and (allowed is None or (each.address, each.port) in allowed)
            ),
        )
        for name, share in found
    ]


def parse_name(text: str) -> ObjectKey:
    """Read `namespace/name`, `name@namespace` or `name.namespace`; a lone name is in namespace `default`."""
    if "/" in text:
        namespace, _, name = text.partition("/")
        return ObjectKey(namespace, name)
    name, _, namespace = text.replace("@", ".", 1).partition(".")
    return ObjectKey(namespace.partition(".")[0] or "default", name)


def render_explanation(found: Explanation) -> str:
    """Render an explanation for a person."""
    lines = [*found.steps]
    if found.is_admitted:
        lines.append("it is let in, and goes to")
        lines += [
            f"  {each.service}  {each.share:.2%}  {', '.join(each.servers) or 'no server that is ready'}"
            for each in found.destinations
        ]
    elif found.status:
        lines.append(f"the answer is {found.status}")
    else:
        lines.append("it is dropped" if found.traffic_type == "udp" else "it is closed")
    return "\n".join(lines)
