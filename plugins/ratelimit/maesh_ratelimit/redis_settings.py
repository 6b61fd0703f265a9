"""Where Redis is, and how a proxy proves who it is. The password and keys are in files, never in settings."""

from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

DEFAULT_PORT: Final = 6379
PREFIX_PATTERN: Final = r"^[A-Za-z0-9:._-]{1,64}$"
"""A prefix of keys."""
PASSWORD_LIMIT_BYTES: Final = 4096
"""Longest file of a password."""


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed URL `redis://[USER@]HOST[:PORT][/DATABASE]`; `rediss` is TLS."""

    host: str
    port: int
    database: int
    user: str
    has_tls: bool


def parse_redis_url(text: str) -> RedisAddress:
    """Parse the setting `redis-url`. Raises ValueError, whose text never has the password that somebody wrote there."""
    try:
        url = urlsplit(text)
        port, host = url.port, url.hostname
    except ValueError:
        raise ValueError("is not a URL such as redis://redis.example:6379/0") from None
    if url.scheme not in ("redis", "rediss") or not host or url.query or url.fragment or port == 0:
        raise ValueError("is not a URL such as redis://redis.example:6379/0, or rediss:// for TLS")
    if url.password is not None:
        raise ValueError("has a password: write it into a file, and name that in redis-password-file")
    database = url.path.removeprefix("/") or "0"
    if not database.isascii() or not database.isdigit() or len(database) > 5:
        raise ValueError("has a path that is not the number of a database")
    return RedisAddress(
        host=host,
        port=port or DEFAULT_PORT,
        database=int(database),
        user=unquote(url.username or ""),
        has_tls=url.scheme == "rediss",
    )


def read_password(path: str) -> str | None:
    """Read the password from a file, without the end of its line; None without a file. Raises OSError or ValueError."""
    if not path:
        return None
    with open(path, "rb") as file:
        content = file.read(PASSWORD_LIMIT_BYTES + 1)
    if len(content) > PASSWORD_LIMIT_BYTES:
        raise ValueError(f"{path} is longer than {PASSWORD_LIMIT_BYTES} bytes")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text
