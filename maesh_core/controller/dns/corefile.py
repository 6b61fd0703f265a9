"""Builds, inserts, updates and removes the mesh's server blocks in a Corefile, byte for byte.

Takes text and returns text. Recognises the blocks of Maesh 1.2 (without marks) and of 1.3 and 1.4 (with marks, without
our second line), and the newline that they put in front. Raises ClusterDnsError, without changes, for text that it does
not understand.
"""

import re
from collections.abc import Iterator, Mapping

import msgspec

from maesh_core.controller.dns.corefile_parsing import Corefile, ServerBlock, parse_corefile, read_address
from maesh_core.errors import ClusterDnsError
from maesh_core.model.keys import ObjectKey, is_label

SHADOW_INFIX = "6d61657368"
"""The part between service and namespace in a shadow service's name: "maesh" in hexadecimal (Maesh)."""
SIGNATURE = "# Written by maesh prepare, taken out by maesh cleanup."
MARKS = {
    "maesh": ("#### Begin Maesh Block", "#### End Maesh Block"),
    "traefik.mesh": ("#### Begin Traefik Mesh Block", "#### End Traefik Mesh Block"),
}
"""The zones and the marks around their blocks, as in Maesh 1.3 and 1.4."""
ZONES = tuple(MARKS)

_OTHER_TRANSPORTS = ("tls:", "https", "grpc:", "quic:", "unix:")
_LABEL = "([a-zA-Z0-9-_]+)"
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_EXACT_NAME = re.compile(r"\^([a-z0-9-]+)\\\.([a-z0-9-]+)\\\.(?:maesh|traefik\\\.mesh)\\\.\$")

ExactRules = Mapping[ObjectKey, str]
"""Shadow services whose names do not match the pattern, by their services."""


class Span(msgspec.Struct, frozen=True):
    """One block of the mesh in a text, without the newline after it. `is_ours` is false for older versions' blocks."""

    start: int
    end: int
    zone: str
    is_ours: bool
    words: tuple[str, ...] = ()


