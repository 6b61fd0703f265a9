"""Reads the values of filters, for the builders of middlewares that routes can use.

Takes a `FilterRequest`, whose value has the shape of the Gateway API; returns a struct of the builder, or raises
ConfigurationError. An unknown field is an error, because a filter must not be applied in part.
"""

import re
from typing import Final, TypeVar

import msgspec

from maesh_core.errors import ConfigurationError
from maesh_core.plugin_system.hookspecs import FilterRequest
from maesh_core.values.strict_fields import decode_strictly

_UNITS_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_is_duration: Final = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}", re.ASCII).fullmatch
_find_parts: Final = re.compile(r"([0-9]{1,5})(h|ms|m|s)", re.ASCII).findall

StructT = TypeVar("StructT", bound=msgspec.Struct)


def read_filter(request: FilterRequest, type_: type[StructT]) -> StructT:
    """Decode a filter's value as `type_`, a struct that forbids unknown fields and whose fields all have defaults.

    Raises ConfigurationError, which names the filter and the field.
    """
    found, faults = decode_strictly(request.value, type_)
    if faults:
        raise ConfigurationError(f"{request.name}: {'; '.join(faults)}")
    return found


def read_filter_duration(request: FilterRequest, field: str, text: str) -> float:
    """Convert a duration of the Gateway API (GEP-2257), such as `1h30m`, to seconds.

    Raises ConfigurationError, which names the filter and the field.
    """
    if not _is_duration(text):
        raise ConfigurationError(f"{request.name}: {field}: {text!r} is not a duration such as 500ms, 10s or 1h30m")
    return sum(int(number) * _UNITS_S[unit] for number, unit in _find_parts(text))
