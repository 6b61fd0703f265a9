"""The parameters of `/api/tap`, and the names of a client that its parameter `source` may have.

Takes a query's parameters; returns what proxies are asked for, and what the controller selects itself: proxies know
addresses, only the controller knows pods and workloads. Pure.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from maesh_core.controller.traffic.callers import Caller
from maesh_core.model.addresses import parse_address
from maesh_core.model.tap import FILTER_NAMES, parse_filter

LIMIT_HIGHEST: Final = 1_000_000
LIMIT_FORM: Final = f"limit must be a number of records from 1 to {LIMIT_HIGHEST}"
SOURCE_FORM: Final = "source must be an IP address, or a pod or workload such as shop/web-0 or Deployment/web"
NAME_LIMIT: Final = 600
"""Limit of characters of a source: kind, name and namespace."""
NAMES: Final = (*FILTER_NAMES, "limit")


class Selection(msgspec.Struct, frozen=True):
    """What a tap shows: the checked parameters for proxies, the name of a pod or workload, and how many records."""

    parameters: Mapping[str, str]
    source: str = ""
    limit: int | None = None


def parse_selection(parameters: Mapping[str, str]) -> Selection:
    """Parse the parameters; raises ValueError with the form that a parameter must have."""
    unknown = sorted(set(parameters) - set(NAMES))
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r}; the parameters are {', '.join(NAMES)}")
    asked = {name: value for name, value in parameters.items() if name in FILTER_NAMES and value}
    source = asked.get("source", "")
    if parse_address(source) is None:
        asked.pop("source", None)
        if len(source) > NAME_LIMIT or not source.isprintable() or " " in source:
            raise ValueError(SOURCE_FORM)
    else:
        source = ""
    parse_filter(asked)
    return Selection(asked, source, _parse_limit(parameters.get("limit", "")))


def _parse_limit(text: str) -> int | None:
    if not text:
        return None
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(LIMIT_HIGHEST)) else 0
    if not 1 <= limit <= LIMIT_HIGHEST:
        raise ValueError(LIMIT_FORM)
    return limit


def is_named(caller: Caller, text: str) -> bool:
    """Whether a client's pods or its workload have this name, with or without namespace and kind."""
    kind_and_name, _, namespace = caller.name.partition("@")
    if namespace:
        name = kind_and_name.partition("/")[2]
        names = (name, f"{name}@{namespace}", f"{name}.{namespace}", f"{namespace}/{name}")
        if text in (caller.name, kind_and_name, *names):
            return True
    return any(text in (pod, pod.partition("/")[2]) for pod in caller.pods)


def name_source(caller: Caller) -> str:
    """Name the pod of a client as `namespace/name`; empty unless exactly one pod has its address."""
    return caller.pods[0] if len(caller.pods) == 1 else ""
