"""The controller's half: builds sessions from annotations, or from the field `sessionPersistence` of a rule.

The key of each service and rule is derived from the plugin's secret and its own key in the configuration, so all
controllers compute the same, and no value is valid elsewhere.
"""

import hmac
import logging
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Literal

import msgspec

from maesh_core.plugin import (
    ConfigurationError,
    FilterRequest,
    MiddlewareBuilder,
    PositiveDuration,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    build_port_key,
    find_header_problem,
    hookimpl,
    read_annotation,
    read_filter,
    read_filter_duration,
)
from maesh_session import SessionSettings
from maesh_session.settings import ServiceSession

COOKIE, HEADER, PATH = "session-cookie", "session-header", "session-path"
LIFETIME, IDLE, PERMANENT = "session-lifetime", "session-idle-timeout", "session-permanent"
NAME_LIMIT, PATH_LIMIT = 256, 1024
"""Limits of a name and of a path, in characters (Gateway API)."""
_log = logging.getLogger(__name__)
_is_token = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+", re.ASCII).fullmatch
_is_path = re.compile(r"/[!-:<-~]*", re.ASCII).fullmatch
"""Visible characters without `;`, which would end the attribute (RFC 6265 section 4.1.1)."""
_RESERVED_NAMES = frozenset({"cookie", "set-cookie"})


class CookieConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The field `cookie`, as in the Gateway API."""

    name: str | None = None
    path: str = "/"
    lifetime_type: Literal["Permanent", "Session"] = "Session"


class HeaderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The field `header`, as in the Gateway API."""

    name: str | None = None


