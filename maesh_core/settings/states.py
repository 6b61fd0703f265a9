"""The settings of the commands that build states of the mesh from manifests: `maesh diff` and `maesh simulate`.

They are declared as all settings are (maesh_core/settings/__init__.py).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from maesh_core.settings import ClusterSettings, CommonSettings, LogLevel


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
