"""Two pages say what the engine does: every status, reason, limit and setting, with tests that exist.

docs/http2.md has the rules of HTTP/2, and docs/proxy-behaviour.md all others.

MAESH_REGENERATE_CASES=1 writes the page's table of rules anew from the corpus, and fails if it differed.
"""

import ast
import importlib
import importlib.util
import os
import pkgutil
import re
from dataclasses import fields
from pathlib import Path

import pytest

import maesh_core.proxy.http
import maesh_core.proxy.network.clock
from maesh_core.proxy.http.http2 import frames
from maesh_core.settings import ProxySettings
from maesh_core.settings.fields import list_fields

from .corpus_cases import corpus

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "proxy-behaviour.md"
TEXT = PAGE.read_text()
HTTP2_TEXT = (ROOT / "docs" / "http2.md").read_text()
PAGES = f"{TEXT}\n{HTTP2_TEXT}"

PACKAGE = maesh_core.proxy.http
MODULES = [
    maesh_core.proxy.network.clock,
    *(
        importlib.import_module(each.name)
        for each in pkgutil.walk_packages(PACKAGE.__path__, f"{PACKAGE.__name__}.")
        if not each.ispkg
    ),
]
PROTOCOL_NUMBERS = vars(frames).keys() - {"FRAME_LIMIT_BYTES"}
NO_LIMITS = {
    "CHUNKED",
    "STREAMED",
    "UNTIL_CLOSE",
    "CLIENT_GONE",
    "NEVER",
    "NOT_SEARCHED",
    "FAILED_STATUS",
    "SERVER_ERROR",
    "SWITCHING",
    *PROTOCOL_NUMBERS,
}
LIMITS = {
    (name, value)
    for module in MODULES
    for name, value in vars(module).items()
    if re.fullmatch(r"[A-Z][A-Z0-9_]+", name) and isinstance(value, int | float) and not isinstance(value, bool)
    if name not in NO_LIMITS
}
SETTINGS = [field for field in list_fields(ProxySettings) if re.search(r"-(limit|timeout)$", field.flag)]
ROWS = [line for line in PAGES.splitlines() if line.startswith("| ")]
UNSEEN_ERRORS = {"ValueError", "TypeError", "StreamError", "CompressionError"}
"""Errors whose texts nobody is told: RST_STREAM has only a code. Those of header blocks have numbers in them."""


def list_calls():
    """List the calls of the engine's modules that make errors and answers."""
    for module in MODULES:
        for node in ast.walk(ast.parse((ROOT / f"{module.__name__.replace('.', '/')}.py").read_text())):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if name.endswith("Error") or name == "Response":
                yield node


def list_texts():
    """List the texts that clients are told, and the statuses."""
    texts, statuses = set(), {400, 502, 504}
    for call in list_calls():
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        constants = [value.value for value in values if isinstance(value, ast.Constant)]
        statuses |= {value for value in constants if isinstance(value, int)}
        if call.func.id not in UNSEEN_ERRORS:
            texts |= {value for value in constants if isinstance(value, str)}
    return texts, statuses


REASONS, STATUSES = list_texts()


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason_that_a_client_is_told_is_on_the_page(reason):
    assert any(reason in row for row in ROWS)


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_every_status_is_on_the_page(status):
    assert any(re.match(rf"\| {status}\b", row) for row in ROWS)


@pytest.mark.parametrize(("name", "value"), sorted(LIMITS))
def test_every_limit_is_on_the_page_with_its_value(name, value):
    assert any(f"`{name}`" in row and f"| {value} |" in row for row in ROWS) or f"`{name}` {value}" in PAGES


@pytest.mark.parametrize("field", SETTINGS, ids=lambda field: field.flag)
def test_every_limit_and_time_out_that_can_be_set_is_on_the_page_with_its_default(field):
    assert any(row.startswith(f"| `{field.flag}` | {field.default_text} |") for row in ROWS)


def test_the_engine_has_the_limits_statuses_and_settings_that_the_page_is_asked_for():
    assert {"ATTEMPT_LIMIT", "TICK_S", "HELD_LIMIT_BYTES", "TURN_FRAMES"} <= {name for name, _ in LIMITS}
    assert {404, 408, 413, 431, 500, 503} <= STATUSES
    assert {"no Host", "malformed chunk size", "a middleware failed"} <= REASONS
    assert len(SETTINGS) >= 10
    assert len(SETTINGS) <= len(fields(ProxySettings))


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`([a-z0-9_/]+\.py::\w+)`", PAGES))))
def test_every_test_that_the_page_names_exists(named):
    path, _, test = named.partition("::")
    folder = Path(__file__).parent
    file = ROOT / path if "/" in path else next(folder.rglob(path))
    assert re.search(rf"^(async )?def {test}\(", file.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "least"),
    [(TEXT.partition("## Where the mesh differs")[0], 60), (HTTP2_TEXT, 80)],
    ids=["proxy-behaviour", "http2"],
)
def test_every_row_of_the_contract_names_the_test_that_holds_it(text, least):
    contract = text.splitlines()
    headings = {index - 1 for index, line in enumerate(contract) if line.startswith("| ---")}
    rows = [line for index, line in enumerate(contract) if line.startswith("| ") and index not in headings]
    assert len(rows) > least
    assert [row for row in rows if not row.startswith("| ---") and "::" not in row] == []


def is_through(record):
    return record.startswith(("forwarded", "answered", "raw", "swallowed", "poisoned"))


def differs(case, name):
    record = getattr(case, name).split(" or ")[0]
    is_changed = record not in ("forwarded", "closed") and not record.startswith("cut") and not record.isdigit()
    return is_changed or is_through(record) is not is_through(case.outcome)


def render_rules():
    """Render a row for each rule of the corpus."""
    lines = []
    for title, cases in (("request", corpus.load_requests()), ("response", corpus.load_responses())):
        lines += [
            f"| rule of a {title} | from | cases | nginx differs | HAProxy differs |",
            "| --- | --- | --- | --- | --- |",
        ]
        for rule in dict.fromkeys(case.rule for case in cases):
            mine = [case for case in cases if case.rule == rule]
            sections = ", ".join(dict.fromkeys(case.section.partition(";")[0] for case in mine))
            counts = [sum(differs(case, name) for case in mine) for name in ("nginx", "haproxy")]
            lines.append(f"| {rule} | {sections} | {len(mine)} | {counts[0] or '–'} | {counts[1] or '–'} |")
        lines.append("")
    return "\n".join(lines)


def test_the_table_of_rules_is_that_of_the_corpus():
    begin, end = "<!-- begin: rules -->\n", "<!-- end: rules -->"
    head, _, rest = TEXT.partition(begin)
    wanted = head + begin + render_rules() + end + rest.partition(end)[2]
    if os.environ.get("MAESH_REGENERATE_CASES"):
        PAGE.write_text(wanted)
    assert wanted == TEXT
