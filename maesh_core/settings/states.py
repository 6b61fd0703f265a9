"""The settings of the commands that build states of the mesh from manifests: `maesh diff` and `maesh simulate`.

They are declared as all settings are (maesh_core/settings/__init__.py). `build_controller_settings` turns the settings
of any command that reads manifests into those of the controller whose engine it runs.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta

from maesh_core.settings import ClusterSettings, CommonSettings, ControllerSettings, InstalledPlugin, LogLevel


@dataclass(frozen=True, kw_only=True)
class StateSettings(CommonSettings):
    """What determines a state that is built from manifests."""

    log_level: Annotated[LogLevel, Meta(description="Lowest level of log lines to write.")] = "error"
    json: Annotated[bool, Meta(description="Print JSON instead of text.")] = False
    recursive: Annotated[bool, Meta(description="Read manifests in subfolders too.")] = False
    namespace: Annotated[str, Meta(description="Namespace of the mesh itself.")] = "maesh"
    default_mode: Annotated[str, Meta(description="Traffic type of services without the annotation.")] = "http"
    watch_namespaces: Annotated[tuple[str, ...], Meta(description="The only namespaces to watch; default: all.")] = ()
    ignore_namespaces: Annotated[
        tuple[str, ...], Meta(description="Namespaces to ignore, even if they are watched.")
    ] = ()


@dataclass(frozen=True, kw_only=True)
class DiffSettings(StateSettings, ClusterSettings):
    """Settings of `maesh diff`."""

    fail_on: Annotated[
        Literal["never", "opens-access", "closes-access", "changes"],
        Meta(
            description="What makes the exit status 3: access that is opened, access that is opened or closed, or any"
            " change."
        ),
    ] = "never"


@dataclass(frozen=True, kw_only=True)
class SimulateSettings(StateSettings):
    """Settings of `maesh simulate`."""

    junit: Annotated[str, Meta(description="Also write the results to this file, as JUnit XML.")] = ""


class ReadingSettings(Protocol):
    """The settings that every command that reads manifests has."""

    @property
    def recursive(self) -> bool: ...  # noqa: D102
    @property
    def namespace(self) -> str: ...  # noqa: D102
    @property
    def default_mode(self) -> str: ...  # noqa: D102
    @property
    def watch_namespaces(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def ignore_namespaces(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def plugin_settings(self) -> dict[str, dict[str, Any]]: ...  # noqa: D102


def build_controller_settings(
    settings: ReadingSettings, paths: tuple[str, ...], plugins: tuple[InstalledPlugin, ...]
) -> ControllerSettings:
    """Build the settings of a controller that reads these paths with these plugins."""
    return ControllerSettings(
        paths=paths,
        recursive=settings.recursive,
        namespace=settings.namespace,
        default_mode=settings.default_mode,
        watch_namespaces=settings.watch_namespaces,
        ignore_namespaces=settings.ignore_namespaces,
        plugins=plugins,
        plugin_settings=settings.plugin_settings,
    )
