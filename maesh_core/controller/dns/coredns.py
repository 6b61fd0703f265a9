"""Plans the changes that add the mesh's zones to a CoreDNS, or remove them, in the ConfigMaps that it reads.

Takes the current objects; returns changes, or raises ClusterDnsError. Pure. corefile.py edits the texts.
"""

import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial

import msgspec

from maesh_core.controller.dns import corefile, edits
from maesh_core.controller.dns.corefile import ZONES, BlockBuilder, ExactRules
from maesh_core.controller.dns.corefile_parsing import parse_corefile
from maesh_core.controller.dns.objects import CONFIG_MAPS, Object
from maesh_core.controller.dns.plan import Change, build_change
from maesh_core.model.keys import ObjectKey

CUSTOM_KEYS = {zone: f"{zone}.server" for zone in ZONES}
"""Keys of `coredns-custom` for the zones, as in Maesh 1.3 and 1.4; AKS and k3s import every `.server` key."""

_LISTED_ZONES = ", ".join(ZONES)


class Place(msgspec.Struct, frozen=True):
    """Where a CoreDNS reads its servers: its Corefile, and the mounted ConfigMap for custom servers.

    `folder` is that of the Corefile, `custom_folders` are those where the other ConfigMap is mounted as a whole.
    """

    config_map: Object
    key: str
    custom: Object | None
    folder: str = ""
    custom_folders: tuple[str, ...] = ()

    @property
    def corefile(self) -> str:
        """The Corefile's text."""
        return str(self.config_map["data"][self.key])

    @property
    def is_custom_read(self) -> bool:
        """Whether the Corefile imports the keys that the mesh would write into the custom ConfigMap."""
        return self.custom is not None and all(self.reads(key) for key in CUSTOM_KEYS.values())

    def reads(self, key: str) -> bool:
        """Whether the Corefile imports a key of the custom ConfigMap as servers. Raises ClusterDnsError.

        A pattern is relative to the file that contains it, and `*` stays within a folder (coredns/caddy, parse.go).
        """
        with edits.naming(self.config_map, self.key):
            patterns = parse_corefile(self.corefile).patterns
        paths = [f"{folder}/{key}" for folder in self.custom_folders]
        return any(_matches(os.path.join(self.folder, pattern), path) for pattern in patterns for path in paths)

    def read_exact_rules(self) -> dict[ObjectKey, str]:
        """Read the exact rules in any of the texts."""
        found: dict[ObjectKey, str] = {}
        for config_map, key, text in self._list_texts():
            with edits.naming(config_map, key):
                found |= corefile.read_exact_rules(text)
        return found

    def has_own_block(self) -> bool:
        """Whether any of the texts has a block that this version wrote."""
        return any(corefile.has_own_block(text) for _, _, text in self._list_texts())

    def _list_texts(self) -> Iterator[tuple[Object, str, str]]:
        """List the texts that may have blocks, with their ConfigMaps and keys."""
        yield self.config_map, self.key, self.corefile
        data = (self.custom or {}).get("data") or {}
        for key in CUSTOM_KEYS.values():
            if self.custom is not None and data.get(key):
                yield self.custom, key, data[key]

    def find_port(self) -> str:
        """Find the port of the root zone."""
        with edits.naming(self.config_map, self.key):
            return corefile.find_port(self.corefile)


def build_blocks(builder: BlockBuilder, exact: ExactRules, port: str) -> dict[str, str]:
    """Build the blocks of all zones."""
    return {zone: builder.build(zone, exact=exact, port=port) for zone in ZONES}


def plan_blocks(place: Place, blocks: Mapping[str, str]) -> list[Change]:
    """Plan the changes after which the blocks are where they belong, and nowhere else.

    The Corefile is first: a zone that is in two texts for a moment could keep CoreDNS from starting.
    """
    if place.custom is None or not place.is_custom_read:
        edit = partial(_insert, texts={place.key: partial(corefile.insert_blocks, blocks=blocks)})
        changes = build_change(CONFIG_MAPS, place.config_map, edit, _describe(place))
        return [*changes, *_plan_custom_removal(place)]
    _refuse_foreign_servers(place)
    inserts = {
        CUSTOM_KEYS[zone]: partial(corefile.insert_blocks, blocks={zone: block}) for zone, block in blocks.items()
    }
    return [
        *_plan_corefile_removal(place),
        *build_change(CONFIG_MAPS, place.custom, partial(_insert, texts=inserts), _describe(place)),
    ]


def plan_block_removal(place: Place) -> list[Change]:
    """Plan the changes after which no block of the mesh is left."""
    return [*_plan_corefile_removal(place), *_plan_custom_removal(place)]


def _plan_custom_removal(place: Place) -> list[Change]:
    if place.custom is None:
        return []
    texts = dict.fromkeys(CUSTOM_KEYS.values(), corefile.remove_blocks)
    edit = partial(_remove, texts=texts, old_keys=tuple(CUSTOM_KEYS.values()))
    return build_change(CONFIG_MAPS, place.custom, edit, f"block for {_LISTED_ZONES} removed")


def _plan_corefile_removal(place: Place) -> list[Change]:
    edit = partial(_remove, texts={place.key: corefile.remove_blocks})
    return build_change(CONFIG_MAPS, place.config_map, edit, f"block for {_LISTED_ZONES} removed")


def _matches(pattern: str, path: str) -> bool:
    parts, names = (os.path.normpath(each).split("/") for each in (pattern, path))
    pairs = zip(parts, names, strict=False)
    return len(parts) == len(names) and all(fnmatchcase(name, part.replace("[^", "[!")) for part, name in pairs)


def _insert(config_map: Object | None, *, texts: Mapping[str, edits.TextEdit]) -> Object | None:
    return None if config_map is None else edits.add_texts(config_map, texts)


def _remove(
    config_map: Object | None, *, texts: Mapping[str, edits.TextEdit], old_keys: tuple[str, ...] = ()
) -> Object | None:
    return None if config_map is None else edits.remove_texts(config_map, texts, old_keys=old_keys)


def _describe(place: Place) -> str:
    is_custom = place.custom is not None and place.is_custom_read
    config_map, keys = (place.custom, CUSTOM_KEYS.values()) if is_custom else (place.config_map, [place.key])
    data = (config_map or {}).get("data") or {}
    is_there = any(corefile.find_spans(data[key]) for key in keys if key in data)
    return f"block for {_LISTED_ZONES} {'replaced' if is_there else 'added'}"


def _refuse_foreign_servers(place: Place) -> None:
    """Check what CoreDNS reads besides the mesh's own keys. Raises ClusterDnsError."""
    with edits.naming(place.config_map, place.key):
        corefile.refuse_foreign_servers(corefile.remove_blocks(place.corefile))
    if place.custom is not None:
        for key, text in (place.custom.get("data") or {}).items():
            if key not in CUSTOM_KEYS.values() and place.reads(key):
                with edits.naming(place.custom, key):
                    corefile.refuse_foreign_servers(text)
