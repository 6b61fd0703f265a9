"""Passes settings from one process of the mesh to another: as JSON, in an environment variable.

The proxy's processes import only this module about settings; the command line reads and merges them. A variable is
used, because every user of the machine can see the arguments of a process.
"""

import msgspec

from maesh_core.errors import SettingsError
from maesh_core.settings import ProxySettings

PROXY_SETTINGS_VARIABLE = "MAESH_PROXY_SETTINGS_JSON"
"""Has the settings of a proxy, and of each of its workers."""

PARENT_PIPE_VARIABLE = "MAESH_PARENT_PIPE"
"""Has the descriptor of a pipe that closes when the parent process ends."""

SETTINGS_DESCRIPTOR_VARIABLE = "MAESH_SETTINGS_DESCRIPTOR"
"""Has the descriptor from which a program that replaced the command line reads its settings."""

INTERNAL_VARIABLES = frozenset({PROXY_SETTINGS_VARIABLE, PARENT_PIPE_VARIABLE, SETTINGS_DESCRIPTOR_VARIABLE})
"""Used between processes of the mesh; they are not settings."""


def render_proxy_settings(settings: ProxySettings) -> str:
    """Render the settings of a proxy as the value of PROXY_SETTINGS_VARIABLE."""
    return msgspec.json.encode(settings).decode()


def parse_proxy_settings(text: str) -> ProxySettings:
    """Parse the text of render_proxy_settings; raises SettingsError."""
    try:
        return msgspec.json.decode(text, type=ProxySettings)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{PROXY_SETTINGS_VARIABLE}: not the settings of a proxy: {error}") from error
