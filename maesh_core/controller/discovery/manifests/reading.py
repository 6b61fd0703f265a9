"""Keeps the merged contents of all files current: decides which files changed, and when they are read.

Takes hints that paths changed, and the time; returns events. Only changed files are read again. Blocks on the file
system, so it runs in a thread, one call at a time. Must not wait, nor know where hints come from.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from maesh_core.controller.discovery.documents.parsing import KindTable, Manifest, parse_manifest
from maesh_core.controller.discovery.documents.workloads import WORKLOAD_KINDS, PodMaker
from maesh_core.controller.discovery.manifests.files import (
    SUFFIXES,
    Root,
    Roots,
    Signature,
    has_manifests_below,
    list_files,
    read_content,
    read_signature,
)
from maesh_core.controller.discovery.manifests.merging import MergedManifests
from maesh_core.controller.discovery.manifests.settling import Settling
from maesh_core.errors import ManifestError
from maesh_core.model.events import Event, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod, Resource, ResourceKind

SEARCHED_LIMIT = 1000
"""With more files than this, folders are not checked for being useless."""

logger = logging.getLogger(__name__)

Hints = Mapping[str, bool]
"""Changed paths; true if something appeared and nothing was written or removed, as in a rename."""


class ManifestReader:
    """The files below some roots, and the objects in them. Times are the caller's monotonic seconds.

    `switches` explains how to enable the plugin of a kind that no enabled plugin reads. With `makes_pods`, workloads
    count as pods, unless their namespace has real ones.
    """

    __slots__ = (
        "_below",
        "_kinds",
        "_known",
        "_merged",
        "_noticed",
        "_pods",
        "_roots",
        "_settle_s",
        "_settling",
        "_stop",
        "_table",
    )

    def __init__(
        self,
        roots: Sequence[Root],
        kinds: Sequence[ResourceKind],
        *,
        settle_s: float,
        switches: Mapping[str, str] | None = None,
        makes_pods: bool = False,
    ) -> None:
        self._roots = Roots(roots)
        self._kinds = kinds
        pod_kind = next((kind for kind in kinds if kind.type is Pod), None) if makes_pods else None
        self._pods = PodMaker(pod_kind) if pod_kind is not None else None
        self._table = KindTable((*kinds, *WORKLOAD_KINDS) if self._pods else kinds, switches)
        self._settle_s = settle_s
        self._settling = Settling(settle_s)
        self._merged = MergedManifests()
        self._known: dict[str, Signature] = {}
        """The signature of each file at its last read."""
        self._noticed: set[tuple[str, str]] = set()
        self._below: dict[str, bool] = {}
        """Whether useless folders have sub-folders with manifests, as of the last sweep."""
        self._stop = threading.Event()

    def __repr__(self) -> str:
        return f"<ManifestReader {len(self._known)} files {self._settling}>"

    def stop(self) -> None:
        """Make a running call in another thread end soon."""
        self._stop.set()

    def load(self) -> None:
        """Read every file that no longer changes; the others become pending."""
        for path in sorted(self._list_all()):
            if self._stop.is_set():
                return
            signature = read_signature(path)
            if signature is None:
                continue
            if time.time() - signature.modified_ns / 1e9 >= self._settle_s:
                self._read(path, signature)
            else:
                self._settling.note(path, is_put_in_place=False)

    def process_hints(self, hints: Hints, now: float) -> None:
        """Process hints, and read the files that are due."""
        for path, is_put_in_place in hints.items():
            self._note(path, is_put_in_place=is_put_in_place)
        due = self._settling.pop_due(now, read_signature, self._known.get)
        for path, signature in sorted(due.items()):
            if self._stop.is_set():
                return
            if signature is None:
                self._forget(path)
            elif signature != self._known.get(path):
                self._read(path, signature)

    def sweep(self) -> None:
        """Compare all files with the known signatures: this finds changes without hints, for example behind links."""
        self._below.clear()
        for path in self._list_all() | self._known.keys():
            if read_signature(path) != self._known.get(path):
                self._settling.note(path, is_put_in_place=False)

    def next_due(self) -> float | None:
        """Return when `process_hints` must be called without a hint; None if nothing is pending."""
        return self._settling.next_due()

    def collect_lists(self) -> list[Event]:
        """Return everything."""
        self._note_useless_folders()
        lists = self._merged.collect_lists(self._kinds)
        return lists if self._pods is None else [_drop_made_pods(each, self._pods) for each in lists]

    def list_origins(self) -> Mapping[tuple[type[Resource], ObjectKey], str]:
        """List where the objects are defined."""
        return self._merged.list_origins()

    def collect_events(self) -> list[Event]:
        """Return the changes since the last call."""
        self._note_useless_folders()
        return self._merged.collect_events()

    def _list_all(self) -> set[str]:
        found: set[str] = set()
        for root in self._roots:
            try:
                found.update(list_files(root))
            except OSError as error:
                self._merged.set_problem(root.path, root.show(root.path), f"folder cannot be read: {error.strerror}")
            else:
                if root.is_folder:
                    self._merged.set_problem(root.path, root.show(root.path), None)
        return found

    def _note(self, path: str, *, is_put_in_place: bool) -> None:
        is_folder = os.path.isdir(path)
        is_link = os.path.islink(path)
        if self._roots.find(path) is not None and (not is_folder or is_link):
            self._settling.note(path, is_put_in_place=is_put_in_place)
        elif is_folder and (is_link or self._roots.holds_folder(path)):
            # A new folder, or a changed link: kubelet replaces the link `..data` of a ConfigMap.
            self.sweep()
        elif not os.path.lexists(path):
            inside = path + os.sep
            for known in self._known:
                if known.startswith(inside):
                    self._settling.note(known, is_put_in_place=False)

    def _read(self, path: str, signature: Signature) -> None:
        shown = self._show(path)
        try:
            before, content = read_content(path, shown)
        except ManifestError as error:
            self._known[path] = signature
            self._merged.set_manifest(path, Manifest(errors=(error,)))
            return
        if not before == signature == read_signature(path):
            self._settling.note(path, is_put_in_place=False)  # changed during the read
            return
        self._known[path] = signature
        if not content and self._merged.has_content(path):
            # A shell redirection empties the file long before its command writes.
            emptied = ManifestError(shown, "is empty; its previous objects are kept until it is filled or removed")
            self._merged.set_manifest(path, Manifest(errors=(emptied,)))
            return
        manifest = parse_manifest(content, self._table, path=shown)
        if self._pods is not None:
            resources, faults = self._pods.replace(manifest.resources)
            manifest = msgspec.structs.replace(manifest, resources=resources, faults=(*manifest.faults, *faults))
        self._notice(path, shown, manifest.unread_kinds)
        self._merged.set_manifest(path, manifest)
        self._note_useless_file(path, shown, manifest)

    def _note_useless_file(self, path: str, shown: str, manifest: Manifest) -> None:
        """Report a useless file: one without documents, or a named one without objects for the mesh."""
        if manifest.is_empty:
            text = "contains no manifest"
        elif self._roots.is_named_file(path) and not (manifest.resources or manifest.errors or manifest.notices):
            text = f"contains nothing that the mesh reads: {', '.join(manifest.unread_kinds)}"
        else:
            return
        self._merged.set_notices(path, [Problem(shown, text, is_notice=True)])

    def _note_useless_folders(self) -> None:
        """Report useless folders, after all their files were read."""
        if self._stop.is_set() or self._settling.next_due() is not None:
            return
        for root in self._roots.folders:
            text = self._find_uselessness(root)
            notices = [] if text is None else [Problem(root.show(root.path), text, is_notice=True)]
            self._merged.set_notices(root.path, notices)

    def _find_uselessness(self, root: Root) -> str | None:
        if len(self._known) > SEARCHED_LIMIT:
            return None
        files = [path for path in self._known if root.holds(path)]
        if not all(map(self._merged.is_useless, files)) or not self._merged.is_useless(root.path):
            return None
        text = f"no file in it ends in {', '.join(SUFFIXES)}"
        if files:
            text = "none of its files contains anything that the mesh reads"
        if root.path not in self._below:
            self._below[root.path] = not root.is_recursive and has_manifests_below(root.path)
        return f"{text}; folders in it have manifests: -R reads them too" if self._below[root.path] else text

    def _forget(self, path: str) -> None:
        self._known.pop(path, None)
        self._merged.remove(path)
        if self._roots.is_named_file(path):
            self._merged.set_problem(path, self._show(path), "no longer exists")

    def _show(self, path: str) -> str:
        root = self._roots.find(path)
        return path if root is None else root.show(path)

    def _notice(self, path: str, shown: str, unread_kinds: Iterable[str]) -> None:
        for kind in unread_kinds:
            if (path, kind) not in self._noticed:
                self._noticed.add((path, kind))
                logger.warning("%s: skipped %s, which neither the mesh nor an enabled plugin reads", shown, kind)


def _drop_made_pods(event: Event, pods: PodMaker) -> Event:
    """Drop the pods that were made of workloads in namespaces with real pods: these are the pods of the workloads."""
    if not isinstance(event, Replaced) or event.type is not Pod:
        return event
    real = {each.metadata.namespace for each in event.resources if not pods.is_made(each.key)}
    kept = [each for each in event.resources if not pods.is_made(each.key) or each.metadata.namespace not in real]
    return Replaced(event.type, kept)
