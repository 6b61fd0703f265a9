"""What an explanation reads: the documents of a mesh, from an engine, or as a controller serves them.

Takes an engine that was built from manifests, or bodies of responses; returns Sources. Checks the parts that it reads.
Raises StartupError if a body is not what a controller serves.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from maesh_core.controller.explaining.client import Pods
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.errors import StartupError
from maesh_core.model.configuration import HttpRouter, StreamRouter
from maesh_core.model.messages import FIXED_FIELDS, Update, parse_update

ValueT = TypeVar("ValueT")


class Sources(NamedTuple):
    """The input of an explanation; `objects` and `problems` are empty if the controller does not serve them."""

    topology: Mapping[str, Any]
    update: Update
    pods: Pods
    objects: Sequence[Mapping[str, Any]]
    problems: Mapping[str, str]


def read_engine(engine: Engine) -> Sources:
    """Read everything from an engine that was built from manifests: the documents that its API would serve."""
    topology = require_fields(decode_body(engine.render_topology(), dict[str, Any]), "services", "pods")
    update = parse_configuration(engine.render_configuration(None) or b"{}")
    objects = decode_body(engine.render_objects(), list[dict[str, Any]])
    return Sources(topology, update, engine.pods, objects, dict(engine.problems))


def parse_configuration(body: bytes) -> Update:
    """Parse the response to a pull, with all its protocols."""
    protocols = require_fields(decode_body(body, dict[str, Any]), "revision").keys() - FIXED_FIELDS
    return parse_update(body, {name: HttpRouter if name == "http" else StreamRouter for name in protocols})


def decode_body(body: bytes, type_: type[ValueT]) -> ValueT:
    """Decode the body of a response. Raises StartupError."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StartupError(f"the server is not a controller: {error}") from error


def require_fields(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return a document that has these fields. Raises StartupError."""
    missing = set(keys) - document.keys()
    if missing:
        raise StartupError(f"the server is not a controller: its response has no {min(missing)}")
    return document
