"""What a process was started with: the settings of each command, declared once.

A field is a flag (`--api-port`), an environment variable (`MAESH_API_PORT`), an entry of the configuration file
(`api-port`) and a line of the help text and the documentation. Where they come from and how they merge is in
maesh_core/settings/loading.py.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from maesh_core.values.parsing import Duration, NetworkList

Port = Annotated[int, Meta(ge=0, le=65535)]
"""0 lets the kernel choose one."""
FirstPort = Annotated[int, Meta(ge=1, le=65535)]
"""The first port of a range: the configuration names the ports, so nothing can choose them later."""
Limit = Annotated[int, Meta(ge=1)]
LimitOrNone = Annotated[int, Meta(ge=0)]

LogLevel = Literal["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"]


@dataclass(frozen=True, kw_only=True)
class InstalledPlugin:
    """What package metadata says of one plugin. `path` is the entry point's value, `package.module:attribute`."""

    name: str
    distribution: str
    version: str
    summary: str
    is_default: bool
    path: str

    @property
    def label(self) -> str:
        """The plugin and its distribution, as errors name them."""
        return f"plugin '{self.name}' ({self.distribution} {self.version})"


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """What every long-running command takes.

    `plugins` are those that are enabled, of what is installed; `plugin_settings` their raw settings, by plugin name and
    key. Both are filled from flags such as `--acl` and `--set NAME.KEY=VALUE`, not from fields of their own. `origins`
    says for error texts where each setting came from, by `NAME.KEY`.
    """

    log_level: Annotated[LogLevel, Meta(description="Lowest level of log lines written.")] = "error"
    log_format: Annotated[
        Literal["common", "json"], Meta(description="Log lines as text or as one JSON object each.")
    ] = "common"
    plugins: tuple[InstalledPlugin, ...] = ()
    plugin_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MeshSettings(CommonSettings):
    """What decides on the configuration: shared by `controller` and `up`."""

    namespace: Annotated[str, Meta(description="Namespace that the mesh itself lives in.")] = "maesh"
    default_mode: Annotated[str, Meta(description="Traffic type of services without the annotation.")] = "http"
    ignore_namespaces: Annotated[
        tuple[str, ...], Meta(description="Namespaces left alone; ignoring beats watching.")
    ] = ()
    watch_namespaces: Annotated[tuple[str, ...], Meta(description="The only namespaces looked at; none: all.")] = ()
    recursive: Annotated[bool, Meta(description="Read manifests in sub-folders too.")] = False
    http_port: Annotated[FirstPort, Meta(description="First HTTP entrypoint.")] = 5000
    tcp_port: Annotated[FirstPort, Meta(description="First TCP entrypoint.")] = 10000
    limit_http_port: Annotated[Limit, Meta(description="How many HTTP entrypoints there may be.")] = 100
    limit_tcp_port: Annotated[Limit, Meta(description="How many TCP entrypoints there may be.")] = 1000
    port_mapping: Annotated[
        str,
        Meta(description="File that keeps each port's TCP or UDP entrypoint; default: one for each set of paths."),
    ] = ""
    api_port: Annotated[Port, Meta(description="Port of the controller's API.")] = 9000


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(CommonSettings):
    """Which cluster is meant: shared by the commands that speak to its API server."""

    kubeconfig: Annotated[
        str,
        Meta(description="How to reach the cluster; default: the pod's account, KUBECONFIG, ~/.kube/config."),
    ] = ""
    master_url: Annotated[str, Meta(description="Address of the API server, in place of the kubeconfig's.")] = ""


@dataclass(frozen=True, kw_only=True)
class ControllerSettings(MeshSettings, ClusterSettings):
    """Settings of `maesh controller`."""

    paths: tuple[str, ...] = ()
    api_host: Annotated[str, Meta(description="Address that the API listens on; empty: all.")] = ""
    cluster_domain: Annotated[str, Meta(description="The cluster's DNS domain.")] = "cluster.local"


