"""Reads the values of filters, for the builders of middlewares that routes can use.

Takes a `FilterRequest`, whose value has the shape of the Gateway API; returns a struct of the builder, or raises
ConfigurationError. An unknown field is an error, because a filter must not be applied in part.
"""

from typing import TypeVar

import msgspec

from maesh_core.errors import ConfigurationError
from maesh_core.plugin_system.hookspecs import FilterRequest
from maesh_core.values.strict_fields import decode_strictly

StructT = TypeVar("StructT", bound=msgspec.Struct)


def read_filter(request: FilterRequest, type_: type[StructT]) -> StructT:
    """Decode a filter's value as `type_`, a struct that forbids unknown fields and whose fields all have defaults.

    Raises ConfigurationError, which names the filter and the field.
    """
    found, faults = decode_strictly(request.value, type_)
    if faults:
        raise ConfigurationError(f"{request.name}: {'; '.join(faults)}")
    return found
