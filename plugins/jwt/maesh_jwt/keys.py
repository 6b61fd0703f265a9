"""The keys that tokens are verified with: a JSON Web Key Set (RFC 7517), from a file or from the settings.

A key decides which algorithms it verifies, so a token cannot choose another one (RFC 8725 section 3.1). The file is
read again after it has changed; if it is then invalid, the former keys remain.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import jwt
from maesh_core.plugin import ConfigurationError

KEYS_LIMIT: Final = 64
FILE_LIMIT_BYTES: Final = 1 << 20
CHECK_PERIOD_S: Final = 10.0
"""How often a change of the file is looked for."""
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

logger = logging.getLogger(__name__)


class VerificationKey(NamedTuple):
    """A key with its identifier, empty for none, and the algorithms that it may verify."""

    kid: str
    key: Any
    algorithms: tuple[str, ...]


def parse_keys(text: str | bytes) -> tuple[VerificationKey, ...]:
    """Parse a key set; keys for other uses are left out. Raises ValueError if it has no key that can be used."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list) or len(listed) > KEYS_LIMIT:
        raise ValueError(f"it has no list of keys, or more than {KEYS_LIMIT}")
    found = [_parse_key(each) for each in listed if isinstance(each, Mapping) and each.get("use", "sig") == "sig"]
    if not found:
        raise ValueError("it has no key for signatures")
    return tuple(found)


def _parse_key(fields: Mapping[str, Any]) -> VerificationKey:
    kid = fields.get("kid", "")
    try:
        key = jwt.PyJWK(dict(fields))
    except (jwt.PyJWTError, ValueError, TypeError) as error:  # the texts of some contain the key
        raise ValueError(f"key {kid!r} is invalid or not supported ({type(error).__name__})") from error
    is_any_rsa = fields.get("kty") == "RSA" and "alg" not in fields
    return VerificationKey(str(kid), key.key, _RSA if is_any_rsa else (key.algorithm_name,))


class KeySource:
    """The current keys; `version` changes with them."""

    def __init__(self, setting: str) -> None:
        self._path = None if setting.lstrip().startswith("{") else Path(setting)
        self._stamp: tuple[int, int, int] | None = None
        self._next_check = 0.0
        self.version = 0
        try:
            if not setting:
                raise ValueError("it is not set")
            self.keys: Sequence[VerificationKey] = parse_keys(setting) if self._path is None else self._load(self._path)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"setting keys of plugin jwt: {error}") from error

    def __repr__(self) -> str:
        return f"<KeySource {len(self.keys)} keys>"

    def refresh(self, now: float) -> None:
        """Read the file again if it has changed; called often."""
        if self._path is None or now < self._next_check:
            return
        self._next_check = now + CHECK_PERIOD_S
        try:
            if _read_stamp(self._path) == self._stamp:
                return
            self.keys = self._load(self._path)
            self.version += 1
            logger.info("plugin jwt has read %d keys of %s", len(self.keys), self._path)
        except (OSError, ValueError) as error:
            logger.error("plugin jwt keeps its keys, because those of %s cannot be read: %s", self._path, error)

    def _load(self, path: Path) -> tuple[VerificationKey, ...]:
        """Read the file. A bad one is read again only after it has changed."""
        self._stamp = _read_stamp(path)
        with path.open("rb") as file:
            text = file.read(FILE_LIMIT_BYTES + 1)
        if len(text) > FILE_LIMIT_BYTES:
            raise ValueError(f"it has more than {FILE_LIMIT_BYTES} bytes")
        return parse_keys(text)


def _read_stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()  # follows the links of a mounted Secret, which are replaced
    return status.st_mtime_ns, status.st_ino, status.st_size
