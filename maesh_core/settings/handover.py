"""How one process of the mesh gives another its settings: as JSON, in a variable of its environment.

The one module about settings that the proxy's processes import: where settings come from, and how they merge, was the
command line's to know. A variable, because arguments are shown to every user of the machine.
"""

import msgspec

from maesh_core.errors import SettingsError
from maesh_core.settings import ProxySettings

PROXY_SETTINGS_VARIABLE = "MAESH_PROXY_SETTINGS_JSON"
"""Hands the proxy, and each of its workers, its settings."""

PARENT_PIPE_VARIABLE = "MAESH_PARENT_PIPE"
"""Names the descriptor of a pipe that ends when the process that started this one does."""

SETTINGS_DESCRIPTOR_VARIABLE = "MAESH_SETTINGS_DESCRIPTOR"
"""Names the descriptor from which a program that the command line has become reads its settings."""

INTERNAL_VARIABLES = frozenset({PROXY_SETTINGS_VARIABLE, PARENT_PIPE_VARIABLE, SETTINGS_DESCRIPTOR_VARIABLE})
"""With these one process of the mesh starts another; they are not settings."""


def render_proxy_settings(settings: ProxySettings) -> str:
    """Write the settings of a proxy as the text of PROXY_SETTINGS_VARIABLE."""
    return msgspec.json.encode(settings).decode()


def parse_proxy_settings(text: str) -> ProxySettings:
    """Read what render_proxy_settings wrote; raises SettingsError."""
    try:
        return msgspec.json.decode(text, type=ProxySettings)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{PROXY_SETTINGS_VARIABLE}: not the settings of a proxy: {error}") from error