class BlockBuilder(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs for the text of the mesh's blocks. `has_upstream` is for CoreDNS before 1.7, which needs this word."""

    mesh_namespace: str
    cluster_domain: str
    has_upstream: bool = False

    def __post_init__(self) -> None:
        """Check names, which become part of a Corefile. Raises ClusterDnsError."""
        if not is_label(self.mesh_namespace):
            raise ClusterDnsError(f"{self.mesh_namespace!r} is not the name of a namespace")
        if not _DOMAIN.fullmatch(self.cluster_domain) or ".." in self.cluster_domain:
            raise ClusterDnsError(f"{self.cluster_domain!r} is not the domain of a cluster, such as cluster.local")

    def build(self, zone: str, *, exact: ExactRules, port: str = "53") -> str:
        """Build a zone's block with its marks, without a final newline. An empty port leaves the choice to CoreDNS."""
        begin, end = MARKS[zone]
        upstream = ["        upstream"] if self.has_upstream else []
        return "\n".join(
            [
                begin,
                SIGNATURE,
                f"{zone}:{port} {{" if port else f"{zone} {{",
                "    errors",
                *(line for key in sorted(exact) for line in self._build_exact(zone, key, exact[key])),
                *self._build_general(zone),
                f"    kubernetes {self.cluster_domain} in-addr.arpa ip6.arpa {{",
                "        pods insecure",
                *upstream,
                "        fallthrough in-addr.arpa ip6.arpa",
                "    }",
                "    forward . /etc/resolv.conf",
                "    cache 30",
                "    loop",
                "    reload",
                "    loadbalance",
                "}",
                end,
            ]
        )

    @property
    def _domain(self) -> str:
        return f"{self.mesh_namespace}.svc.{self.cluster_domain}"

    def _build_general(self, zone: str) -> list[str]:
        # CoreDNS searches the name, in lower case with its final dot, for the pattern: without anchors, longer names
        # match, too.
        names = _build_names(zone)
        shadow = f"{self.mesh_namespace}-{{1}}-{SHADOW_INFIX}-{{2}}.{self._domain}"
        shadows = f"^{self.mesh_namespace}-{_LABEL}-{SHADOW_INFIX}-{_LABEL}\\.{_escape(self._domain)}\\.$"
        return _build_rewrite("continue", (names, shadow), (shadows, f"{{1}}.{{2}}.{zone}"))

    def _build_exact(self, zone: str, key: ObjectKey, shadow: str) -> list[str]:
        if not (is_label(key.name) and is_label(key.namespace) and is_label(shadow)):
            raise ClusterDnsError(f"service {key} and shadow service {shadow!r}: not all are names of services")
        # A pattern that matches one name: CoreDNS before 1.9 allows no answer rule with `name exact`.
        name, target = f"{key.name}.{key.namespace}.{zone}", f"{shadow}.{self._domain}"
        return _build_rewrite("stop", (f"^{_escape(name)}\\.$", target), (f"^{_escape(target)}\\.$", name))


def _build_rewrite(mode: str, question: tuple[str, str], answer: tuple[str, str]) -> list[str]:
    return [
        f"    rewrite {mode} {{",
        f"        name regex {question[0]} {question[1]}",
        f"        answer name {answer[0]} {answer[1]}",
        "    }",
    ]


def _build_names(zone: str) -> str:
    return f"^{_LABEL}\\.{_LABEL}\\.{_escape(zone)}\\.$"


def _escape(name: str) -> str:
    return name.replace(".", "\\.")


def insert_blocks(text: str, blocks: Mapping[str, str]) -> str:
    """Insert blocks, by zone, into a Corefile: in place of the existing ones, otherwise at its end.

    Other blocks of the mesh are removed. Raises ClusterDnsError.
    """
    spans = find_spans(text)
    zones = [span.zone for span in spans]
    kept = {span.zone for span in spans if span.is_ours and zones.count(span.zone) == 1} & blocks.keys()
    for span in reversed(spans):
        is_kept = span.zone in kept
        text = text[: span.start] + blocks[span.zone] + text[span.end :] if is_kept else _cut(text, span)
    refuse_foreign_servers(text)
    for zone, block in blocks.items():
        if zone not in kept:
            # If the last line has no newline, the block gets none either, so that it can be removed exactly.
            text += f"{block}\n" if not text or text.endswith("\n") else f"\n{block}"
    return text


def remove_blocks(text: str) -> str:
    """Remove all blocks of the mesh from a Corefile. Raises ClusterDnsError."""
    for span in reversed(find_spans(text)):
        text = _cut(text, span)
    return text


def _cut(text: str, span: Span) -> str:
    before, after = text[: span.start], text[span.end :]
    newline = re.match(r"\r?\n", after)
    if newline is None:
        return before + after if after else before.removesuffix("\n")
    after = after[newline.end() :]
    is_blank_before = re.search(r"(?:^|\n)\r?\n$", before) is not None
    if not span.is_ours and (is_blank_before or not after):
        before = before.removesuffix("\n")
    return before + after


def find_spans(text: str) -> list[Span]:
    """Find the mesh's blocks in a Corefile, in order. Raises ClusterDnsError, also for broken marks."""
    corefile = parse_corefile(text)
    marked = [span for zone in ZONES for span in _find_marked(corefile, zone)]
    unmarked = [
        Span(_find_line_start(text, block.start), block.end, block.zones[0], is_ours=False, words=block.words)
        for block in corefile.blocks
        if _is_from_mesh(block) and not any(span.start <= block.start < span.end for span in marked)
    ]
    return sorted([*marked, *unmarked], key=lambda span: span.start)


def _find_marked(corefile: Corefile, zone: str) -> Iterator[Span]:
    begin, end = MARKS[zone]
    opened: int | None = None
    for comment in corefile.comments:
        mark = comment.text.strip()
        if mark not in (begin, end):
            continue
        start = _find_line_start(corefile.text, comment.start)
        is_alone = start == 0 or corefile.text[start - 1] in "\n\ufeff"
        if not is_alone or (opened is None) != (mark == begin):
            raise ClusterDnsError(f"line {comment.line}: the mark '{mark}' is not where it should be")
        if mark == begin:
            opened = start
        elif opened is not None:
            yield _check_span(corefile, zone, opened, comment.start + len(comment.text.rstrip("\r")))
            opened = None
    if opened is not None:
        raise ClusterDnsError(f"the mark '{begin}' has no '{end}' after it")


def _check_span(corefile: Corefile, zone: str, start: int, end: int) -> Span:
    """Check that there is only the zone's block between two marks."""
    inside = [block for block in corefile.blocks if start <= block.start and block.end <= end]
    crossing = [block for block in corefile.blocks if block.start < end and start < block.end and block not in inside]
    has_import = any(start <= word.start < end for word in corefile.imports)
    if crossing or has_import or len(inside) > 1 or any(block.zones != (zone,) for block in inside):
        raise ClusterDnsError(
            f"between the marks '{MARKS[zone][0]}' and '{MARKS[zone][1]}' there is more than that block"
        )
    is_ours = any(each.text.strip() == SIGNATURE for each in corefile.comments if start <= each.start < end)
    return Span(start, end, zone, is_ours, inside[0].words if inside else ())


def _is_from_mesh(block: ServerBlock) -> bool:
    """Whether a block without marks (Maesh 1.2, or lost marks) is the mesh's: it rewrites to shadow services."""
    has_rewrite = any(f"-{SHADOW_INFIX}-" in word for word in block.words)
    return has_rewrite and len(block.zones) == 1 and block.zones[0] in ZONES


def _find_line_start(text: str, place: int) -> int:
    """Find the start of a line if only spaces precede; otherwise return the position."""
    start = text.rfind("\n", 0, place) + 1
    return start if not text[start:place].strip(" \t") else place


def refuse_foreign_servers(text: str) -> None:
    """Raise ClusterDnsError if another server has one of the mesh's zones: CoreDNS would not start."""
    for block in parse_corefile(text).blocks:
        for zone in block.zones:
            if zone in ZONES and not _is_from_mesh(block):
                raise ClusterDnsError(f"another server already serves the zone '{zone}'")


def has_own_block(text: str) -> bool:
    """Whether there is a block that this version wrote, with or without its comments, which kubeadm drops.

    Raises ClusterDnsError.
    """
    return any(span.is_ours or _build_names(span.zone) in span.words for span in find_spans(text))


def read_exact_rules(text: str) -> dict[ObjectKey, str]:
    """Read the exact rules in a Corefile. Raises ClusterDnsError."""
    found = {}
    for span in find_spans(text):
        for place, word in enumerate(span.words[:-3]):
            if (word, span.words[place + 1]) == ("name", "regex"):
                match = _EXACT_NAME.fullmatch(span.words[place + 2])
                if match is not None:
                    found[ObjectKey(match[2], match[1])] = span.words[place + 3].partition(".")[0]
    return found


def find_port(text: str) -> str:
    """Find the port on which a Corefile serves the root zone; the mesh's zones need the same one.

    Empty if none is named: CoreDNS then uses the value of its flag `-dns.port` for every such block (core/dnsserver,
    register.go), and a block with port 53 would not get the queries. Without a root zone, the first server counts.
    """
    servers = [
        read_address(key)
        for block in parse_corefile(text).blocks
        for key in block.keys
        if not key.startswith(("(", *_OTHER_TRANSPORTS)) and read_address(key)[0] not in ZONES
    ]
    return next((port for zone, port in servers if not zone), servers[0][1] if servers else "")
