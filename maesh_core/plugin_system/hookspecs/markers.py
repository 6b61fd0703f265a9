"""What marks hooks, and the version of their API."""

from collections.abc import Mapping
from typing import TypeAlias

import msgspec
import pluggy

PROJECT_NAME = "maesh"

HOOK_API_VERSION = 1
"""Increased by one whenever a hook or an interface below changes so that an older plugin could misbehave."""

WireSettings: TypeAlias = msgspec.Struct | Mapping[str, object]
"""A service's settings of a middleware or a load balancer, as the controller's half sends them to the proxy's half."""

hookspec = pluggy.HookspecMarker(PROJECT_NAME)

hookimpl = pluggy.HookimplMarker(PROJECT_NAME)
