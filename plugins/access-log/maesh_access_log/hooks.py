"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_access_log import AccessLogSettings
from maesh_access_log.observer import AccessLog
from maesh_access_log.output import Output
from maesh_access_log.writer import BatchWriter
from maesh_core.plugin import ConfigurationError, Node, TrafficObserver, hookimpl


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: AccessLogSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_traffic_observers(self, node: Node) -> Sequence[TrafficObserver]:
        """Open the log. Raises ConfigurationError if its file cannot be opened."""
        try:
            output = Output(self._settings.file)
        except OSError as error:
            raise ConfigurationError(f"cannot open {self._settings.file}: {error.strerror}") from error
        pods = node.follow_pod_names() if self._settings.shows_pods else None
        log = AccessLog(self._settings, BatchWriter(output), pods)
        node.clock.add_sweep(log.flush)
        log.follow_signal()
        return [log]
