"""The connection to Redis, by redis-py: it runs the script for one batch at a time.

What the server sends is untrusted: the size of an answer is limited, and its shape is checked (script.py). All failures
are a `StoreError`, whose text has no secrets.
"""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any, Final, Protocol, cast

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    RedisError,
)

from maesh_ratelimit.redis_settings import RedisAddress, read_password
from maesh_ratelimit.redis_store.script import SCRIPT, AnswerError, Grant, Question, build_arguments, parse_answer

CONNECT_TIMEOUT_S: Final = 1.0
"""Longest time for a connection, with TLS, the password and a first answer."""
REPLY_LIMIT_BYTES: Final = 256 * 1024
"""Longest answer; one about 512 buckets has up to 45 KiB."""
ERROR_LIMIT: Final = 200
"""Longest text of the server's that is logged."""
PROBE: Final = Question(b"probe", 0, 0, 1, 1.0, 0.0)
"""Asks for nothing, and so writes nothing. Together with the key of the nodes, a Redis Cluster refuses it."""
_SHA: Final = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest().encode()


class StoreError(Exception):
    """Redis cannot be used. The text is the reason, in printable characters."""


class Link(Protocol):
    """A connection to Redis. `name` is for logs."""

    name: str

    async def connect(self) -> int:
        """Connect, and return the number of nodes. Raises StoreError."""

    async def ask(self, questions: Sequence[Question], *, is_heartbeat: bool) -> tuple[int, list[Grant]]:
        """Return the number of nodes, and the answers. Raises StoreError; then `close` must follow."""

    async def close(self) -> None:
        """Close the connection, if there is one; never raises."""


class LimitedReader:
    """The reader of a connection, which raises ConnectionError if an answer is too long. `rest` is what may follow."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.rest = REPLY_LIMIT_BYTES

    def __repr__(self) -> str:
        return f"<LimitedReader, {self.rest} bytes may follow>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def read(self, size: int) -> bytes:
        """Read at most so many bytes."""
        return self._count(await self._reader.read(size))

    async def readexactly(self, size: int) -> bytes:
        """Read so many bytes."""
        if not 0 <= size <= self.rest:
            raise ConnectionError("the answer is too long")
        return self._count(await self._reader.readexactly(size))

    async def readline(self) -> bytes:
        """Read a line, whose length asyncio limits to 64 KiB."""
        return self._count(await self._reader.readline())

    def _count(self, content: bytes) -> bytes:
        self.rest -= len(content)
        if self.rest < 0:
            raise ConnectionError("the answer is too long")
        return content


class _PlainConnection(Connection):
    limited: LimitedReader

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call]
        self.limited = LimitedReader(cast("asyncio.StreamReader", self._reader))
        self._reader = cast("asyncio.StreamReader", self.limited)


class _TlsConnection(SSLConnection):
    limited: LimitedReader

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call]
        self.limited = LimitedReader(cast("asyncio.StreamReader", self._reader))
        self._reader = cast("asyncio.StreamReader", self.limited)


class RedisLink:
    """A connection to one server. `files` are the paths of the password, the authorities, the certificate, its key."""

    def __init__(
        self,
        address: RedisAddress,
        *,
        node: str,
        prefix: str,
        timeout_s: float,
        password_file: str = "",
        ca_file: str = "",
        certificate_file: str = "",
        key_file: str = "",
    ) -> None:
        self._address = address
        self.name = f"Redis at {address.host} port {address.port}"
        self._node, self._prefix = node.encode(), prefix.encode()
        self._timeout_s = timeout_s
        self._password_file = password_file
        self._tls: dict[str, Any] = {"ssl_ca_certs": ca_file, "ssl_certfile": certificate_file, "ssl_keyfile": key_file}
        self._connection: Any = None

    def __repr__(self) -> str:
        return f"<RedisLink {self.name}>"

    async def connect(self) -> int:
        """Connect, log in, and run the script for a bucket that nobody has."""
        await self.close()
        try:
            self._connection = await asyncio.to_thread(self._build_connection)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise StoreError(f"a file cannot be used: {_cut(error)}") from error
        await self._guard(self._connection.connect, CONNECT_TIMEOUT_S)
        nodes, _ = await self.ask((PROBE,), is_heartbeat=True)
        return nodes

    async def ask(self, questions: Sequence[Question], *, is_heartbeat: bool) -> tuple[int, list[Grant]]:
        """Run the script for these buckets."""
        keys, arguments = build_arguments(self._prefix, self._node, questions, is_heartbeat=is_heartbeat)
        answer = await self._guard(lambda: self._run(b"%d" % len(keys), *keys, *arguments), self._timeout_s)
        try:
            return parse_answer(answer, questions)
        except AnswerError as error:
            raise StoreError(str(error)) from error

    async def close(self) -> None:
        """Close the connection, without waiting for the other side."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connection.disconnect(nowait=True)
        except (OSError, RedisError, TimeoutError):
            pass

    async def _run(self, *arguments: bytes) -> object:
        connection = self._connection
        connection.limited.rest = REPLY_LIMIT_BYTES
        await connection.send_command("EVALSHA", _SHA, *arguments, check_health=False)
        try:
            return await connection.read_response(disable_decoding=True)
        except NoScriptError:  # a server that has started, or forgotten its scripts
            await connection.send_command("EVAL", SCRIPT, *arguments, check_health=False)
            return await connection.read_response(disable_decoding=True)

    async def _guard(self, act: Callable[[], Any], timeout_s: float) -> Any:
        """Await an action with a time-out; every failure becomes a StoreError."""
        try:
            async with asyncio.timeout(timeout_s):
                return await act()
        except TimeoutError as error:
            raise StoreError(f"no answer within {timeout_s:g} s") from error
        except AuthenticationError as error:
            raise StoreError("the server refuses the user or the password") from error
        except NoPermissionError as error:
            raise StoreError(f"the user lacks a permission: {_cut(error)}") from error
        except (AskError, ClusterCrossSlotError, ClusterDownError) as error:
            is_cluster = not isinstance(error, MasterDownError)  # which a replica without a cluster also sends
            reason = "the server is part of a Redis Cluster, which is not supported" if is_cluster else _cut(error)
            raise StoreError(reason) from error
        except Exception as error:  # redis-py raises ValueError and others where the server breaks the protocol
            raise StoreError(_cut(error)) from error

    def _build_connection(self) -> Connection:
        """Build a connection that fails at once, instead of trying again; read all files anew, which may take long."""
        address = self._address
        options: dict[str, Any] = {
            "host": address.host,
            "port": address.port,
            "db": address.database,
            "username": address.user or None,
            "password": read_password(self._password_file),
            "protocol": 2,
            "driver_info": None,
            "socket_timeout": None,  # `_guard` has the time-outs
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
        }
        if not address.has_tls:
            return _PlainConnection(**options)
        connection = _TlsConnection(**options, **{name: path for name, path in self._tls.items() if path})
        connection.ssl_context.get()  # reads the certificates; the result is kept
        return connection


def _cut(error: Exception) -> str:
    text = (str(error) or type(error).__name__)[:ERROR_LIMIT].rstrip(".")
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
