"""Opens a connection to a server for attempts: TCP, then TLS if the scheme requires it. Chooses the protocol.

Takes a server and receivers (upstream_stream.py), and passes each receiver a connection or stream, or an error. The
scheme chooses between HTTP/1.1 and HTTP/2; with TLS, ALPN does. Until then this module owns the connection, and closes
it if it is cancelled, times out or has the wrong certificate. The connect time-out includes the TLS handshake.

Several receivers wait for one connection if its protocol is HTTP/2, or may be.
"""

import asyncio
import ssl
from typing import Protocol, cast

from maesh_core.errors import (
    ConnectTimeoutError,
    DeliveryDeniedError,
    ExchangeError,
    ServerNotTriedError,
    UpstreamNotReachedError,
)
from maesh_core.plugin_system.transports import Delivery, OpenFailure, RemoteServer
from maesh_core.proxy.http.answers import CONNECT_TIMEOUT, NO_STREAMS, NOT_CONNECTED
from maesh_core.proxy.http.http2.multiplexed_upstream import STREAMS_PER_CONNECTION, MultiplexedUpstream, StreamServer
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection
from maesh_core.proxy.http.upstreams.upstream_stream import ResponseReceiver, UpstreamStream
from maesh_core.proxy.transport.opening import open_path, start_tls_on_path
from maesh_core.proxy.transport.path_counts import ConnectionPath
from maesh_core.proxy.transport.paths import PATH_SHARE, UNREACHABLE, Choice, is_about_path


class ConnectablePool(StreamServer, Protocol):
    """The part of a server that this module uses."""

    __slots__ = ()

    key: ServerKey

    def connect(self, receiver: ResponseReceiver, *, is_upgrade: bool = False, is_fresh: bool = False) -> None:
        """Open a connection for a receiver, and pass it the connection or an error."""

    def note_fallback(self) -> None:
        """Record that a connection is in clear because the server's node was not reached."""

    def on_connect_ended(self, pending: "PendingConnection", receivers: list[ResponseReceiver]) -> None:
        """Record that a connect has ended, successfully or not."""

    def note_protocol(self, *, is_multiplexing: bool) -> None:
        """Record whether the server has chosen HTTP/2."""


