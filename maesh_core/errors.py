"""Every exception class of the mesh.

One base; below it start-up errors (the command ends with one line), configuration errors (kept on the object they
concern while the build goes on), and the proxy's errors, each with the HTTP status it becomes.
"""


class MaeshError(Exception):
    """Base of every error the mesh raises on purpose; its text is one line for a person."""


class StartupError(MaeshError):
    """A process cannot start: the command prints the text as its last line and exits with status 1."""


class SettingsError(StartupError):
    """A flag, variable, file entry or plugin setting is unknown or has a bad value."""


class PluginError(StartupError):
    """A plugin is unknown, cannot be loaded, or collides with another; the text names the distributions."""


class ManifestError(MaeshError):
    """A document of a manifest cannot be used; `origin` is `FILE document N line M`.

    `kind` and `key`, namespace and name, name the object as far as they are known.
    """

    def __init__(self, origin: str, text: str, *, kind: str = "", key: tuple[str, str] | None = None) -> None:
        super().__init__(f"{origin}: {text}")
        self.origin = origin
        self.text = text
        self.kind = kind
        self.key = key


class ConfigurationError(MaeshError):
    """A service, or an object that concerns it, cannot be configured as it says; closes that service alone.

    Its text is shown on the service and sent to the service's clients; `detail`, such as what a library says, is shown
    behind it and sent to nobody.
    """

    def __init__(self, text: str = "", *, detail: str = "") -> None:
        super().__init__(f"{text}: {detail}" if detail else text)
        self.reason = text


class UpdateRejectedError(MaeshError):
    """The controller sent what is not a configuration; the proxy keeps the one it has."""


class PullError(MaeshError):
    """The controller could not be reached, or answered a pull with neither a configuration nor 304."""


class NodeUnreachableError(MaeshError):
    """A proxy could not be asked for its configuration, or answered with something else."""


class KubernetesError(MaeshError):
    """The API server did not do what was asked. `status` is the HTTP status, 0 where no whole answer came.

    `reason` is the one of its Status object (`AlreadyExists`, `Conflict`, `Expired`); `retry_after_s` is what it asks
    clients to wait.
    """

    def __init__(self, text: str, *, status: int = 0, reason: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class ClusterDnsError(MaeshError):
    """The cluster's DNS has a configuration that the mesh does not support; nothing was written."""


class ExchangeError(MaeshError):
    """One exchange ends with an answer of the mesh: `status`, and the text as reason."""

    status = 500

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        if status is not None:
            self.status = status


class ClientProtocolError(ExchangeError):
    """The client's bytes are not a request that may be passed on (RFC 9112)."""

    status = 400


class UpstreamProtocolError(ExchangeError):
    """The upstream's bytes are not a response to the request it was sent."""

    status = 502


class UpstreamNotReachedError(ExchangeError):
    """No byte of the request reached an upstream: another attempt cannot repeat an effect."""

    status = 502


class ConnectTimeoutError(UpstreamNotReachedError):
    """No connection to an upstream was to be had in time."""

    status = 504


class UpstreamTimeoutError(ExchangeError):
    """The upstream did not answer in time."""

    status = 504
