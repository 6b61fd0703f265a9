"""The documents in which an API server says what it serves. Takes resources, gives documents; pure."""

from collections.abc import Sequence
from typing import Any

from maesh_testing.kubernetes.resources import ApiResource

VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0",
    "gitTreeState": "clean",
    "platform": "linux/amd64",
}
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
STATUS_VERBS = ["get", "patch", "update"]


def build_document(path: str, resources: Sequence[ApiResource]) -> dict[str, Any] | None:
    """Build the document at a path such as `/api`, `/apis/apps` or `/apis/apps/v1`; None where there is none."""
    if path == "/version":
        return VERSION
    if path == "/api":
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:443"}]
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}
    if path == "/apis":
        groups = [_build_group(group, resources) for group in _list_groups(resources)]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    parts = path.strip("/").split("/")
    if parts[0] == "apis" and len(parts) == 2 and parts[1] in _list_groups(resources):
        return {"kind": "APIGroup", "apiVersion": "v1"} | _build_group(parts[1], resources)
    if (parts[0] == "apis" and len(parts) == 3) or (parts[0] == "api" and len(parts) == 2):
        return _build_resources(parts[1] if len(parts) == 3 else "", parts[-1], resources)
    return None


def _list_groups(resources: Sequence[ApiResource]) -> list[str]:
    return sorted({resource.group for resource in resources if resource.group and resource.versions})


def _build_group(group: str, resources: Sequence[ApiResource]) -> dict[str, Any]:
    names = list(dict.fromkeys(v for resource in resources if resource.group == group for v in resource.versions))
    versions = [{"groupVersion": f"{group}/{name}", "version": name} for name in names]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _build_resources(group: str, version: str, resources: Sequence[ApiResource]) -> dict[str, Any] | None:
    served = [each for each in resources if each.group == group and version in each.versions]
    if not served:
        return None
    found = []
    for each in served:
        common = {"singularName": each.kind.lower(), "namespaced": each.is_namespaced, "kind": each.kind}
        short = {"shortNames": list(each.short_names)} if each.short_names else {}
        found.append({"name": each.plural} | common | {"verbs": VERBS} | short)
        if each.has_status:
            found.append({"name": f"{each.plural}/status"} | common | {"singularName": "", "verbs": STATUS_VERBS})
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": found}
