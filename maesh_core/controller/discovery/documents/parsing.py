"""Parses one manifest file into resources, errors of unusable documents, and notices of skipped ones.

Takes the bytes of a file and the watched kinds. An error in one document, or in one item of a list, does not affect the
others. Returns only resources that would pass an API server's checks of the fields that the mesh reads. Does no I/O and
raises nothing.
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
"""An object whose metadata alone is read."""
MAX_LIST_DEPTH = 4
"""Limit for nested lists; `kubectl` writes one level."""

MAX_ERRORS = 100
"""Limit of reported errors of one file, and of documents that may be skipped by mistake."""

MAX_UNREAD_KINDS = 20
"""Limit of reported skipped kinds of one file."""

_LIST = "List"


class KindTable:
    """Finds the kind of a document. Raises PluginError if two kinds have the same apiVersion and name.

    `switches` explains, by the label of a kind that no enabled plugin reads, how to enable the plugin that does.
    """

    __slots__ = ("_kinds", "_switches", "_versions")

    def __init__(self, kinds: Sequence[ResourceKind], switches: Mapping[str, str] | None = None) -> None:
        self._kinds: dict[tuple[str, str], ResourceKind] = {}
        self._switches = switches or {}
        self._versions: dict[str, list[str]] = {}
        for kind in kinds:
            for api_version in kind.api_versions:
                if self._kinds.setdefault((api_version, kind.name), kind) is not kind:
                    raise PluginError(f"two kinds of resources are {api_version} {kind.name}")
                self._versions.setdefault(kind.name, []).append(api_version)

    def find(self, api_version: str, kind: str) -> ResourceKind | None:
        """Find the kind of this name, or None if nothing reads such objects."""
        return self._kinds.get((api_version, kind))

    def find_mistake(self, api_version: str, kind: str) -> str | None:
        """Explain what may be wrong with a kind that nothing reads; None for a kind of another project."""
        group = _get_group(api_version)
        switch = self._switches.get(f"{kind}.{group}") or self._switches.get(kind)
        if switch is not None:
            return switch
        if kind in self._versions:
            versions = self._versions[kind]
            own = [version for version in versions if _get_group(version) == group]
            return f"only {' and '.join(own or versions)} of this kind are read"
        groups = {_get_group(version) for versions in self._versions.values() for version in versions}
        if group not in groups and find_similar(group, groups) is None:
            return None  # another project's
        meant = find_similar(kind, (*self._versions, *(label.partition(".")[0] for label in self._switches)))
        return None if meant is None else f"did you mean {meant}?"


def _get_group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


class LoadedResource(msgspec.Struct, frozen=True):
    """A resource, its kind, and the place where it was read."""

    resource: Resource
    kind: ResourceKind
    origin: str


class Manifest(msgspec.Struct, frozen=True):
    """The contents of a file, in order.

    `faults` are those of resources in `resources` that must not be used (CheckedResource). `notices` are about
    documents that may be skipped by mistake. `unread_kinds` are those that the mesh does not read, as `apiVersion
    kind`, without duplicates.
    """

    resources: tuple[LoadedResource, ...] = ()
    errors: tuple[ManifestError, ...] = ()
    faults: tuple[ManifestError, ...] = ()
    unread_kinds: tuple[str, ...] = ()
    notices: tuple[ManifestError, ...] = ()
    is_empty: bool = False
    """Whether the file has no document."""


def parse_manifest(content: bytes, kinds: KindTable, *, path: str) -> Manifest:
    """Parse a file's content, YAML or JSON; `path` is the file's name in errors.

    A `.json` file is JSON. Any other file that starts like a JSON object is tried as JSON first, as in `kubectl`.
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
            pass  # a YAML flow mapping starts the same way; then YAML's parser reports the error
    return _Reader(kinds, path).read(parse_yaml_documents(text, path))


class _Reader:
    """Collects the contents of one file's documents."""

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
        except ManifestError as error:  # JSON: the start of the next document is unknown
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
                raise ManifestError(origin, f"is not a Kubernetes object: {missing} is missing")
            kind = self._kinds.find(api_version, name)
            if kind is not None:
                self._read_resource(body, kind, origin)
            elif name.endswith(_LIST):
                self._read_list(body, origin, (api_version, name.removesuffix(_LIST)), depth)
            else:
                self._skip(body, api_version, name, origin)
        except ManifestError as error:
            self._errors.append(error)
        except (msgspec.MsgspecError, UnicodeError) as error:
            self._errors.append(ManifestError(origin, str(error)))
        except RecursionError:
            self._errors.append(ManifestError(origin, "nests too deeply"))

    def _skip(self, body: Body, api_version: str, kind: str, origin: str) -> None:
        shown = f"{show_value(api_version)} {show_value(kind)}".replace("'", "")
        mistake = self._kinds.find_mistake(api_version, kind)
        if mistake is not None:
            text = f"skipped, because nothing reads {shown}: {mistake}"
            self._notices.append(ManifestError(origin, text, kind=show_kind(kind), key=_find_key(body)))
        elif len(self._unread_kinds) < MAX_UNREAD_KINDS:
            self._unread_kinds[shown] = None

    def _read_list(self, body: Body, origin: str, item_kind: tuple[str, str], depth: int) -> None:
        if depth >= MAX_LIST_DEPTH:
            raise ManifestError(origin, f"lists are nested more than {MAX_LIST_DEPTH} deep")
        expected = item_kind if item_kind[1] else None
        for index, item in enumerate(body.read_items()):
            self._read_body(item, f"{origin} items[{index}]", expected, depth + 1)

    def _read_resource(self, body: Body, kind: ResourceKind, origin: str) -> None:
        try:
            resource = fill_defaults(body.decode(kind), kind)
        except msgspec.MsgspecError as error:
            raise ManifestError(origin, f"{kind.label}: {error}", kind=kind.label, key=_find_key(body, kind)) from error
        faults = list(find_faults(resource, kind))
        if faults:
            text = f"{kind.label} {show_value(resource.metadata.name)}: {'; '.join(faults)}"
            raise ManifestError(origin, text, kind=kind.label, key=_show_key(resource.key))
        if isinstance(resource, CheckedResource) and resource.faults:
            text = f"{kind.label} {show_value(resource.metadata.name)} is not used: {'; '.join(resource.faults)}"
            self._faults.append(ManifestError(origin, text, kind=kind.label, key=_show_key(resource.key)))
        self._resources.append(LoadedResource(resource, kind, origin))


def _read_head(body: Body, origin: str) -> Head:
    try:
        return body.read_head()
    except msgspec.ValidationError as error:
        if " at `$" in str(error):  # a field of a mapping
            raise
        raise ManifestError(
            origin, "is not a Kubernetes object, which has fields such as apiVersion and kind"
        ) from error


def show_kind(kind: str) -> str:
    """Show the name of an undeclared kind, which may contain anything."""
    return show_value(kind).replace("'", "")


def _find_key(body: Body, kind: ResourceKind | None = None) -> tuple[str, str] | None:
    """Find a document's object key, whatever else is wrong with the document."""
    try:
        key = body.decode(_ANY_KIND).key
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    is_namespaced = kind is None or kind.is_namespaced
    return _show_key((key.namespace or DEFAULT_NAMESPACE if is_namespaced else "", key.name))


def _show_key(key: tuple[str, str]) -> tuple[str, str]:
    """Show a key that may contain anything: valid names are unchanged."""
    namespace, name = (part if is_subdomain(part) or not part else show_value(part) for part in key)
    return namespace, name
