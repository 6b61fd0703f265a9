"""Reads the mesh conformance suite of the Gateway API as data: its cases, and the manifests that they apply.

`data/` is copied from kubernetes-sigs/gateway-api (Apache License 2.0, see data/LICENSE); `reading` in cases.json says
what its fields mean.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

DATA = Path(__file__).parent / "data"
CRDS = DATA / "crds"
EXPERIMENTAL_CRDS = DATA / "crds-experimental"


class Client(msgspec.Struct, frozen=True):
    """A pod, by its namespace and the Deployment that it belongs to."""

    namespace: str
    app: str


class Echoed(msgspec.Struct, frozen=True):
    """What the backend must have received."""

    path: str = ""
    host: str = ""
    headers: Mapping[str, str] = {}
    absent_headers: tuple[str, ...] = ()
    upstream_error: str = ""
    """Why the path that the suite writes here, and never compares, is wrong: that of the request is right."""


class Returned(msgspec.Struct, frozen=True):
    """What the response must have."""

    headers: Mapping[str, str] = {}
    absent_headers: tuple[str, ...] = ()


class Redirect(msgspec.Struct, frozen=True):
    """The parts of `Location` that are written; the rules of the Gateway API decide about the others."""

    scheme: str = ""
    host: str = ""
    port: str = ""
    path: str = ""


class Want(msgspec.Struct, frozen=True):
    """What must come back."""

    status: tuple[int, ...] = (200,)
    backend: str = ""
    namespace: str = ""
    request: Echoed = Echoed()
    response: Returned = Returned()
    redirect: Redirect | None = None
    shares: Mapping[str, float] = {}
    tolerance: float = 0.0
    only_these: bool = False


class Request(msgspec.Struct, frozen=True):
    """A request, or `times` equal ones. `to` says `pod` if it does not go to a Service."""

    client: Client
    protocol: str
    host: str
    port: int
    want: Want
    path: str = ""
    method: str = "GET"
    headers: Mapping[str, str] = {}
    name: str = ""
    to: str = ""
    pod: Client | None = None
    times: int = 1
    retries: int = 1

    @property
    def target(self) -> str:
        """The path as it is sent."""
        return self.path or "/"


class Case(msgspec.Struct, frozen=True):
    """One test of the suite. `provisional` ones are not counted in reports unless asked for."""

    name: str
    level: str
    provisional: bool
    features: tuple[str, ...]
    manifests: tuple[str, ...]
    requests: tuple[Request, ...]

    def load(self) -> list[dict[str, Any]]:
        """Load its manifests."""
        return [document for name in self.manifests for document in load_manifest(name)]


class Suite(msgspec.Struct, frozen=True):
    """All cases, and the features of the profiles."""

    commit: str
    base: str
    profiles: Mapping[str, Any]
    cases: tuple[Case, ...]


def load_suite() -> Suite:
    """Load the suite."""
    return msgspec.json.decode((DATA / "cases.json").read_bytes(), type=Suite)


def load_manifest(name: str) -> list[dict[str, Any]]:
    """Load the documents of one file."""
    return [document for document in yaml.safe_load_all((DATA / name).read_text()) if document]
