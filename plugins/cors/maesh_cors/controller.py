"""The controller's half: builds policies from annotations or from filters of routes, or an error."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from maesh_core.plugin import (
    ConfigurationError,
    Duration,
    FilterRequest,
    MiddlewareBuilder,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    hookimpl,
    read_annotation,
    read_filter,
)
from maesh_cors.origins import ANY, AllowedOrigins, is_origin
from maesh_cors.settings import CorsPolicy

ORIGINS, METHODS, HEADERS = "cors-allow-origins", "cors-allow-methods", "cors-allow-headers"
EXPOSED, CREDENTIALS, MAX_AGE = "cors-expose-headers", "cors-allow-credentials", "cors-max-age"
LIST_LIMIT: Final = 64
LONGEST_AGE_S: Final = 1 << 31
ORIGIN_LIMIT, NAME_LIMIT = 253, 256
"""Limits of an origin and of a name, in characters (Gateway API)."""
KNOWN_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_is_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_Age = Annotated[Duration, Meta(lt=LONGEST_AGE_S)]


class CorsFilter(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A filter, as in the Gateway API."""

    allow_origins: tuple[str, ...] = ()
    allow_credentials: bool = False
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int = 5


class CorsBuilder:
    """Builds the policy of a service from its annotations, and that of a rule from its filter."""

    kind = "cors"
    stage = Stage.SHAPE
    annotations: tuple[str, ...] = (ORIGINS, METHODS, HEADERS, EXPOSED, CREDENTIALS, MAX_AGE)
    filters: tuple[str, ...] = ("CORS",)
    is_single = True

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> CorsPolicy | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations:
            return None
        if ORIGINS not in annotations:
            name, text = next(iter(annotations.items()))
            raise build_annotation_error(name, text, f"has no effect without {ORIGINS}")
        max_age_s = read_annotation(annotations, MAX_AGE, _Age)
        policy = CorsPolicy(
            origins=_read_list(annotations, ORIGINS),
            methods=_read_list(annotations, METHODS),
            headers=_read_list(annotations, HEADERS),
            exposed=_read_list(annotations, EXPOSED),
            has_credentials=read_annotation(annotations, CREDENTIALS, bool) or False,
            max_age_s=5 if max_age_s is None else int(max_age_s),
        )
        for name, problem in list_problems(policy, (ORIGINS, METHODS, HEADERS, EXPOSED)):
            raise build_annotation_error(name, annotations[name], problem)
        return policy

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> CorsPolicy:
        """Build the policy of a rule."""
        if len(requests) != 1:
            raise ConfigurationError("CORS: a rule may have only one")
        found = read_filter(requests[0], CorsFilter)
        if not 0 < found.max_age < LONGEST_AGE_S:
            raise ConfigurationError(f"CORS: maxAge: {found.max_age} is not a number of seconds from 1 on")
        policy = CorsPolicy(
            origins=found.allow_origins,
            methods=found.allow_methods,
            headers=found.allow_headers,
            exposed=found.expose_headers,
            has_credentials=found.allow_credentials,
            max_age_s=found.max_age,
        )
        names = ("allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders")
        for name, problem in list_problems(policy, names):
            raise ConfigurationError(f"CORS: {name}: it {problem}")
        return policy

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say which pages may use the service, and how."""
        found = msgspec.convert(settings, CorsPolicy)
        lists = (
            ("pages of {} may use it", found.origins),
            ("pages may use methods {}", found.methods),
            ("pages may send headers {}", found.headers),
            ("pages may read headers {}", found.exposed),
        )
        lines = [text.format(", ".join(names)) for text, names in lists if names]
        credentials = ["pages may send credentials"] if found.has_credentials else []
        return [*lines, *credentials, f"browsers remember this for {found.max_age_s} s"]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say which pages may use the service; only preflight requests are answered."""
        found = msgspec.convert(settings, CorsPolicy)
        headers = question.client_headers
        origin = headers.get(b"origin")
        if question.method == b"OPTIONS" and origin is not None and headers.get(b"access-control-request-method"):
            if AllowedOrigins(found.origins).allows(origin):
                return Verdict(is_admitted=False, status=204, reasons=("the mesh answers preflight requests",))
            return Verdict(is_admitted=False, status=403, reasons=("pages of this origin are not allowed",))
        credentials = " with credentials" if found.has_credentials else ""
        reason = f"pages of {', '.join(found.origins) or 'no origin'} may use it{credentials} (CORS)"
        return Verdict(is_admitted=True, reasons=(reason,))


def list_problems(policy: CorsPolicy, names: tuple[str, str, str, str]) -> list[tuple[str, str]]:
    """List the problems of a policy, each with the name of its list, to follow that name."""
    origins, methods, headers, exposed = names
    found = [
        (origins, _find_problem(policy.origins, _is_origin, "is not * or an origin such as https://shop.example")),
        (methods, _find_problem(policy.methods, KNOWN_METHODS.__contains__, "is not * or a method in upper case")),
        (headers, _find_problem(policy.headers, _is_header, "is not * or the name of a header")),
        (exposed, _find_problem(policy.exposed, _is_header, "is not * or the name of a header")),
    ]
    return [(name, problem) for name, problem in found if problem]


def _find_problem(texts: tuple[str, ...], is_valid: Callable[[str], bool], rule: str) -> str:
    if len(texts) > LIST_LIMIT:
        return f"has more than {LIST_LIMIT} entries"
    if ANY in texts:
        return "has * and other entries" if len(texts) > 1 else ""
    bad = next((text for text in texts if not is_valid(text)), None)
    return "" if bad is None else f"has {bad[:80]!r}, which {rule}"


def _is_origin(text: str) -> bool:
    return len(text) <= ORIGIN_LIMIT and is_origin(text)


def _is_header(text: str) -> bool:
    return len(text) <= NAME_LIMIT and _is_name(text) is not None


def _read_list(annotations: Mapping[str, str], name: str) -> tuple[str, ...]:
    text = annotations.get(name)
    if text is None:
        return ()
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(found):
        raise build_annotation_error(name, text, "is not a comma-separated list")
    return found


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [CorsBuilder()]
