"""The interfaces of sources of requests: the parts of a request that identify its client, for limits of each client.

The core has the sources of model/request_sources.py; plugins add further kinds, such as `claim` of the plugin jwt.
Interfaces only.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from maesh_core.plugin_system.interfaces import Exchange

# --- request sources -------------------------------------------------------------------------------------------------

SourceReader: TypeAlias = Callable[[Exchange], str | bytes | None]
"""Returns what identifies the client of a request; None: the caller's limit does not apply to the request."""


class SourceKind(Protocol):
    """A kind of sources of a plugin, in the controller: `NAME:ARGUMENT` in annotations."""

    name: str
    """A DNS label, which is no kind of the core."""

    def find_argument_problem(self, argument: str) -> str | None:
        """Explain why an argument is invalid, as the end of a sentence; None if it is valid."""


class SourcedBuilder(Protocol):
    """An optional part of a middleware's builder: one whose annotations name sources."""

    def use_source_kinds(self, kinds: Mapping[str, SourceKind]) -> None:
        """Store the kinds that enabled plugins add, by name. Called once, before anything is built."""


class RequestSource(Protocol):
    """A kind of sources of a plugin, in the proxy. It must not block, and must bound what it remembers."""

    name: str
    """The name of its `SourceKind`."""

    def build_reader(self, argument: str) -> SourceReader:
        """Build the function that reads one source from requests; raising refuses the routes that need it.

        For a request without the value, the function must return another value, not None: clients must not escape a
        limit by leaving something out.
        """
