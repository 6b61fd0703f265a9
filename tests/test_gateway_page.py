"""docs/gateway-api.md says what the code does: kinds and versions, filters, limits, texts."""

import re
from pathlib import Path

from maesh_gateway.attaching.claims import BYTES_LIMIT, MATCHES_LIMIT, PATTERNS_LIMIT, RULES_LIMIT
from maesh_gateway.kinds import KINDS
from maesh_gateway.reading.filters import _FIELDS, _GRPC_TYPES
from maesh_gateway.reading.request_routes import MATCH_LIMIT, PARENT_LIMIT

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "gateway-api.md").read_text()
WORDS = " ".join(PAGE.split())


def list_rows(head: str) -> list[list[str]]:
    """List the cells of the table with this head."""
    table = PAGE.partition(f"\n{head}\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[1:]]


def test_kinds_and_versions_are_those_of_the_plugin() -> None:
    found = {kind.name: ", ".join(version.partition("/")[2] for version in kind.api_versions) for kind in KINDS}
    assert {row[0]: row[1] for row in list_rows("| kind | versions | for |")} == found


def test_every_filter_is_listed_with_the_kinds_that_have_it() -> None:
    found = {}
    for names, _, http, grpc in list_rows("| filter or field | plugin | HTTPRoute | GRPCRoute |"):
        for name in re.findall(r"`(\w+)`", names):
            found[name] = (http == "yes", grpc == "yes")
    expected = {name: (True, name in _GRPC_TYPES) for name in _FIELDS if name != "ExtensionRef"}
    expected |= dict.fromkeys(("timeouts", "retry"), (True, False))
    expected |= {"sessionPersistence": (True, True), "ExtensionRef": (False, False), "ExternalAuth": (False, False)}
    assert found == expected


def test_limits_are_those_of_the_code() -> None:
    assert f"{MATCH_LIMIT} matches and {PARENT_LIMIT} parents in a route" in WORDS
    limits = (
        f"{RULES_LIMIT} rules, {MATCHES_LIMIT} matches, {PATTERNS_LIMIT} regular expressions and {BYTES_LIMIT >> 10}"
    )
    assert f"At most {limits} KiB of rules apply" in WORDS
