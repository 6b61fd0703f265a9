"""The proxy's half."""

from acme_door import ServiceDoor
from maesh_core.plugin import Middleware, Response, hookimpl


class Door(Middleware):
    def __init__(self, settings):
        self._key = settings.key.encode()

    def on_request(self, exchange):
        if exchange.client_headers.get(b"x-key") == self._key:
            return None
        return Response(status=401, reason="the door is locked")


class DoorFactory:
    kind = "door"
    settings_type = ServiceDoor

    def build_middleware(self, settings, service):
        return Door(settings)


class ProxyHalf:
    def __init__(self, settings):
        pass

    @hookimpl
    def maesh_middleware_factories(self):
        return [DoorFactory()]
