"""The files of `maesh simulate`: requests, and what is expected to happen to them.

Takes the text of a YAML file; returns its scenario, whose requests are expanded to single cases. Raises ManifestError,
which names the place. docs/policy-tests.md describes the format.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from maesh_core.controller.discovery.documents.yaml_documents import YamlBody, parse_yaml_documents
from maesh_core.controller.explaining.client import parse_service_name
from maesh_core.controller.explaining.query import check_request, parse_port
from maesh_core.controller.mesh_states.clients import Account
from maesh_core.errors import ConfigurationError, ManifestError
from maesh_core.model.addresses import parse_address
from maesh_core.model.keys import ObjectKey

CASES_LIMIT = 20_000
"""Limit of the cases of one file."""
ANYBODY = "*"
"""A client that no rule names."""
DEFAULT_TOLERANCE = 0.001

ExpectedOutcome = Literal["allowed", "denied", "answered", "closed", "unserved", "absent"]


class ClientPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A client: one of the fields. `account` is written as `namespace/name`."""

    account: str = ""
    pod: str = ""
    address: str = ""


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What is expected; a field that is absent is not checked. `goes_to` names all services, with or without shares.

    `limits` are parts of lines; an empty list expects that nothing limits the request. `would_deny`: in audit mode.
    """

    verdict: ExpectedOutcome | None = None
    status: int | None = None
    by: str | tuple[str, ...] = ()
    goes_to: str | tuple[str, ...] | Mapping[str, str | float] = ()
    tolerance: str | float = DEFAULT_TOLERANCE
    limits: tuple[str, ...] | None = None
    would_deny: bool | None = None


class RequestPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Requests: plural fields expand to one request for each combination of their values."""

    name: str = ""
    client: str | ClientPart | None = None
    clients: tuple[str | ClientPart, ...] = ()
    service: str = ""
    services: tuple[str, ...] = ()
    port: int | str | None = None
    method: str = ""
    methods: tuple[str, ...] = ()
    path: str = ""
    paths: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}
    expect: ExpectedOutcome | Expectation


class ScenarioFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A file. `manifests` are paths relative to it; `plugins` are enabled in addition to the default ones."""

    manifests: str | tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    requests: tuple[RequestPart, ...]


class SimulatedClient(NamedTuple):
    """A client: an account, a pod or an address; none of them is a client that no rule names."""

    account: Account | None = None
    pod: str = ""
    address: str = ""

    def __str__(self) -> str:
        """Render for a person."""
        return "/".join(self.account) if self.account is not None else self.pod or self.address or "every other client"


class Case(NamedTuple):
    """One request and what is expected. `place` is that of the request in the file, from 1."""

    name: str
    place: int
    client: SimulatedClient
    service: ObjectKey
    port: int | str | None
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    expected: Expectation


class Scenario(NamedTuple):
    """A file: its manifests and plugins as they are written, and its cases."""

    path: str
    manifests: tuple[str, ...]
    plugins: tuple[str, ...]
    cases: tuple[Case, ...]


def parse_scenario(text: str, path: str) -> Scenario:
    """Parse a file with one document. Raises ManifestError."""
    documents = list(parse_yaml_documents(text, path))
    if len(documents) != 1:
        found = next((each for each in documents if isinstance(each, ManifestError)), None)
        raise found or ManifestError(path, f"has {len(documents)} documents, and not one")
    (document,) = documents
    if isinstance(document, ManifestError):
        raise document
    try:
        file = msgspec.convert(_get_value(document.body), ScenarioFile)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ManifestError(path, _describe_fault(error)) from error
    manifests = (file.manifests,) if isinstance(file.manifests, str) else file.manifests
    cases: list[Case] = []
    for place, request in enumerate(file.requests, 1):
        for case in _expand(request, place, f"{path} requests[{place - 1}]"):
            if len(cases) >= CASES_LIMIT:
                raise ManifestError(path, f"has more than {CASES_LIMIT} combinations of requests")
            cases.append(case)
    return Scenario(path, manifests, file.plugins, tuple(cases))


def build_cases(request: Mapping[str, Any], origin: str) -> list[Case]:
    """Build the cases of one request, in the form of a file. Raises ManifestError."""
    try:
        found = msgspec.convert(request, RequestPart)
    except msgspec.ValidationError as error:
        raise ManifestError(origin, _describe_fault(error)) from error
    return list(_expand(found, 1, origin))


def _describe_fault(error: Exception) -> str:
    """Describe why a file or a request cannot be decoded: where, and which verdicts there are."""
    text, _, place = str(error).partition(" - at `$")
    text = f"{text[:1].lower()}{text[1:].replace('`array`', 'a list').replace('`object`', 'a mapping')}"
    if text.startswith("invalid enum value"):
        text = text.replace("invalid enum value", "unknown verdict")
        text = f"{text}; the verdicts are {', '.join(get_args(ExpectedOutcome))}"
    place = place.strip("`.")
    return f"{place}: {text}" if place else text


def _get_value(body: Any) -> Any:
    return body.value if isinstance(body, YamlBody) else None


def _expand(request: RequestPart, place: int, origin: str) -> Iterator[Case]:
    """Expand a request to its cases. Raises ManifestError."""
    single = () if request.client is None else (request.client,)
    clients = [_parse_client(each, origin) for each in _join(single, request.clients, "client", origin)]
    services = _join((request.service,) if request.service else (), request.services, "service", origin)
    methods = _join((request.method,) if request.method else (), request.methods, "method", origin, default="GET")
    paths = _join((request.path,) if request.path else (), request.paths, "path", origin, default="/")
    expected = Expectation(verdict=request.expect) if isinstance(request.expect, str) else request.expect
    _check_expectation(expected, origin)
    try:
        port = parse_port("" if request.port is None else str(request.port))
        for method, target in product(methods, paths):
            check_request(method, target)
    except ConfigurationError as error:
        raise ManifestError(origin, str(error)) from error
    for client, service, method, target in product(clients, services, methods, paths):
        key = parse_service_name(service)
        yield Case(
            name=request.name or f"{method} {target} from {client} to {key.namespace}/{key.name}",
            place=place,
            client=client,
            service=key,
            port=port,
            method=method,
            path=target,
            headers=tuple((name.lower(), value) for name, value in request.headers.items()),
            expected=expected,
        )


def _join(single: tuple[Any, ...], several: tuple[Any, ...], name: str, origin: str, *, default: str = "") -> Any:
    if single and several:
        raise ManifestError(origin, f"has both {name} and {name}s")
    found = single or several or ((default,) if default else ())
    if not found:
        raise ManifestError(origin, f"{name} is missing")
    return found


def _parse_client(text: str | ClientPart, origin: str) -> SimulatedClient:
    """Parse a client: a text is an account, an address, or `*`."""
    if isinstance(text, ClientPart):
        given = [each for each in (text.account, text.pod, text.address) if each]
        if len(given) != 1:
            raise ManifestError(origin, "client needs one of account, pod and address")
        if text.account:
            return SimulatedClient(account=_parse_account(text.account, origin))
        return SimulatedClient(pod=text.pod, address=_parse_address(text.address, origin) if text.address else "")
    if text == ANYBODY:
        return SimulatedClient()
    address = parse_address(text)
    if address is not None:
        return SimulatedClient(address=address)
    return SimulatedClient(account=_parse_account(text, origin))


def _parse_account(text: str, origin: str) -> Account:
    namespace, slash, name = text.partition("/")
    if not slash:
        name, slash, namespace = text.partition("@")
    if not slash or not namespace or not name:
        raise ManifestError(origin, f"client {text!r} is not a service account as namespace/name, an address, or *")
    return Account(namespace, name)


def _parse_address(text: str, origin: str) -> str:
    address = parse_address(text)
    if address is None:
        raise ManifestError(origin, f"client {text!r} is not an IP address")
    return address


def _check_expectation(expected: Expectation, origin: str) -> None:
    if expected == Expectation():
        raise ManifestError(origin, "expect is empty: name a verdict, a status, by, goes-to or limits")
    shares = expected.goes_to.values() if isinstance(expected.goes_to, Mapping) else ()
    for value in (*shares, expected.tolerance):
        if parse_share(value) is None:
            raise ManifestError(origin, f"{value!r} is not a share such as 90% or 0.9")


def parse_share(value: str | float) -> float | None:
    """Parse a share, `90%` or 0.9, as a number from 0 to 1; None if it is none."""
    text = str(value).strip()
    is_percent = text.endswith("%")
    try:
        number = float(text.removesuffix("%").strip())
    except ValueError:
        return None
    found = number / 100 if is_percent else number
    return found if 0 <= found <= 1 else None
