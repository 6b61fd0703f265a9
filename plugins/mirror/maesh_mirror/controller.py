"""The controller's half: finds side services, and builds mirrors from annotations or from filters of routes.

A side service that does not exist never affects the service: nothing is copied, and a notice says so.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from maesh_core.plugin import (
    Addition,
    BackendNode,
    ConfigurationError,
    FilterRequest,
    MiddlewareBuilder,
    ObjectKey,
    PortNode,
    Question,
    ServiceNode,
    Stage,
    TopologyBuilder,
    TopologyView,
    Verdict,
    build_annotation_error,
    build_port_key,
    hookimpl,
    plan_rules,
    read_annotation,
    read_filter,
    read_request_share,
    select_annotations,
)
from maesh_mirror import BODY_LIMIT, MirrorSettings
from maesh_mirror.settings import Mirror, Mirrors

SERVICE, PERCENT, LIMIT = "mirror-service", "mirror-percent", "mirror-body-limit"
MIRROR_FILTER = "RequestMirror"
MIRROR_LIMIT = 16
"""Mirrors of one service: as many as a rule of the Gateway API has filters."""
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_TARGET = re.compile(rf"({_LABEL})\.({_LABEL}):([1-9][0-9]{{0,4}})")
_RULE = "is not name.namespace:port, or several of them separated by commas"


class Target(NamedTuple):
    """A port of a service that gets copies."""

    service: ObjectKey
    port: int

    def __str__(self) -> str:
        """Render as the annotation has it."""
        return f"{self.service.name}.{self.service.namespace}:{self.port}"

    @property
    def side_name(self) -> str:
        """The name under which a port has it as a side service."""
        return f"annotation/{self.service.namespace}/{self.service.name}/{self.port}"


class Fraction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the requests, as in the Gateway API."""

    numerator: Annotated[int, Meta(ge=0)] | None = None
    denominator: Annotated[int, Meta(ge=1)] = 100


class MirrorFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A filter, as in the Gateway API, with the name of a side service in place of its reference."""

    backend: str = ""
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


def parse_targets(text: str) -> tuple[Target, ...]:
    """Parse the annotation `mirror-service`; raises ConfigurationError."""
    words = [word.strip() for word in text.split(",")]
    if len(words) > MIRROR_LIMIT:
        raise build_annotation_error(SERVICE, text, f"has more than {MIRROR_LIMIT} services")
    targets = []
    for word in words:
        match = _TARGET.fullmatch(word)
        if match is None or int(match[3]) > 65535:
            raise build_annotation_error(SERVICE, word, _RULE)
        targets.append(Target(ObjectKey(match[2], match[1]), int(match[3])))
    if len(set(targets)) < len(targets):
        raise build_annotation_error(SERVICE, text, "names a service twice")
    return tuple(targets)


def parse_shares(text: str | None, count: int) -> tuple[float, ...]:
    """Parse `mirror-percent`, with one number for all `count` services, or one for each; raises ConfigurationError."""
    words = ["100"] if text is None else [word.strip() for word in text.split(",")]
    if len(words) not in (1, count):
        raise build_annotation_error(PERCENT, text or "", f"has {len(words)} numbers for {count} in {SERVICE}")
    shares = []
    for word in words:
        percent: float | None = read_annotation({PERCENT: word}, PERCENT, Annotated[float, Meta(ge=0, le=100)])
        shares.append((percent or 0.0) / 100)
    return tuple(shares) if len(shares) == count else tuple(shares * count)


class SideFinder:
    """Finds the side services that annotations name."""

    name = "mirror"

    def build(self, view: TopologyView, service: ServiceNode) -> Addition | None:
        """Find the side services of each port; annotations with errors are reported where settings are built."""
        found: dict[tuple[int, str], dict[str, BackendNode]] = {}
        missing: list[str] = []
        for port in service.ports:
            for target in _list_targets(service, port):
                backend = _find_backend(view, target)
                if backend is None:
                    missing.append(f"annotation {SERVICE}: there is no service port {target}, so it gets no copies")
                else:
                    found.setdefault((port.number, port.protocol), {})[target.side_name] = backend
        if not found and not missing:
            return None
        return Addition(side_backends=found, notices=tuple(dict.fromkeys(missing)))


def _list_targets(service: ServiceNode, port: PortNode) -> tuple[Target, ...]:
    try:
        text = select_annotations(service.annotations, port).get(SERVICE)
        return () if text is None else parse_targets(text)
    except ConfigurationError:
        return ()


def _find_backend(view: TopologyView, target: Target) -> BackendNode | None:
    node = view.build_service(target.service)
    ports = () if node is None else node.ports
    port = next((each for each in ports if each.number == target.port and each.protocol == "TCP"), None)
    if node is None or port is None:
        return None
    return BackendNode(service=target.service, weight=1, port=port, annotations=node.annotations)


class MirrorBuilder:
    """Builds the mirrors of a service from its annotations, and those of a rule from its filters."""

    kind = "mirror"
    stage = Stage.SHAPE
    annotations: tuple[str, ...] = (SERVICE, PERCENT, LIMIT)
    filters: tuple[str, ...] = (MIRROR_FILTER,)
    is_single = False

    def __init__(self, settings: MirrorSettings) -> None:
        self._settings = settings

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mirrors | None:
        """Read the annotations; None if nothing is copied."""
        body_limit = self._read_limit(annotations)
        text, percent = annotations.get(SERVICE), annotations.get(PERCENT)
        if text is None:
            if percent is not None:
                raise build_annotation_error(PERCENT, percent, f"has no effect without {SERVICE}")
            return None
        targets = parse_targets(text)
        shares = parse_shares(percent, len(targets))
        ports = {build_port_key(service.key, port.number): port for port in service.ports}
        sides = {place: plan_rules(service.key, port).sides for place, port in ports.items()}
        mirrors = tuple(
            Mirror(name=str(target), share=share, keys=keys)
            for target, share in zip(targets, shares, strict=True)
            if share
            and (
                keys := {place: found[target.side_name] for place, found in sides.items() if target.side_name in found}
            )
        )
        return Mirrors(mirrors=mirrors, body_limit=body_limit) if mirrors else None

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> Mirrors | None:
        """Combine the filters of one rule; None if none copies anything."""
        mirrors = [mirror for each in requests if (mirror := _read_mirror(each, service)) is not None]
        if not mirrors:
            return None
        return Mirrors(mirrors=tuple(mirrors), body_limit=self._read_limit(service.annotations))

    def _read_limit(self, annotations: Mapping[str, str]) -> int:
        limit: int | None = read_annotation(annotations, LIMIT, Annotated[int, Meta(ge=0, le=BODY_LIMIT)])
        return self._settings.body_limit if limit is None else limit

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say which share of the requests is copied, and with which bodies."""
        found = msgspec.convert(settings, Mirrors)
        return [
            f"copies {each.share * 100:g} % of the requests to {each.name}, with bodies up to {found.body_limit} bytes"
            for each in found.mirrors
        ]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say which share of the requests is copied; none is refused."""
        mirrors = msgspec.convert(settings, Mirrors).mirrors
        reasons = tuple(f"copies {each.share * 100:g} % of the requests to {each.name}" for each in mirrors)
        return Verdict(is_admitted=True, reasons=reasons)


def _read_mirror(request: FilterRequest, service: ServiceNode) -> Mirror | None:
    found = read_filter(request, MirrorFilter)
    key = request.side_services.get(found.backend)
    if key is None:
        raise ConfigurationError(f"{request.name}: it has no backend")
    fraction = None if found.fraction is None else (found.fraction.numerator, found.fraction.denominator)
    try:
        share = read_request_share(found.percent, fraction)
    except ConfigurationError as error:
        raise ConfigurationError(f"{request.name}: {error}") from None
    if not share:
        return None
    return Mirror(
        name=_show_side(found.backend), share=share, keys={build_port_key(service.key, request.port.number): key}
    )


def _show_side(name: str) -> str:
    """Show the name of a side service, `…/NAMESPACE/NAME/PORT`, as the annotation has it; others are unchanged."""
    parts = name.split("/")
    return f"{parts[2]}.{parts[1]}:{parts[3]}" if len(parts) >= 4 else name


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: MirrorSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_topology_builders(self) -> Sequence[TopologyBuilder]:
        """Return the builder that finds side services."""
        return [SideFinder()]

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of middlewares."""
        return [MirrorBuilder(self._settings)]
