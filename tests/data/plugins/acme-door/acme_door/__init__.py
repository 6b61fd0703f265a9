"""A guard with a setting that it requires."""

import msgspec

from maesh_core.plugin import Plugin


class DoorSettings(msgspec.Struct, frozen=True):
    """What `--set door.KEY=VALUE` takes."""

    key: str = ""

    def __post_init__(self):
        if not self.key:
            raise ValueError("key: a door needs one")


class ServiceDoor(msgspec.Struct, frozen=True):
    """What travels from one half to the other."""

    key: str


PLUGIN = Plugin(
    hook_api_version=1,
    settings=DoorSettings,
    controller="acme_door.controller:ControllerHalf",
    proxy="acme_door.proxy:ProxyHalf",
    is_access_control=True,
)
