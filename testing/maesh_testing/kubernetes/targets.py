"""What a request is about. Takes method, path and query, gives a target and the call as RBAC sees it; pure."""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from maesh_testing.kubernetes.access import Call

_ONE_NAME = re.compile(r"metadata\.name={1,2}([^,=!]+)")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


class Target(NamedTuple):
    """What a path names. `call` is in RBAC's words."""

    version: str
    call: Call
    has_name: bool


def parse_target(method: str, path: str, query: Mapping[str, str]) -> Target | None:
    """Parse a request; None when its path names no resource but, perhaps, a document."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = [*rest, "", ""][:3]
    if len(rest) > 3:
        return None
    verb = _choose_verb(method, name, query)
    match = _ONE_NAME.fullmatch(query.get("fieldSelector", ""))
    shown = match[1] if match and verb in ("list", "watch", "deletecollection") else name
    return Target(version, Call(verb, group, plural, subresource, namespace, shown), bool(name))


def _choose_verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    if method in _VERBS:
        return _VERBS[method]
    if name:
        return "get"
    return "watch" if query.get("watch", "").lower() in ("1", "t", "true") else "list"
