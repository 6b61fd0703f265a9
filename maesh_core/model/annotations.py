"""The mesh's annotations: two prefixes, one set of names.

Takes the annotations of a Kubernetes object, gives those that are the mesh's, without prefix. Which names mean
something, and what values are legal, is not decided here.
"""

from collections.abc import Iterator, Mapping

PREFIXES = ("maesh.containo.us/", "mesh.traefik.io/")
"""Weakest first: of two annotations with one name the last prefix wins (Maesh 1.4)."""

TRAFFIC_TYPE = "traffic-type"
SCHEME = "scheme"
LOAD_BALANCER = "load-balancer"


def parse_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """Pick the annotations that have a prefix of the mesh, without it, sorted by name."""
    found = [
        (name, position, value)
        for full_name, value in annotations.items()
        for position, name in _split_prefix(full_name)
    ]
    return {name: value for name, _, value in sorted(found)}


def _split_prefix(full_name: str) -> Iterator[tuple[int, str]]:
    for position, prefix in enumerate(PREFIXES):
        if full_name.startswith(prefix):
            yield position, full_name[len(prefix) :]
