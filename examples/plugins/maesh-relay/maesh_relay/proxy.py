"""What a worker of a proxy loads: the transport, with the secret of all nodes."""

from collections.abc import Sequence
from pathlib import Path

from maesh_core.plugin import ConfigurationError, Node, Transport, hookimpl
from maesh_relay import RelaySettings
from maesh_relay.transport import RelayTransport
from maesh_relay.wire import SECRET_BYTES


class ProxyHalf:
    """The hooks of a worker. Raises ConfigurationError without a usable secret."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._secret = read_secret(settings.secret_file)

    @hookimpl
    def maesh_transports(self, node: Node) -> Sequence[Transport]:
        """Return the only transport of this plugin."""
        return [RelayTransport(node, self._settings, self._secret)]


def read_secret(file: str) -> bytes:
    """Read the secret of all nodes, without white space around it. Raises ConfigurationError."""
    if not file:
        raise ConfigurationError("the setting relay.secret-file is missing")
    try:
        secret = Path(file).read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"relay.secret-file: {file}: {error.strerror}") from error
    if len(secret) < SECRET_BYTES:
        raise ConfigurationError(f"relay.secret-file: {file} has less than {SECRET_BYTES} bytes")
    return secret
