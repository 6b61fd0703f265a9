"""Reads the corpus: TOML files of raw requests and raw responses, each with the one outcome that is right.

Returns lists of frozen cases, or raises ValueError that names the file and what is wrong there. README.md says what the
fields mean. Knows neither the engine nor its peers.
"""

import re
import tomllib
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent
FORWARDED = b"<forwarded>\r\n"

_is_outcome = re.compile(r"forwarded|(refused|answered) [45]\d\d|cut( [45]\d\d)?|closed").fullmatch
_is_response_outcome = re.compile(r"forwarded|refused 502|cut|broken").fullmatch
_is_after = re.compile(r"open|closed|refused [45]\d\d").fullmatch
_RECORD = r"(forwarded( as [1-5]\d\d| [2-9])?|raw|swallowed|poisoned|cut( [1-5]\d\d)?|closed|[1-5]\d\d)"
_is_record = re.compile(rf"{_RECORD}( or {_RECORD})*").fullmatch
_is_section = re.compile(r"RFC \d+ section \d+(\.\d+)*|no RFC; docs/proxy-behaviour\.md").fullmatch
_is_name = re.compile(r"[a-z0-9.\-]+").fullmatch


class Repeat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Text so many times over."""

    repeat: int
    text: str


Bytes = tuple[str | Repeat, ...]
"""Bytes as text, a character for each byte (latin-1)."""


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What requests and responses have in common; `file` and `data` are made here."""

    name: str
    rule: str
    position: str
    section: str
    send: Bytes
    outcome: str
    nginx: str
    haproxy: str

    @property
    def data(self) -> bytes:
        """The bytes that are sent."""
        return join(self.send)

    @property
    def status(self) -> int:
        """The status of the mesh's own answer; 0 where there is none."""
        number = self.outcome.rpartition(" ")[2]
        return int(number) if number.isdigit() else 0


class RequestCase(Case, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A client's bytes. `upstream` is what a server gets; `after` what becomes of what follows; `end` a half-close."""

    upstream: Bytes = ()
    after: str = ""
    end: bool = False

    def build_upstream(self, forwarded: bytes) -> bytes:
        """Build what the server gets; `forwarded` are the fields that the mesh adds for the host of these bytes."""
        return join(self.upstream).replace(FORWARDED, forwarded)


class ResponseCase(Case, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server's bytes, to `request`. `client` is what the client gets; `end` how the server ends."""

    request: Bytes
    client: Bytes = ()
    after: str = ""
    pooled: bool = False
    later: Bytes = ()
    end: str = ""


def join(pieces: Bytes) -> bytes:
    """Make bytes of their written form."""
    return "".join(piece if isinstance(piece, str) else piece.text * piece.repeat for piece in pieces).encode("latin-1")


def load_requests() -> list[RequestCase]:
    """Read all requests."""
    return _load("requests", RequestCase, _check_request)


def load_responses() -> list[ResponseCase]:
    """Read all responses."""
    return _load("responses", ResponseCase, _check_response)


def _load(folder, type_, check):
    cases, names, places = [], set(), set()
    for path in sorted((FOLDER / folder).glob("*.toml")):
        document = tomllib.loads(path.read_text())
        for raw in document.pop("case"):
            where = f"{path.name}: {raw.get('name')}"
            try:
                case = msgspec.convert(raw, type_)
                data = case.data
            except (msgspec.ValidationError, UnicodeEncodeError) as error:
                raise ValueError(f"{where}: {error}") from error
            place = (case.rule, case.position)
            if case.name in names or place in places:
                raise ValueError(f"{where}: there is a case of this name, or of this rule and position")
            if not (data or getattr(case, "end", "")):
                raise ValueError(f"{where}: sends nothing")
            if wrong := _find_wrong(case) or check(case):
                raise ValueError(f"{where}: wrong or missing: {wrong}")
            names.add(case.name)
            places.add(place)
            cases.append(case)
        if document:
            raise ValueError(f"{path.name}: unknown: {', '.join(document)}")
    return cases


def _find_wrong(case):
    checks = {
        "name": _is_name(case.name),
        "rule": case.rule,
        "position": case.position,
        "section": _is_section(case.section),
        "nginx": _is_record(case.nginx),
        "haproxy": _is_record(case.haproxy),
    }
    return ", ".join(name for name, is_right in checks.items() if not is_right)


def _check_request(case):
    is_forwarded = case.outcome == "forwarded"
    is_on = is_forwarded or case.outcome.startswith("answered")
    if not _is_outcome(case.outcome):
        return "outcome"
    if is_forwarded is not bool(case.upstream) or join(case.upstream).count(b"<forwarded>") > 1:
        return "upstream"
    return "" if is_on is bool(case.after) and (not is_on or _is_after(case.after)) else "after"


def _check_response(case):
    is_forwarded = case.outcome == "forwarded"
    if not _is_response_outcome(case.outcome):
        return "outcome"
    if is_forwarded is not bool(_is_after(case.after)):
        return "after"
    if case.end not in ("", "close", "reset"):
        return "end"
    return "" if bool(case.client) is (case.outcome in ("forwarded", "cut")) else "client"