class PendingConnection:
    """One connect. `task` ends when the receivers have their connection or their error.

    Each receiver counts in the server's `opened`; an HTTP/1.1 connection counts itself, in place of the first one.
    """

    __slots__ = ("_multiplexed", "_offers_http2", "_receivers", "_server", "_upstream", "task")

    def __init__(self, server: ConnectablePool, receiver: ResponseReceiver, *, offers_http2: bool) -> None:
        self._server = server
        self._offers_http2 = offers_http2
        self._receivers = [receiver]
        self._multiplexed: MultiplexedUpstream | None = None
        self._upstream: UpstreamConnection | None = None
        if server.key.scheme == "h2c":
            self._multiplexed = MultiplexedUpstream(server)
            server.opened += 1
        else:
            self._upstream = UpstreamConnection(server)
        self.task = asyncio.get_running_loop().create_task(self._run())

    def __repr__(self) -> str:
        return f"<PendingConnection {self._upstream or self._multiplexed!r} for {self._receivers!r}>"

    @property
    def is_wanted(self) -> bool:
        """Whether a receiver waits for this connection."""
        return bool(self._receivers)

    @property
    def has_room(self) -> bool:
        """Whether another receiver may wait for this connection."""
        return len(self._receivers) < STREAMS_PER_CONNECTION

    def join(self, receiver: ResponseReceiver) -> None:
        """Let another receiver wait for this connection."""
        self._receivers.append(receiver)
        self._server.opened += 1

    def cancel(self, receiver: ResponseReceiver) -> None:
        """Remove a receiver, which is not called. Without any, close the connection in whatever state it is.

        The cleanup happens here and not in the task, which may never have started.
        """
        self._receivers.remove(receiver)
        if self._receivers:
            self._server.opened -= 1
        else:
            self._discard()
            self.task.cancel()

    def _discard(self) -> None:
        upstream, self._upstream = self._upstream, None
        multiplexed, self._multiplexed = self._multiplexed, None
        if upstream is not None:
            upstream.discard()
        if multiplexed is not None:
            self._server.opened -= 1
            multiplexed.discard()

    async def _run(self) -> None:
        server = self._server
        try:
            error = await self._connect()
        except BaseException:
            self._discard()
            raise
        receivers, self._receivers = self._receivers, []
        server.on_connect_ended(self, receivers)
        server.opened -= max(0, len(receivers) - 1)
        upstream, multiplexed = self._upstream, self._multiplexed
        if not receivers:
            self._discard()
        elif error is None and multiplexed is not None and multiplexed.transport is not None:
            self._multiplexed = None
            server.opened -= 1
            self._pass_streams(multiplexed, receivers)
        elif error is None and upstream is not None and upstream.transport is not None:
            self._upstream = None
            self._pass_connection(upstream, receivers)
        else:
            self._discard()
            self._fail(error or UpstreamNotReachedError(NOT_CONNECTED), receivers)

    def _pass_streams(self, connection: MultiplexedUpstream, receivers: list[ResponseReceiver]) -> None:
        server = self._server
        if not connection.is_going_away:
            server.multiplexed.append(connection)
        server.note_protocol(is_multiplexing=True)
        for receiver in receivers:
            if connection.has_room:
                receiver.on_connected(connection.open_stream())
            elif connection.streams:
                server.connect(receiver)
            else:  # the next connection would be no better
                receiver.on_connect_failed(UpstreamNotReachedError(NO_STREAMS))

    def _pass_connection(self, upstream: UpstreamStream, receivers: list[ResponseReceiver]) -> None:
        if self._offers_http2:
            self._server.note_protocol(is_multiplexing=False)
        for receiver in receivers[1:]:
            self._server.connect(receiver)
        receivers[0].on_connected(upstream)

    def _fail(self, error: ExchangeError, receivers: list[ResponseReceiver]) -> None:
        if not isinstance(error, ServerNotTriedError | DeliveryDeniedError):
            self._server.note_failure(receivers[0])
        for receiver in receivers:
            receiver.on_connect_failed(error)

    async def _connect(self) -> ExchangeError | None:
        """Connect; return None, or the error of the failed connect."""
        try:
            async with asyncio.timeout(self._server.environment.settings.connect_timeout):
                await self._open()
        except TimeoutError:
            return ConnectTimeoutError(CONNECT_TIMEOUT)
        except ssl.SSLCertVerificationError as failure:
            return UpstreamNotReachedError(f"the upstream's certificate is not trusted: {failure.verify_message}")
        except ssl.SSLError as failure:
            return UpstreamNotReachedError(f"the TLS handshake with the upstream failed: {failure.reason}")
        except (UpstreamNotReachedError, DeliveryDeniedError) as failure:
            return failure
        except (OSError, ValueError, OverflowError):  # ValueError, OverflowError: an invalid address or port
            return UpstreamNotReachedError(NOT_CONNECTED)
        return None

    async def _open(self) -> None:
        """Open a connection, with TLS if the scheme requires it. Raises OSError and what `_connect` expects."""
        loop, upstream, key = asyncio.get_running_loop(), self._upstream, self._server.key
        protocol = cast("asyncio.BaseProtocol", upstream if upstream is not None else self._multiplexed)
        is_on_path = bool(key.mode) and await self._open_path(protocol)
        if not is_on_path:
            await loop.create_connection(lambda: protocol, key.address, key.port)
        if key.scheme != "https" or upstream is None or upstream.transport is None:
            return
        if is_on_path and key.is_guarded:
            self._leave_tls_to_node(upstream, upstream.transport)
        else:
            await self._start_tls(upstream, upstream.transport, is_on_path=is_on_path)

    def _leave_tls_to_node(self, upstream: UpstreamConnection, transport: asyncio.Transport) -> None:
        """Send plain HTTP over a path: the server's node judges each request, and opens TLS to the server itself."""
        if self._offers_http2 and self._server.environment.settings.http2:
            self._switch_to_http2(upstream, transport)

    async def _open_path(self, protocol: asyncio.BaseProtocol) -> bool:
        """Open a connection over a path; return False if it must be opened in clear."""
        server = self._server
        key, environment = server.key, server.environment
        paths, target = environment.paths, RemoteServer(key.address, key.port, key.node)
        service, client = self._receivers[0].describe_delivery()
        choice = paths.choose(target, key.mode)
        if choice.path is not None:
            delivery = Delivery(key.address, key.port, service, paths.name_client(client) if key.is_guarded else "")
            patience_s = environment.settings.connect_timeout * PATH_SHARE
            failure = await open_path(choice.path, delivery, protocol, patience_s=patience_s)
            if failure is None or not is_about_path(failure):
                paths.note_success(target)
            if failure is not None:
                choice = self._replace_path(target, failure)
        if choice.reason == UNREACHABLE:
            server.note_fallback()
        paths.count_connection(service, choice)
        connection = self._upstream if self._upstream is not None else self._multiplexed
        if connection is not None:
            connection.path = ConnectionPath(choice.kind, choice.reason, key.node)
        return choice.path is not None

    def _replace_path(self, target: RemoteServer, failure: OpenFailure) -> Choice:
        """Choose what follows a failed path; raise the error if nothing does."""
        if is_about_path(failure):
            paths = self._server.environment.paths
            paths.note_failure(target, failure.reason)
            return paths.replace_failed(target, self._server.key.mode, failure.reason)
        if failure.status == 403:
            raise DeliveryDeniedError(failure.reason)
        if failure.status == 404:
            raise ServerNotTriedError(failure.reason, UpstreamNotReachedError.status)
        raise ConnectTimeoutError(CONNECT_TIMEOUT) if failure.status == 504 else UpstreamNotReachedError(NOT_CONNECTED)

    async def _start_tls(self, upstream: UpstreamConnection, raw: asyncio.Transport, *, is_on_path: bool) -> None:
        """Continue with TLS, and with the protocol that the server chooses."""
        server = self._server
        address, name, tls = server.key.address, server.key.tls_name, server.environment.tls
        is_outside = bool(server.key.name)
        context = tls.get_context(offers_http2=self._offers_http2, is_outside=is_outside)
        timeout_s = server.environment.settings.connect_timeout + 1.0  # that of _connect() ends first
        host = name or address  # an address is not sent (RFC 6066 section 3)
        protocol = cast("asyncio.BaseProtocol", upstream)
        upstream.is_negotiating = True
        transport: asyncio.Transport | None
        if is_on_path:
            transport = await start_tls_on_path(
                raw, protocol, context, server_hostname=host, handshake_timeout_s=timeout_s
            )
        else:
            transport = await asyncio.get_running_loop().start_tls(
                raw, protocol, context, server_hostname=host, ssl_handshake_timeout=timeout_s
            )
        if transport is None or transport.is_closing():  # uvloop: the connection ended during the handshake
            raise ConnectionResetError
        upstream.begin_tls(transport)
        session = transport.get_extra_info("ssl_object")
        if not tls.accepts(session, address=address, name=name, is_outside=is_outside):
            names = name if is_outside else f"{address} nor for {name}" if name else address
            raise UpstreamNotReachedError(f"the upstream's certificate is not for {names}")
        if session is not None and session.selected_alpn_protocol() == "h2":
            self._switch_to_http2(upstream, transport)
        else:
            upstream.end_negotiation()

    def _switch_to_http2(self, upstream: UpstreamConnection, transport: asyncio.Transport) -> None:
        early = upstream.hand_over()
        self._upstream = None
        self._server.opened += 1
        connection = self._multiplexed = MultiplexedUpstream(self._server)
        connection.path = upstream.path
        transport.set_protocol(cast("asyncio.BaseProtocol", connection))
        connection.connection_made(transport)
        if early:
            connection.data_received(early)
