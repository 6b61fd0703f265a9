"""Declares the plugin. Both processes import this module, so it imports neither half."""

import msgspec

from maesh_core.plugin import Plugin, find_header_problem


class BlankSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `--set blank.KEY=VALUE` takes. Every field has a default."""

    header: str = "X-Blank"
    """The header's name."""

    def __post_init__(self) -> None:
        """Check what a type cannot say; ValueError stops the start."""
        if problem := find_header_problem(self.header):
            raise ValueError(f"header: {self.header!r} {problem}")


class ServiceBlank(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one service, as they travel from controller to proxy."""

    header: str
    value: str


PLUGIN = Plugin(
    hook_api_version=1,
    settings=BlankSettings,
    controller="maesh_blank.controller:ControllerHalf",
    proxy="maesh_blank.proxy:ProxyHalf",
)
