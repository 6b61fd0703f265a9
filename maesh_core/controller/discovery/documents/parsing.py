"""One manifest file becomes resources, the errors of what cannot be used, and what is passed over.

Takes the bytes of a file and the kinds that are watched. Documents, and the items of a list, stand and fall one by
one. Gives only what would pass an API server's checks of the fields the mesh reads. Does no I/O, raises nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from maesh_core.controller.discovery.documents.json_documents import parse_json_documents
from maesh_core.controller.discovery.documents.validation import (
    DEFAULT_NAMESPACE,
    fill_defaults,
    find_faults,
    is_subdomain,
    show_value,
)
from maesh_core.controller.discovery.documents.values import Body, Document, Head
from maesh_core.controller.discovery.documents.yaml_documents import parse_yaml_documents
from maesh_core.errors import ManifestError, PluginError
from maesh_core.model.resources import CheckedResource, Resource, ResourceKind
from maesh_core.values.spelling import find_similar

_ANY_KIND = ResourceKind(name="", plural="", api_versions=(), type=Resource)
"""An object of which no more is read than its metadata."""
MAX_LIST_DEPTH = 4
"""How deep lists may hold lists; `kubectl` writes one level."""

MAX_ERRORS = 100
"""How many errors of one file are reported, and how many documents that are perhaps skipped by mistake."""

MAX_UNREAD_KINDS = 20
"""How many kinds of one file are told to be skipped."""

_LIST = "List"


class KindTable:
    """Finds the kind that a document is of. Raises PluginError when two kinds claim one apiVersion and name.

    `switches` says of kinds that no enabled plugin reads how that is switched on.
    """

    __slots__ = ("_kinds", "_switches", "_versions")

    def __init__(self, kinds: Sequence[ResourceKind], switches: Mapping[str, str] | None = None) -> None:
        self._kinds: dict[tuple[str, str], ResourceKind] = {}
        self._switches = switches or {}
        self._versions = {kind.name: kind.api_versions for kind in kinds}
        for kind in kinds:
            for api_version in kind.api_versions:
                if self._kinds.setdefault((api_version, kind.name), kind) is not kind:
                    raise PluginError(f"two kinds of resources are {api_version} {kind.name}")

    def find(self, api_version: str, kind: str) -> ResourceKind | None:
        """Read the kind of this name, or None when nothing reads such objects."""
        return self._kinds.get((api_version, kind))

    def find_mistake(self, api_version: str, kind: str) -> str | None:
        """Say what may be wrong with a kind that nothing reads; None for one that the mesh has no business with."""
        if kind in self._switches:
            return self._switches[kind]
        if kind in self._versions:
            return f"of this kind {' and '.join(self._versions[kind])} are read"
        groups = {_get_group(version) for versions in self._versions.values() for version in versions}
        group = _get_group(api_version)
        if group not in groups and find_similar(group, groups) is None:
            return None  # another project's
        meant = find_similar(kind, (*self._versions, *self._switches))
        return None if meant is None else f"did you mean {meant}?"


def _get_group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


class LoadedResource(msgspec.Struct, frozen=True):
    """A resource, its kind, and where it was read."""

    resource: Resource
    kind: ResourceKind
    origin: str


class Manifest(msgspec.Struct, frozen=True):
    """What a file holds, in its order.

    `faults` are of resources that are among `resources` and must not be used (CheckedResource). `notices` are of
    documents that are passed over, perhaps by mistake. `unread_kinds` are those that the mesh has no business with, as
    `apiVersion kind`, each once.
    """

    resources: tuple[LoadedResource, ...] = ()
    errors: tuple[ManifestError, ...] = ()
    faults: tuple[ManifestError, ...] = ()
    unread_kinds: tuple[str, ...] = ()
    notices: tuple[ManifestError, ...] = ()
    is_empty: bool = False
    """Whether there is no document at all."""


def parse_manifest(content: bytes, kinds: KindTable, *, path: str) -> Manifest:
    """Read a file's content, YAML or JSON; `path` is what errors call the file.

    A file named `.json` is JSON; any other that begins as a JSON object is tried as JSON first, as `kubectl` does.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Manifest(errors=(ManifestError(path, f"not UTF-8: byte 0x{content[error.start]:02x} in line {line}"),))
    if path.endswith(".json"):
        return _Reader(kinds, path).read(parse_json_documents(text, path))
    if text.lstrip().startswith("{"):
        try:
            return _Reader(kinds, path).read(list(parse_json_documents(text, path)))
        except ManifestError:
            pass  # a YAML flow mapping begins the same way; YAML's parser gives the error then
    return _Reader(kinds, path).read(parse_yaml_documents(text, path))


