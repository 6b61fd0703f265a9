"""Every exception class of the mesh.

All derive from MaeshError. A start-up error ends the command with one line. A configuration error is shown on the
object that it concerns, and other objects are not affected. An error of the proxy has the HTTP status of its response.
"""


class MaeshError(Exception):
    """The base of all errors that the mesh raises deliberately. The text is one line for users."""


class StartupError(MaeshError):
    """A start-up error: the command prints the text as its last line and exits with status 1."""


class SettingsError(StartupError):
    """A flag, variable, file entry or plugin setting is unknown or has an invalid value."""


class PluginError(StartupError):
    """A plugin is unknown, cannot be loaded, or conflicts with another; the text names the distributions."""


class ManifestError(MaeshError):
    """A document of a manifest cannot be used. `origin` is `FILE document N line M`.

    `kind` and `key` (namespace and name) identify the object, as far as they are known.
    """

    def __init__(self, origin: str, text: str, *, kind: str = "", key: tuple[str, str] | None = None) -> None:
        super().__init__(f"{origin}: {text}")
        self.origin = origin
        self.text = text
        self.kind = kind
        self.key = key


class ConfigurationError(MaeshError):
    """A service, or an object that concerns it, cannot be configured as requested. It closes only this service.

    The text is shown on the service and sent to its clients. `detail`, such as the text of a library's error, is shown
    after it, but not sent to clients.
    """

    def __init__(self, text: str = "", *, detail: str = "") -> None:
        super().__init__(f"{text}: {detail}" if detail else text)
        self.reason = text


class UpdateRejectedError(MaeshError):
    """The controller sent an invalid configuration; the proxy keeps its current one."""


class PullError(MaeshError):
    """The controller is unreachable, or answered a pull with neither a configuration nor 304."""


class ControllerUnreachableError(MaeshError):
    """No controller answers a command at an address, and none has done anything: another one can be asked."""


class ControllerLostError(MaeshError):
    """A controller that was asked to change something is lost before it has answered: it may have changed it."""


class ApiRefusedError(MaeshError):
    """A controller has answered a command with a status that is no success."""

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text)
        self.status = status


class NodeUnreachableError(MaeshError):
    """A proxy is unreachable, or answered a request for its configuration or its traffic with something else."""


class TrafficUnavailableError(MaeshError):
    """The traffic of the mesh cannot be measured; the text says why."""


class KubernetesError(MaeshError):
    """A request to the API server failed. `status` is the HTTP status, or 0 without a complete response.

    `reason` is that of its Status object (`AlreadyExists`, `Conflict`, `Expired`). `retry_after_s` is the time for
    which it asks clients to wait.
    """

    def __init__(self, text: str, *, status: int = 0, reason: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class ClusterDnsError(MaeshError):
    """The configuration of the cluster's DNS is not supported; nothing was written."""


class ExchangeError(MaeshError):
    """An exchange ends with a response of the mesh, with this `status` and the text as its reason."""

    status = 500

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        if status is not None:
            self.status = status


class ClientProtocolError(ExchangeError):
    """The client sent something that is not a valid request, or must not be forwarded (RFC 9112)."""

    status = 400


class MalformedMessageError(MaeshError):
    """An HTTP/2 message is malformed: its stream ends with PROTOCOL_ERROR (RFC 9113 section 8.1.1)."""


class UpstreamProtocolError(ExchangeError):
    """The upstream sent something that is not a valid response to the request."""

    status = 502


class UpstreamNotReachedError(ExchangeError):
    """No byte of the request has reached an upstream, so another attempt cannot repeat an effect."""

    status = 502


class ConnectTimeoutError(UpstreamNotReachedError):
    """No connection to an upstream was established in time."""

    status = 504


class ServerNotTriedError(UpstreamNotReachedError):
    """The server's node could not be asked for a connection, or does not have the server; another server may work.

    It says nothing about the server itself, which is not set aside. The same attempt continues with another one.
    """

    status = 503


class DeliveryDeniedError(ExchangeError):
    """The server's node has denied the connection. No other attempt follows, whatever middlewares request."""

    status = 403


class UpstreamTimeoutError(ExchangeError):
    """The upstream did not answer in time."""

    status = 504


class ListTooLargeError(ExchangeError):
    """A list of header fields or trailers is larger than SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 section 6.5.2).

    The decoder's state is right: the connection goes on, and only the message is refused.
    """

    status = 431


class CompressionError(MaeshError):
    """A peer's header block cannot be decoded, so the states of both ends differ from now on.

    The connection must end with the error COMPRESSION_ERROR (RFC 9113 section 4.3).
    """
