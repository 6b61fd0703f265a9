"""The controller's half: builds the settings of a service's compression from its annotations, or an error."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, get_args

import msgspec
from msgspec import Meta

from maesh_compress import CompressSettings
from maesh_compress.settings import Coding, Compression
from maesh_core.plugin import (
    ConfigurationError,
    MiddlewareBuilder,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    hookimpl,
    read_annotation,
)

CODINGS, MIN_BYTES, TYPES = "compress", "compress-min-bytes", "compress-types"
KNOWN: Final[tuple[Coding, ...]] = get_args(Coding)
DEFAULT_MIN_BYTES: Final = 1024
"""Smaller responses fit into one packet anyway, and compressing them costs more than it saves (Traefik's default)."""
DEFAULT_TYPES: Final = (
    "text/html",
    "text/plain",
    "text/css",
    "text/csv",
    "text/xml",
    "text/javascript",
    "text/markdown",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/wasm",
    "application/x-ndjson",
    "image/svg+xml",
)
TYPES_LIMIT: Final = 100
_WORD: Final = r"[a-z0-9!#$&^_.-]+"
_TYPE: Final = re.compile(rf"{_WORD}/(?:{_WORD}(?:\+{_WORD})?|\*(?:\+{_WORD})?)")
_TYPE_RULE: Final = "is not a media type such as text/html, text/* or application/*+json"


class CompressBuilder:
    """Builds the compression of a service from its annotations."""

    kind = "compress"
    stage = Stage.SHAPE
    annotations: tuple[str, ...] = (CODINGS, MIN_BYTES, TYPES)

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Compression | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations or service.traffic_type != "http":
            return None
        if CODINGS not in annotations:
            raise ConfigurationError(f"{next(iter(annotations))} has no effect without {CODINGS}")
        min_bytes = read_annotation(annotations, MIN_BYTES, Annotated[int, Meta(ge=0, le=1 << 30)])
        return Compression(
            codings=_read_codings(annotations[CODINGS]),
            min_bytes=DEFAULT_MIN_BYTES if min_bytes is None else min_bytes,
            types=_read_types(annotations.get(TYPES)),
        )

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say which responses are compressed, and how."""
        found = msgspec.convert(settings, Compression)
        codings = ", ".join(found.codings)
        types = ", ".join(found.types)
        return [f"responses of at least {found.min_bytes} bytes are compressed by {codings}, if they are {types}"]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say which responses are compressed; no request is refused."""
        compression = msgspec.convert(settings, Compression)
        text = f"responses of at least {compression.min_bytes} bytes are compressed by {', '.join(compression.codings)}"
        return Verdict(is_admitted=True, reasons=(f"{text} if the client accepts it",))


def _read_codings(text: str) -> tuple[Coding, ...]:
    codings: list[Coding] = []
    for word in (each.strip().lower() for each in text.split(",")):
        coding = next((each for each in KNOWN if each == word), None)
        if coding is None:
            raise build_annotation_error(CODINGS, word, "is not gzip, br or zstd", known=KNOWN)
        if coding in codings:
            raise build_annotation_error(CODINGS, word, "is there twice")
        codings.append(coding)
    return tuple(codings)


def _read_types(text: str | None) -> tuple[str, ...]:
    if text is None:
        return DEFAULT_TYPES
    types = tuple(dict.fromkeys(each.strip().lower() for each in text.split(",")))
    for each in types:
        if not _TYPE.fullmatch(each):
            raise build_annotation_error(TYPES, each, _TYPE_RULE)
    if len(types) > TYPES_LIMIT:
        raise build_annotation_error(TYPES, f"{len(types)} types", f"is more than {TYPES_LIMIT}")
    return types


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: CompressSettings) -> None:
        pass

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [CompressBuilder()]
