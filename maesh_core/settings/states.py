"""The settings of the commands that build states of the mesh from manifests: `maesh diff` and `maesh simulate`.

They are declared as all settings are (maesh_core/settings/__init__.py). `build_controller_settings` turns the settings
of any command that reads manifests into those of the controller whose engine it runs.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from maesh_core.settings import ClusterSettings, ControllerSettings, InstalledPlugin, LogLevel, ManifestSettings
from maesh_core.settings.fields import SOURCE_NAME


@dataclass(frozen=True, kw_only=True)
class StateSettings(ManifestSettings):
    """What both commands have."""

    log_level: Annotated[LogLevel, Meta(description="Lowest level of log lines to write.")] = "error"
    json: Annotated[bool, Meta(description="Print JSON instead of text.")] = False


@dataclass(frozen=True, kw_only=True)
class DiffSettings(StateSettings, ClusterSettings):
    """Settings of `maesh diff`."""

    fail_on: Annotated[
        Literal["never", "opens-access", "closes-access", "changes"],
        Meta(
            description="What makes the exit status 3: access that is opened, access that is opened or closed, or any"
            " change.",
            extra={SOURCE_NAME: "diff_fail_on"},  # check has other values
        ),
    ] = "never"


@dataclass(frozen=True, kw_only=True)
class SimulateSettings(StateSettings):
    """Settings of `maesh simulate`."""

    junit: Annotated[str, Meta(description="Also write the results to this file, as JUnit XML.")] = ""


def build_controller_settings(
    settings: ManifestSettings, paths: tuple[str, ...], plugins: tuple[InstalledPlugin, ...]
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
