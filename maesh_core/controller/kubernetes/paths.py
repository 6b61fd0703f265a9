"""Paths and media types of the Kubernetes API. Takes the names of a resource, returns the path; no I/O."""

from urllib.parse import quote

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
"""RFC 7386: the given fields replace the existing ones."""

APPLY_PATCH = "application/apply-patch+yaml"
"""Server-side apply; JSON is valid YAML."""


def build_path(api_version: str, plural: str, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """Build a path of the API: `v1` and `group/version` have different roots; no namespace means all, or none."""
    root = "/apis/" if "/" in api_version else "/api/"
    parts = ["namespaces", namespace, plural] if namespace else [plural]
    parts += [part for part in (name, subresource) if part]
    return root + "/".join([api_version, *(quote(part, safe="") for part in parts)])
