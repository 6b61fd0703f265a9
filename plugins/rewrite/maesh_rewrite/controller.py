"""The controller's half: builds rewrites from annotations or from filters of routes, or an error."""

from collections.abc import Mapping, Sequence

import msgspec

from maesh_core.plugin import (
    ConfigurationError,
    FilterRequest,
    MiddlewareBuilder,
    PathChange,
    PathChanger,
    PathModifier,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    build_path_change,
    describe_path_change,
    hookimpl,
    is_ambiguous,
    is_subdomain,
    read_filter,
    read_path_change,
)
from maesh_rewrite.settings import Rewrite

HOST, PATH, PREFIX = "rewrite-host", "rewrite-path", "rewrite-prefix"


class RewriteFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A filter, as in the Gateway API."""

    hostname: str | None = None
    path: PathModifier | None = None


class RewriteBuilder:
    """Builds the rewrite of a service from its annotations, and that of a rule from its filters."""

    kind = "rewrite"
    stage = Stage.SHAPE
    annotations: tuple[str, ...] = (HOST, PATH, PREFIX)
    filters: tuple[str, ...] = ("URLRewrite",)
    is_single = True

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Rewrite | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations:
            return None
        host = annotations.get(HOST, "")
        if HOST in annotations and not is_subdomain(host):
            raise build_annotation_error(HOST, host, "is not a host name in lower case")
        return Rewrite(host=host, path=read_path_change(annotations, path=PATH, prefix=PREFIX))

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> Rewrite:
        """Combine the filters of a rule and of its backend, whose parts win."""
        host, path = "", None
        for request in requests:
            found = read_filter(request, RewriteFilter)
            if found.hostname is None and found.path is None:
                raise ConfigurationError("URLRewrite: it has neither hostname nor path")
            if found.hostname is not None and not is_subdomain(found.hostname):
                raise ConfigurationError(f"URLRewrite: hostname: {found.hostname[:80]!r} is not a host name")
            host = found.hostname or host
            path = path if found.path is None else _build_path(found.path, request)
        return Rewrite(host=host, path=path)

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say what is sent in place of the host and the path of requests."""
        found = msgspec.convert(settings, Rewrite)
        lines = [f"sends host {found.host}"] if found.host else []
        return [*lines, *([f"replaces {describe_path_change(found.path)}"] if found.path is not None else [])]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say what is sent for a request."""
        found = msgspec.convert(settings, Rewrite)
        reasons = [f"host {found.host} is sent"] if found.host else []
        if found.path is not None:
            changer, target = PathChanger(found.path), question.target
            if changer.is_prefix and is_ambiguous(target):
                reason = "the path is ambiguous, and its prefix is replaced"
                return Verdict(is_admitted=False, status=403, reasons=(reason,))
            changed = changer.change(target)
            if changed is not None:
                reasons.append(f"{changed.decode('utf-8', 'replace')} is sent")
        return Verdict(is_admitted=True, reasons=tuple(reasons or ["it does not change this request"]))


def _build_path(modifier: PathModifier, request: FilterRequest) -> PathChange:
    try:
        return build_path_change(modifier, request.matches)
    except ConfigurationError as error:
        raise ConfigurationError(f"URLRewrite: {error}") from error


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [RewriteBuilder()]