class _Reader:
    """Collects what the documents of one file hold."""

    __slots__ = ("_errors", "_faults", "_kinds", "_notices", "_path", "_resources", "_unread_kinds")

    def __init__(self, kinds: KindTable, path: str) -> None:
        self._kinds = kinds
        self._path = path
        self._resources: list[LoadedResource] = []
        self._errors: list[ManifestError] = []
        self._faults: list[ManifestError] = []
        self._notices: list[ManifestError] = []
        self._unread_kinds: dict[str, None] = {}

    def read(self, documents: Iterable[Document | ManifestError]) -> Manifest:
        iterator: Iterator[Document | ManifestError] = iter(documents)
        is_empty = True
        try:
            for document in iterator:
                is_empty = False
                if isinstance(document, ManifestError):
                    self._errors.append(document)
                else:
                    origin = f"{self._path} document {document.number} line {document.line}"
                    self._read_body(document.body, origin, None, 0)
        except ManifestError as error:  # JSON: nothing tells where the next document begins
            is_empty = False
            self._errors.append(error)
        return Manifest(
            resources=tuple(self._resources),
            errors=self._limit(self._errors, "errors"),
            faults=self._limit(self._faults, "errors"),
            unread_kinds=tuple(self._unread_kinds),
            notices=self._limit(self._notices, "documents that are skipped"),
            is_empty=is_empty,
        )

    def _limit(self, found: Sequence[ManifestError], what: str) -> tuple[ManifestError, ...]:
        left_out = len(found) - MAX_ERRORS
        if left_out <= 0:
            return tuple(found)
        return (*found[:MAX_ERRORS], ManifestError(self._path, f"has {left_out} more {what}"))

    def _read_body(self, body: Body, origin: str, expected: tuple[str, str] | None, depth: int) -> None:
        try:
            head = _read_head(body, origin)
            api_version, name = head.api_version, head.kind
            if expected is not None and not api_version and not name:
                api_version, name = expected
            if not api_version or not name:
                missing = "apiVersion" if not api_version else "kind"
                raise ManifestError(origin, f"is no Kubernetes object: {missing} is missing")
            kind = self._kinds.find(api_version, name)
            if kind is not None:
                self._read_resource(body, kind, origin)
            elif name.endswith(_LIST):
                self._read_list(body, origin, (api_version, name.removesuffix(_LIST)), depth)
            else:
                self._pass_over(body, api_version, name, origin)
        except ManifestError as error:
            self._errors.append(error)
        except (msgspec.MsgspecError, UnicodeError) as error:
            self._errors.append(ManifestError(origin, str(error)))
        except RecursionError:
            self._errors.append(ManifestError(origin, "nests too deeply"))

    def _pass_over(self, body: Body, api_version: str, kind: str, origin: str) -> None:
        shown = f"{show_value(api_version)} {show_value(kind)}".replace("'", "")
        mistake = self._kinds.find_mistake(api_version, kind)
        if mistake is not None:
            text = f"skipped, for nothing reads {shown}: {mistake}"
            self._notices.append(ManifestError(origin, text, kind=show_kind(kind), key=_find_key(body)))
        elif len(self._unread_kinds) < MAX_UNREAD_KINDS:
            self._unread_kinds[shown] = None

    def _read_list(self, body: Body, origin: str, item_kind: tuple[str, str], depth: int) -> None:
        if depth >= MAX_LIST_DEPTH:
            raise ManifestError(origin, f"lists stand in lists more than {MAX_LIST_DEPTH} deep")
        expected = item_kind if item_kind[1] else None
        for index, item in enumerate(body.read_items()):
            self._read_body(item, f"{origin} items[{index}]", expected, depth + 1)

    def _read_resource(self, body: Body, kind: ResourceKind, origin: str) -> None:
        try:
            resource = fill_defaults(body.decode(kind), kind)
        except msgspec.MsgspecError as error:
            raise ManifestError(origin, f"{kind.name}: {error}", kind=kind.name, key=_find_key(body, kind)) from error
        faults = list(find_faults(resource, kind))
        if faults:
            text = f"{kind.name} {show_value(resource.metadata.name)}: {'; '.join(faults)}"
            raise ManifestError(origin, text, kind=kind.name, key=_show_key(resource.key))
        if isinstance(resource, CheckedResource) and resource.faults:
            text = f"{kind.name} {show_value(resource.metadata.name)} is not used: {'; '.join(resource.faults)}"
            self._faults.append(ManifestError(origin, text, kind=kind.name, key=_show_key(resource.key)))
        self._resources.append(LoadedResource(resource, kind, origin))


def _read_head(body: Body, origin: str) -> Head:
    try:
        return body.read_head()
    except msgspec.ValidationError as error:
        if " at `$" in str(error):  # a field of a mapping
            raise
        raise ManifestError(origin, "is no Kubernetes object, which has fields such as apiVersion and kind") from error


def show_kind(kind: str) -> str:
    """Show the name of a kind that nothing declares, which may be anything."""
    return show_value(kind).replace("'", "")


def _find_key(body: Body, kind: ResourceKind | None = None) -> tuple[str, str] | None:
    """Find which object a document is, whatever else is wrong with it."""
    try:
        key = body.decode(_ANY_KIND).key
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    is_namespaced = kind is None or kind.is_namespaced
    return _show_key((key.namespace or DEFAULT_NAMESPACE if is_namespaced else "", key.name))


def _show_key(key: tuple[str, str]) -> tuple[str, str]:
    """Show a key that may hold anything: names as they must be stay as they are."""
    namespace, name = (part if is_subdomain(part) or not part else show_value(part) for part in key)
    return namespace, name