@dataclass(frozen=True, kw_only=True)
class CarryingSettings(CommonSettings):
    """What decides how traffic is carried: shared by `proxy` and `up`."""

    admin_port: Annotated[Port, Meta(description="Port for /ping, /ready, /metrics, /status, /configuration.")] = 8080
    workers: Annotated[
        int, Meta(ge=1, le=256, description="Processes that carry traffic; at best one for each core.")
    ] = 1
    node: Annotated[str, Meta(description="Name under which this proxy pulls; default: the host's name.")] = ""
    head_limit: Annotated[
        int, Meta(ge=1024, description="Largest head of a request or response, in bytes; above: 431, 502.")
    ] = 65536
    target_limit: Annotated[int, Meta(ge=256, description="Longest request line, in bytes; above: 414.")] = 16384
    field_limit: Annotated[
        int, Meta(ge=64, description="Most header fields of a request or response; above: 431, 502.")
    ] = 100
    body_limit: Annotated[LimitOrNone, Meta(description="Largest request body, in bytes; above: 413; 0: no limit.")] = 0
    connection_limit: Annotated[
        LimitOrNone,
        Meta(
            description="Clients of HTTP, and of TCP, that a worker serves at a time; at the limit, idle HTTP"
            " connections are closed for new ones, then new ones are refused; 0: no limit."
        ),
    ] = 10000
    client_connection_limit: Annotated[
        LimitOrNone,
        Meta(
            description="Connections of one client address, HTTP's and TCP's apart, that a worker serves at a time;"
            " more are refused; 0: no limit."
        ),
    ] = 0
    request_limit: Annotated[
        LimitOrNone, Meta(description="Requests of one client's connection, then it is closed; 0: no limit.")
    ] = 0
    half_closed_clients: Annotated[
        Literal["drop", "serve"],
        Meta(description="HTTP clients that end their side while they wait: taken to have left, or answered."),
    ] = "drop"
    forwarded_headers: Annotated[
        NetworkList,
        Meta(
            description="Clients whose X-Forwarded-*, X-Real-Ip and Forwarded are kept: all, none, or addresses and"
            " networks; those of others are replaced."
        ),
    ] = ("all",)
    drop_shadowing_headers: Annotated[
        bool,
        Meta(
            description="Drop request headers that a server may read as X-Forwarded-*, X-Real-Ip, Content-Length or"
            " Transfer-Encoding, since they have an underscore for a dash."
        ),
    ] = True
    unregistered_methods: Annotated[
        Literal["refuse", "carry"],
        Meta(description="Answer requests whose method the mesh does not know with 501, or carry them."),
    ] = "refuse"
    head_timeout: Annotated[Duration, Meta(description="For a client to send a request's head; then 408.")] = 10.0
    idle_timeout: Annotated[Duration, Meta(description="A client's connection may lie idle this long.")] = 90.0
    body_timeout: Annotated[
        Duration, Meta(description="Longest pause of a client in a body it sends or reads; then it is cut.")
    ] = 60.0
    upstream_body_timeout: Annotated[
        Duration, Meta(description="Longest pause of an upstream in a body it sends or reads; then it is cut, or 504.")
    ] = 60.0
    connect_timeout: Annotated[
        Duration, Meta(description="For a connection to an upstream; then 504, or TCP's next server.")
    ] = 5.0
    response_timeout: Annotated[Duration, Meta(description="For an upstream's response head; then 504.")] = 60.0
    upstream_idle_timeout: Annotated[
        Duration, Meta(description="A pooled upstream connection is kept this long without use.")
    ] = 60.0
    passive_health: Annotated[
        bool, Meta(description="Set servers aside that take no connection or break one instead of answering.")
    ] = True
    server_pause: Annotated[
        Duration, Meta(description="First pause of a server that is set aside; each failure then doubles it.")
    ] = 1.0
    server_pause_limit: Annotated[Duration, Meta(description="Longest pause of a server that is set aside.")] = 30.0
    root_ca: Annotated[
        str, Meta(description="File of certificates (PEM) believed besides the system's, from servers with https.")
    ] = ""
    insecure_skip_verify: Annotated[bool, Meta(description="Believe any certificate of servers with https.")] = False
    tunnel_timeout: Annotated[
        Duration, Meta(description="A tunnel (WebSocket) or TCP connection may lie idle this long; 0: no limit.")
    ] = 0.0
    drain_timeout: Annotated[Duration, Meta(description="After SIGTERM, for what is under way to end.")] = 10.0


@dataclass(frozen=True, kw_only=True)
class ProxySettings(CarryingSettings):
    """Settings of `maesh proxy`."""

    endpoint: Annotated[str, Meta(description="The controller's base URL, or the full one of its configuration.")] = ""
    bind: Annotated[str, Meta(description="Address that entrypoints listen on; empty: all.")] = ""
    admin_host: Annotated[str, Meta(description="Address that the admin port listens on; empty: all.")] = ""
    configuration_cache: Annotated[
        str, Meta(description="File that keeps the last configuration, to start with when the controller is away.")
    ] = ""


@dataclass(frozen=True, kw_only=True)
class UpSettings(MeshSettings, CarryingSettings):
    """Settings of `maesh up`."""

    log_level: Annotated[LogLevel, Meta(description="Lowest level of log lines written.")] = "warning"
    paths: tuple[str, ...] = ()
    bind: Annotated[str, Meta(description="Address of API, admin port and entrypoints.")] = "127.0.0.1"
    json: Annotated[bool, Meta(description="Print one line of JSON when ready, in place of the table.")] = False


@dataclass(frozen=True, kw_only=True)
class ExplainSettings(CommonSettings):
    """Settings of `maesh explain`."""

    endpoint: Annotated[str, Meta(description="The controller's base URL, or the full one of its configuration.")] = (
        "http://127.0.0.1:9000"
    )
    json: Annotated[bool, Meta(description="Print JSON in place of text.")] = False
    recursive: Annotated[bool, Meta(description="Read manifests in sub-folders too.")] = False
    default_mode: Annotated[str, Meta(description="Traffic type of services without the annotation.")] = "http"
    watch_namespaces: Annotated[tuple[str, ...], Meta(description="The only namespaces looked at; none: all.")] = ()
    ignore_namespaces: Annotated[
        tuple[str, ...], Meta(description="Namespaces left alone; ignoring beats watching.")
    ] = ()


@dataclass(frozen=True, kw_only=True)
class CleanupSettings(ClusterSettings):
    """Settings of `maesh cleanup`."""

    namespace: Annotated[str, Meta(description="Namespace that the mesh itself lives in.")] = "maesh"
    dry_run: Annotated[bool, Meta(description="Print what would be written as a diff, and write nothing.")] = False


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(CleanupSettings):
    """Settings of `maesh prepare`."""

    cluster_domain: Annotated[str, Meta(description="The cluster's DNS domain.")] = "cluster.local"


@dataclass(frozen=True, kw_only=True)
class StatusSettings(ClusterSettings):
    """Settings of `maesh status`."""

    endpoint: Annotated[
        str, Meta(description="One controller's base URL; default: the cluster's, else this machine's.")
    ] = ""
    namespace: Annotated[str, Meta(description="Namespace that the mesh itself lives in.")] = "maesh"
    json: Annotated[bool, Meta(description="Print JSON in place of tables.")] = False


@dataclass(frozen=True, kw_only=True)
class PluginsSettings(CommonSettings):
    """Settings of `maesh plugins`."""

    json: Annotated[bool, Meta(description="Print JSON in place of the table.")] = False
