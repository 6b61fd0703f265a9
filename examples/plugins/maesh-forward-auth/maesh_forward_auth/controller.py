"""The controller's half: annotations to the settings of one service's guard, or an error on that service."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from maesh_core.plugin import (
    MiddlewareBuilder,
    ServiceNode,
    Stage,
    build_annotation_error,
    find_header_problem,
    hookimpl,
)
from maesh_forward_auth import ForwardAuthSettings, Guard

URL, RESPONSE_HEADERS = "forward-auth-url", "forward-auth-response-headers"
_URL = re.compile(r"[\x21-\x7e]{1,2000}")


class ForwardAuthBuilder:
    """Builds a service's guard from its annotations."""

    kind = "forward-auth"
    stage = Stage.ADMISSION
    annotations: tuple[str, ...] = (URL, RESPONSE_HEADERS)

    def __init__(self, settings: ForwardAuthSettings) -> None:
        self._settings = settings

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Guard | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations:
            return None
        names = [name.strip() for name in annotations.get(RESPONSE_HEADERS, "").split(",") if name.strip()]
        for name in names:
            if problem := find_header_problem(name):
                raise build_annotation_error(RESPONSE_HEADERS, name, problem)
        if URL not in annotations:
            raise build_annotation_error(
                RESPONSE_HEADERS, annotations[RESPONSE_HEADERS], f"guards nothing without {URL}"
            )
        host, port, target = _split_url(annotations[URL])
        return Guard(
            host=host,
            port=port,
            target=target,
            timeout_s=self._settings.timeout,
            connections=self._settings.connections,
            request_headers=self._settings.headers,
            response_headers=tuple(names),
        )

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say who decides, for `maesh explain` and `maesh diff`."""
        found = msgspec.convert(settings, Guard)
        return [
            f"http://{found.host}:{found.port}{found.target} decides about each request within {found.timeout_s:g} s"
        ]


def _split_url(text: str) -> tuple[str, int, str]:
    """Split an `http` URL into host, port, and path with query."""
    try:
        parts = urlsplit(text) if _URL.fullmatch(text) else None
        host, port = (parts.hostname, parts.port or 80) if parts else (None, 80)
    except ValueError:
        parts, host, port = None, None, 80
    if parts is None or host is None or parts.scheme != "http" or parts.username is not None or parts.fragment:
        raise build_annotation_error(URL, text, "is not a URL such as http://auth.shop.svc.cluster.local:9000/check")
    return host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: ForwardAuthSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the one builder of this plugin."""
        return [ForwardAuthBuilder(self._settings)]
