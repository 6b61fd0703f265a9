"""The controller's half: builds redirects from annotations or from filters of routes, or an error."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, cast

import msgspec
from msgspec import Meta

from maesh_core.plugin import (
    ConfigurationError,
    FilterRequest,
    MiddlewareBuilder,
    PathModifier,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    build_path_change,
    cut_port_key,
    describe_path_change,
    hookimpl,
    is_subdomain,
    read_annotation,
    read_filter,
    read_path_change,
)
from maesh_redirect.locations import Locator
from maesh_redirect.settings import Redirect

SCHEME, HOST, PORT = "redirect-scheme", "redirect-host", "redirect-port"
PATH, PREFIX, STATUS = "redirect-path", "redirect-prefix", "redirect-status"
STATUSES: Final = (301, 302, 303, 307, 308)
SCHEMES: Final = ("http", "https")
_Scheme = Literal["", "http", "https"]
_Status = Literal[301, 302, 303, 307, 308]
_Port = Annotated[int, Meta(ge=1, le=65535)]


class RedirectFilter(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A filter, as in the Gateway API."""

    scheme: str | None = None
    hostname: str | None = None
    path: PathModifier | None = None
    port: int | None = None
    status_code: int = 302


class RedirectBuilder:
    """Builds the redirect of a service from its annotations, and that of a rule from its filter."""

    kind = "redirect"
    stage = Stage.SHAPE
    annotations: tuple[str, ...] = (SCHEME, HOST, PORT, PATH, PREFIX, STATUS)
    filters: tuple[str, ...] = ("RequestRedirect",)
    is_single = True

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Redirect | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations:
            return None
        status = read_annotation(annotations, STATUS, _Status)
        if annotations.keys() == {STATUS}:
            raise build_annotation_error(STATUS, annotations[STATUS], "has no effect without another annotation")
        host = annotations.get(HOST, "")
        if HOST in annotations and not is_subdomain(host):
            raise build_annotation_error(HOST, host, "is not a host name in lower case")
        return Redirect(
            status=status or 302,
            scheme=read_annotation(annotations, SCHEME, Literal["http", "https"]) or "",
            host=host,
            port=read_annotation(annotations, PORT, _Port) or 0,
            path=read_path_change(annotations, path=PATH, prefix=PREFIX),
            is_of_service=True,
        )

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> Redirect:
        """Build the redirect of a rule."""
        if len(requests) != 1:
            raise ConfigurationError("RequestRedirect: a rule may have only one")
        found = read_filter(requests[0], RedirectFilter)
        if found.scheme is not None and found.scheme not in SCHEMES:
            raise ConfigurationError(f"RequestRedirect: scheme: {found.scheme[:80]!r} is not http or https")
        if found.hostname is not None and not is_subdomain(found.hostname):
            raise ConfigurationError(f"RequestRedirect: hostname: {found.hostname[:80]!r} is not a host name")
        if found.port is not None and not 1 <= found.port <= 65535:
            raise ConfigurationError(f"RequestRedirect: port: {found.port} is not a port from 1 to 65535")
        if found.status_code not in STATUSES:
            known = ", ".join(map(str, STATUSES))
            raise ConfigurationError(f"RequestRedirect: statusCode: {found.status_code} is not one of {known}")
        try:
            path = None if found.path is None else build_path_change(found.path, requests[0].matches)
        except ConfigurationError as error:
            raise ConfigurationError(f"RequestRedirect: {error}") from error
        return Redirect(
            status=cast("_Status", found.status_code),
            scheme=cast("_Scheme", found.scheme or ""),
            host=found.hostname or "",
            port=found.port or 0,
            path=path,
        )

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say where requests are redirected, and with which status."""
        found = msgspec.convert(settings, Redirect)
        parts = [
            *([f"scheme {found.scheme}"] if found.scheme else []),
            *([f"host {found.host}"] if found.host else []),
            *([f"port {found.port}"] if found.port else []),
            *([describe_path_change(found.path)] if found.path is not None else []),
        ]
        passing = ", but not from there" if found.is_of_service else ""
        return [f"redirects with {found.status} to {', '.join(parts) or 'the same address'}{passing}"]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say where a request is redirected."""
        found = msgspec.convert(settings, Redirect)
        locator, target = Locator(found), question.target
        if locator.refuses(target):
            return Verdict(
                is_admitted=False, status=403, reasons=("the path is ambiguous, and its prefix is replaced",)
            )
        port_key = cut_port_key(question.destination)
        owner, _, port = port_key.rpartition(":")
        namespace, _, name = owner.partition("/")
        host = question.client_headers.get(b"host") or f"{name}.{namespace}.maesh".encode()
        location = locator.find(target, host, port.encode(), question.client_headers)
        if location is None:
            return Verdict(is_admitted=True, reasons=("it does not redirect this request",))
        reason = f"it is redirected to {location.decode('utf-8', 'replace')}"
        return Verdict(is_admitted=False, status=found.status, reasons=(reason,))


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [RedirectBuilder()]
