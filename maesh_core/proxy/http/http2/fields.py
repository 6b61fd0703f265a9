"""The types of a header list in HTTP/2: fields as pairs of name and value, in order (RFC 9113 section 8.2)."""

from typing import TypeAlias

Field: TypeAlias = tuple[bytes, bytes]
Fields: TypeAlias = tuple[Field, ...]