class SessionPersistence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The field `sessionPersistence` of a rule, as in the Gateway API; some fields only exist in older versions."""

    type: Literal["Cookie", "Header"] = "Cookie"
    session_name: str = ""
    absolute_timeout: str | None = None
    idle_timeout: str | None = None
    cookie: CookieConfig | None = None
    header: HeaderConfig | None = None


class SessionBuilder:
    """Builds the sessions of a service from its annotations, and those of a rule."""

    kind = "session"
    stage = Stage.DELIVER
    annotations: tuple[str, ...] = (COOKIE, HEADER, PATH, LIFETIME, IDLE, PERMANENT)
    filters: tuple[str, ...] = ("sessionPersistence",)
    is_single = True

    def __init__(self, settings: SessionSettings) -> None:
        self._secret = settings.secret.encode()
        self._has_warned = False

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceSession | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations:
            return None
        cookie, header = _read_names(annotations)
        lifetime_s = read_annotation(annotations, LIFETIME, PositiveDuration) or 0.0
        is_permanent = bool(read_annotation(annotations, PERMANENT, bool))
        if is_permanent and lifetime_s < 1:
            raise build_annotation_error(PERMANENT, annotations[PERMANENT], f"needs {LIFETIME} of at least 1s")
        return ServiceSession(
            cookie=cookie,
            header=header,
            key=self._derive_key(str(service.key)),
            path=_read_path(annotations),
            lifetime_s=lifetime_s,
            idle_s=read_annotation(annotations, IDLE, PositiveDuration) or 0.0,
            is_permanent=is_permanent,
        )

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> ServiceSession:
        """Read the field of one rule."""
        request = requests[-1]
        found = read_filter(request, SessionPersistence)
        scope = request.rule or build_port_key(service.key, request.port.number)
        name = _read_name(request, found, scope)
        cookie = found.cookie or CookieConfig()
        if not _is_path(cookie.path) or len(cookie.path) > PATH_LIMIT:
            raise ConfigurationError(f"{request.name}: cookie.path: {cookie.path[:80]!r} is not a path")
        lifetime_s = _read_duration(request, "absoluteTimeout", found.absolute_timeout)
        is_permanent = cookie.lifetime_type == "Permanent"
        if is_permanent and lifetime_s < 1:
            raise ConfigurationError(f"{request.name}: lifetimeType Permanent needs absoluteTimeout of at least 1s")
        return ServiceSession(
            cookie=name if found.type == "Cookie" else "",
            header=name if found.type == "Header" else "",
            key=self._derive_key(scope),
            path=cookie.path,
            lifetime_s=lifetime_s,
            idle_s=_read_duration(request, "idleTimeout", found.idle_timeout),
            is_permanent=is_permanent,
        )

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say how a session is recognized, and how long it lasts."""
        found = msgspec.convert(settings, ServiceSession)
        kind = "permanent " if found.is_permanent else ""
        lines = [f"sessions by the {kind}cookie {found.cookie} at {found.path}"] if found.cookie else []
        lines += [f"sessions by the header {found.header}"] if found.header else []
        lines += [f"a session lasts {found.lifetime_s:g} s"] if found.lifetime_s else []
        return [*lines, *([f"a session ends after {found.idle_s:g} s without a request"] if found.idle_s else [])]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say how a session is recognized; no request is refused."""
        found = msgspec.convert(settings, ServiceSession)
        names = [("cookie", found.cookie), ("header", found.header)]
        reasons = tuple(f"sessions by the {what} {name}" for what, name in names if name)
        return Verdict(is_admitted=True, reasons=reasons)

    def _derive_key(self, scope: str) -> str:
        if not self._secret and not self._has_warned:
            self._has_warned = True
            _log.warning("session.secret is not set: clients can compute values of sessions and choose their server")
        return hmac.digest(self._secret, b"maesh session\0" + scope.encode(), "sha256").hex()


def _read_names(annotations: Mapping[str, str]) -> tuple[str, str]:
    """Read the names of the cookie and of the header; at least one is needed."""
    if COOKIE not in annotations:
        needing = [each for each in sorted(annotations) if each in (PATH, PERMANENT) or HEADER not in annotations]
        name = next(iter(needing), "")
        if name:
            missing = COOKIE if name in (PATH, PERMANENT) else f"{COOKIE} or {HEADER}"
            raise build_annotation_error(name, annotations[name], f"needs {missing}")
    for name in (COOKIE, HEADER):
        problem = _find_name_problem(annotations[name], is_cookie=name == COOKIE) if name in annotations else ""
        if problem:
            raise build_annotation_error(name, annotations[name], problem)
    return annotations.get(COOKIE, ""), annotations.get(HEADER, "")


def _read_path(annotations: Mapping[str, str]) -> str:
    path = annotations.get(PATH, "/").strip()
    if not _is_path(path) or len(path) > PATH_LIMIT:
        raise build_annotation_error(PATH, path, "is not a path without spaces and semicolons")
    return path


def _read_name(request: FilterRequest, found: SessionPersistence, scope: str) -> str:
    """Read the name of a rule's cookie or header; a cookie without a name gets one of its own."""
    own, other = (found.cookie, found.header) if found.type == "Cookie" else (found.header, found.cookie)
    if other is not None:
        raise ConfigurationError(f"{request.name}: type {found.type} has the field of the other type")
    name = found.session_name if own is None or own.name is None else own.name
    if not name and found.type == "Cookie" and (own is None or own.name is None):
        return f"maesh-{sha256(scope.encode()).hexdigest()[:8]}"
    problem = _find_name_problem(name, is_cookie=found.type == "Cookie")
    if problem:
        raise ConfigurationError(f"{request.name}: name: {name[:80]!r} {problem}")
    return name


def _find_name_problem(name: str, *, is_cookie: bool) -> str:
    """Explain why a name cannot be used; empty if it can."""
    if not _is_token(name) or len(name) > NAME_LIMIT:
        return "is not a name of letters, digits and !#$%&'*+-.^_`|~"
    if is_cookie:
        return ""
    if name.lower() in _RESERVED_NAMES:
        return "cannot have values of sessions"
    return find_header_problem(name) or ""


def _read_duration(request: FilterRequest, field: str, text: str | None) -> float:
    return 0.0 if text is None else read_filter_duration(request, field, text)


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: SessionSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [SessionBuilder(self._settings)]
