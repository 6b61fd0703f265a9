"""The full configuration of a node as encoded JSON, for new workers and for the disk.

Takes the bytes of updates as they were pulled; returns the bytes of the full configuration. Objects stay encoded, so
merging costs about as much as the change. It checks only what merging needs; the workers check the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.keys import build_wire_path
from maesh_core.model.messages import FIXED_FIELDS, RawSections, UpdateHead, render_sections
from maesh_core.model.optional_sections import PODS, SECTION_FORMS, SHARED, TRANSPORT
from maesh_core.proxy.routing.checks import parse_wire_path


class _Objects(msgspec.Struct, kw_only=True):
    routers: dict[str, msgspec.Raw] = {}
    services: dict[str, msgspec.Raw] = {}
    middlewares: dict[str, msgspec.Raw] = {}


class _Placed(msgspec.Struct, rename="camel"):
    entrypoint: int
    own_entrypoint: int = 0


_HEAD_DECODER = msgspec.json.Decoder(UpdateHead)
_PARTS_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECTS_DECODER = msgspec.json.Decoder(_Objects)
_OPTIONAL_DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(
        msgspec.defstruct("_Entries", [(noun, dict[str, msgspec.Raw], {}) for noun in form.nouns], kw_only=True)
    )
    for name, form in SECTION_FORMS.items()
}


class _NamedServer(msgspec.Struct):
    name: str


class _WithNames(msgspec.Struct):
    names: tuple[_NamedServer, ...] = ()


_PLACED_DECODER = msgspec.json.Decoder(_Placed)
_NAMES_DECODER = msgspec.json.Decoder(_WithNames)
_NAMES_FIELD = b'"names":'


class EncodedConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """The full configuration; `revision` is None before the first update."""

    revision: str | None = None
    plugins: tuple[str, ...] = ()
    sections: Mapping[str, Mapping[str, Mapping[str, msgspec.Raw]]] = {}

    def merge(self, body: bytes, since: str | None) -> "EncodedConfiguration":
        """Return the configuration after an update that was pulled with `since`; raises UpdateRejectedError."""
        try:
            head = _HEAD_DECODER.decode(body)
            parts: dict[str, msgspec.Struct] = {
                protocol: _OPTIONAL_DECODERS.get(protocol, _OBJECTS_DECODER).decode(raw)
                for protocol, raw in _PARTS_DECODER.decode(body).items()
                if protocol not in FIXED_FIELDS or protocol in SECTION_FORMS
            }
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpdateRejectedError(f"not a configuration: {error}") from error
        if head.full:
            sections: RawSections = {protocol: msgspec.structs.asdict(objects) for protocol, objects in parts.items()}
        elif since is None or since != self.revision:
            raise UpdateRejectedError("received a partial configuration, but a full one is needed")
        else:
            sections = self._merge_parts(parts, head.removed)
        return EncodedConfiguration(revision=head.revision, plugins=head.plugins, sections=sections)

    def render(self) -> bytes:
        """Encode as a full update, as a controller sends it."""
        return render_sections(self.revision or "", self.sections, is_full=True, plugins=self.plugins)

    def without_pods(self) -> "EncodedConfiguration":
        """Leave out the names of pods, which are soon wrong if nothing updates them."""
        sections = {name: section for name, section in self.sections.items() if name != PODS}
        return msgspec.structs.replace(self, sections=sections)

    def has_service(self, key: str) -> bool:
        """Return whether any protocol has a service or a router with this key."""
        return any(
            key in section.get(noun, {}) for section in self.sections.values() for noun in ("services", "routers")
        )

    def find_routers(self, protocol: str, entrypoint: int) -> Iterator[str]:
        """Return the wire paths of the routers on an entrypoint."""
        for key, raw in self.sections.get(protocol, {}).get("routers", {}).items():
            try:
                placed = _PLACED_DECODER.decode(raw)
                if entrypoint in (placed.entrypoint, placed.own_entrypoint):
                    yield build_wire_path(protocol, "routers", key)
            except msgspec.DecodeError:
                continue

    def list_shared(self) -> dict[str, bytes]:
        """List what the controller shares with all nodes, by the name of the transport, as JSON."""
        shared = self.sections.get(TRANSPORT, {}).get(SHARED, {})
        return {name: bytes(raw) for name, raw in shared.items()}

    def list_names(self) -> frozenset[str]:
        """List the DNS names of servers; only services with names are decoded."""
        return frozenset(
            named.name
            for section in self.sections.values()
            for raw in section.get("services", {}).values()
            if _NAMES_FIELD in bytes(raw)
            for named in _decode_names(raw)
        )

    def _merge_parts(self, parts: Mapping[str, msgspec.Struct], removed: tuple[str, ...]) -> RawSections:
        merged: dict[str, Any] = dict(self.sections)
        fresh: set[tuple[str, str]] = set()

        def open_noun(protocol: str, noun: str) -> dict[str, msgspec.Raw]:
            if (protocol, noun) not in fresh:
                fresh.add((protocol, noun))
                section = dict(merged.get(protocol, {}))
                section[noun] = dict(section.get(noun, {}))
                merged[protocol] = section
            objects: dict[str, msgspec.Raw] = merged[protocol][noun]
            return objects

        for path in removed:
            protocol, noun, key = parse_wire_path(path)
            open_noun(protocol, noun).pop(key, None)
        for protocol, objects in parts.items():
            for noun, added in msgspec.structs.asdict(objects).items():
                if added:
                    # Copy, since decoded values are views that keep the whole pulled body alive.
                    open_noun(protocol, noun).update({key: raw.copy() for key, raw in added.items()})
        return merged


def _decode_names(raw: msgspec.Raw) -> Sequence[_NamedServer]:
    """Decode the names of a service; a plugin's own object of another shape has none."""
    try:
        return _NAMES_DECODER.decode(raw).names
    except msgspec.DecodeError:
        return ()
