"""The mesh's annotations: two prefixes, one set of names, and one way to read a value.

Takes the annotations of a Kubernetes object; returns those of the mesh, without prefix. Which names have a meaning, and
which values are valid, is not decided here: controller/configuration/group_build.py reads the annotations of a service,
and controller/configuration/port_plan.py selects those of each of its ports.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from maesh_core.errors import ConfigurationError
from maesh_core.model.addresses import parse_address
from maesh_core.model.configuration import ROUND_ROBIN
from maesh_core.model.keys import is_subdomain
from maesh_core.model.schemes import DEFAULT_SCHEME, SCHEMES, TCP_SCHEMES, TRAFFIC_TYPE_BY_APP_PROTOCOL
from maesh_core.model.topology import PortNode
from maesh_core.values.parsing import parse_value
from maesh_core.values.spelling import suggest

SHOWN_CHARACTERS = 80
"""Limit of a quoted invalid value, in characters."""

PREFIXES = ("maesh.containo.us/", "mesh.traefik.io/")
"""In order of precedence, lowest first: if two annotations have the same name, the last prefix wins (Maesh 1.4)."""

TRAFFIC_TYPE = "traffic-type"
SCHEME = "scheme"
SERVER_NAME = "server-name"
LOAD_BALANCER = "load-balancer"
ENTRYPOINT = "entrypoint"
EGRESS_HOST = "egress-host"
EGRESS_FORWARDED = "egress-forwarded"


def parse_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations that have a prefix of the mesh, without it, sorted by name."""
    found = [
        (name, position, value)
        for full_name, value in annotations.items()
        for position, name in _split_prefix(full_name)
    ]
    return {name: value for name, _, value in sorted(found)}


class PortAnnotations(NamedTuple):
    """Annotations without prefix: `shared` for all ports of a service, `own` for one port, by its name or number."""

    shared: Mapping[str, str]
    own: Mapping[str, Mapping[str, str]]

    def select(self, port: PortNode) -> Mapping[str, str]:
        """Return the annotations of a port: its own ones replace those for all ports.

        Raises ConfigurationError if its name and its number have different values of one annotation.
        """
        by_number = self.own.get(str(port.number), {})
        by_name = self.own.get(port.name, {}) if port.name else {}
        if not (by_number or by_name):
            return self.shared
        for name in sorted(by_number.keys() & by_name.keys()):
            if by_number[name] != by_name[name]:
                raise ConfigurationError(
                    f"annotations {port.number}.{name} and {port.name}.{name} are of one port, with different values"
                )
        return dict(sorted({**self.shared, **by_number, **by_name}.items()))

    def find_traffic_type(self, port: PortNode) -> str | None:
        """Return the traffic type that they or its `appProtocol` select for a port; None if neither does."""
        chosen = self.select(port).get(TRAFFIC_TYPE)
        if chosen is None and port.protocol == "TCP":
            return TRAFFIC_TYPE_BY_APP_PROTOCOL.get(port.app_protocol)
        return chosen


def split_port_annotations(annotations: Mapping[str, str]) -> PortAnnotations:
    """Split annotations without prefix: `PORT.NAME` is the annotation NAME of one port.

    No annotation of the mesh and no name of a port has a dot (RFC 6335), so the first dot ends the port.
    """
    shared: dict[str, str] = {}
    own: dict[str, dict[str, str]] = {}
    for full_name, value in annotations.items():
        port, dot, name = full_name.partition(".")
        if dot and "/" not in full_name:
            own.setdefault(port, {})[name] = value
        else:
            shared[full_name] = value
    return PortAnnotations(shared, own)


def select_annotations(annotations: Mapping[str, str], port: PortNode) -> Mapping[str, str]:
    """Return the annotations of one port of an object, without prefix; raises as `PortAnnotations.select` does."""
    return split_port_annotations(parse_annotations(annotations)).select(port)


def find_chosen_traffic_type(annotations: Mapping[str, str], port: PortNode) -> str | None:
    """Return the traffic type that an object's annotations or `appProtocol` select for a port; None if neither does.

    Other things decide then, such as routes and the default. Raises as `PortAnnotations.select` does.
    """
    return split_port_annotations(parse_annotations(annotations)).find_traffic_type(port)


def add_plain_names(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Return an object's annotations as plugins read them: the mesh's without prefix, others by full name.

    An annotation of the object without a prefix is left out.
    """
    return {
        **{name: value for name, value in annotations.items() if "/" in name},
        **parse_annotations(annotations),
    }


def read_annotation(annotations: Mapping[str, str], name: str, type_: Any) -> Any:
    """Convert an annotation's value to a type with its rules, as `Annotated[int, Meta(ge=1)]`; None if it is absent.

    Raises ConfigurationError, which names the annotation, the value and the rule.
    """
    text = annotations.get(name)
    if text is None:
        return None
    try:
        return parse_value(text, type_)
    except ValueError as error:
        raise build_annotation_error(name, text, f"is not {error}") from error


def parse_load_balancer(annotations: Mapping[str, str], known: Sequence[str]) -> str:
    """Read the load balancer; raises ConfigurationError if the traffic type does not support it."""
    kind = annotations.get(LOAD_BALANCER, ROUND_ROBIN)
    if kind not in known:
        raise ConfigurationError(f"annotation {LOAD_BALANCER}: {kind!r} is not one of {', '.join(known)}")
    return known[known.index(kind)]  # the identical object, so that a default is left out of the encoding


def parse_stream_scheme(annotations: Mapping[str, str], known: Sequence[str]) -> str:
    """Read the scheme of the servers of a stream protocol that has the schemes `known`, the default first.

    The schemes of HTTP have no effect on streams, as they may be those of other ports of the service. A scheme of
    streams that the protocol does not have is an error, since a server would get in clear what should be encrypted.
    Raises ConfigurationError.
    """
    scheme = annotations.get(SCHEME, DEFAULT_SCHEME)
    if scheme in SCHEMES or scheme == (known or TCP_SCHEMES)[0]:
        return DEFAULT_SCHEME
    if scheme not in known:
        every = ", ".join((*SCHEMES, *TCP_SCHEMES))
        rule = f"is not one of {every}" if scheme not in TCP_SCHEMES else "is only for tcp"
        raise build_annotation_error(SCHEME, scheme, rule, known=known)
    return known[known.index(scheme)]


def parse_server_name(annotations: Mapping[str, str]) -> str:
    """Read the name that servers must have in their certificates; empty for the default. Raises ConfigurationError."""
    name = annotations.get(SERVER_NAME, "")
    if SERVER_NAME in annotations and (not is_subdomain(name) or parse_address(name) is not None):
        raise build_annotation_error(SERVER_NAME, name, "is not a DNS name in lower case")
    return name


def build_annotation_error(name: str, text: str, rule: str, *, known: Iterable[str] = ()) -> ConfigurationError:
    """Build the error for an invalid value: `rule` describes the problem, as in `is not a whole number`.

    If a value of `known` is similar to `text`, the error suggests it.
    """
    shown = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."
    return ConfigurationError(f"annotation {name}: {shown!r} {rule}{suggest(text, known)}")


def _split_prefix(full_name: str) -> Iterator[tuple[int, str]]:
    for position, prefix in enumerate(PREFIXES):
        if full_name.startswith(prefix):
            yield position, full_name[len(prefix) :]
