"""The interfaces of sources of requests: what of a request identifies a client, for plugins that limit each client.

The core has the sources of model/request_sources.py; plugins add further kinds, such as `claim` of the plugin jwt.
Declares, and does nothing.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from maesh_core.plugin_system.interfaces import Exchange

# --- request sources -------------------------------------------------------------------------------------------------

SourceReader: TypeAlias = Callable[[Exchange], str | bytes | None]
"""Returns what identifies the client of a request; None if whoever asks must leave the request alone."""


class SourceKind(Protocol):
    """A kind of sources of a plugin, in the controller: `NAME:ARGUMENT` in annotations."""

    name: str
    """A DNS label, which is no kind of the core."""

    def find_argument_problem(self, argument: str) -> str | None:
        """Explain why an argument is invalid, as the end of a sentence; None if it is valid."""


class SourcedBuilder(Protocol):
    """An optional part of a middleware's builder: one whose annotations name sources."""

    def use_source_kinds(self, kinds: Mapping[str, SourceKind]) -> None:
        """Know the kinds that enabled plugins add, by name; called once, before anything is built."""


class RequestSource(Protocol):
    """A kind of sources of a plugin, in the proxy. It must not block, and bound what it remembers."""

    name: str
    """The name of its `SourceKind`."""

    def build_reader(self, argument: str) -> SourceReader:
        """Build the function that reads one source from requests; raising refuses the routes that need it.

        A request without the value must get a value of its own, not None: clients must not escape a limit by leaving
        something out.
        """
