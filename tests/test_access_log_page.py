"""docs/access-log.md and the plugin's README say what the code does: fields, formats, settings, metrics and limits."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from maesh_access_log import AccessLogSettings
from maesh_access_log.observer import BATCH_LINES, HELP
from maesh_access_log.rendering import build_renderer
from maesh_access_log.templates import FIELD_LIMIT, FIELDS, LITERAL_LIMIT, check_format
from maesh_access_log.texts import LINE_LIMIT_BYTES, SHORT_TEXT_LIMIT, TEXT_LIMIT
from maesh_access_log.writer import QUEUE_LIMIT_BYTES
from maesh_udp.refusals import NO_SERVER
from maesh_udp.session import UNREACHABLE

from maesh_core.model import traffic_record
from maesh_core.model.traffic_record import build_record
from maesh_core.proxy.http.answers import NOT_READ, RESPONSE_TIMEOUT, REVOKED
from maesh_core.values.parsing import parse_value

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "access-log.md").read_text()
README = (ROOT / "plugins" / "access-log" / "README.md").read_text()


def list_rows(text, heading):
    """List the cells of a section's tables, without their heads."""
    section = re.split(r"\n#+ ", text.partition(f"# {heading}\n")[2])[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [row for row in rows[1:] if not row[0].startswith("---")]


def test_the_table_of_fields_is_the_plugins():
    described = [[f"`{name}`", f"`{field.envoy}`" * bool(field.envoy), field.meaning] for name, field in FIELDS.items()]
    assert list_rows(PAGE, "Fields") == described


def test_every_reason_of_a_record_has_a_row():
    kinds = {traffic_record.HTTP, traffic_record.TUNNEL, traffic_record.TCP, traffic_record.UDP, traffic_record.REFUSED}
    texts = {value for name, value in vars(traffic_record).items() if name.isupper() and isinstance(value, str)}
    others = {RESPONSE_TIMEOUT, NOT_READ, REVOKED.reason, UNREACHABLE, NO_SERVER}
    assert {row[0].strip("`") for row in list_rows(PAGE, "Reasons")} == (texts - kinds) | others


def test_metrics_are_the_plugins():
    assert [row[0] for row in list_rows(PAGE, "What is counted")] == [f"`{name}_total`" for name in HELP]


def test_settings_are_the_plugins():
    rows = list_rows(README, "maesh-access-log")
    fields = msgspec.structs.fields(AccessLogSettings)
    assert [row[0] for row in rows] == [f"`{field.name.replace('_', '-')}`" for field in fields]


@pytest.mark.parametrize("text", [PAGE, README], ids=["page", "readme"])
def test_settings_in_examples_are_taken(text):
    fields = {field.name.replace("_", "-"): field for field in msgspec.structs.fields(AccessLogSettings)}
    given = re.findall(r"--set '?access-log\.([a-z-]+)=('?[^'`]*'|[^ `]+)", text)
    assert given
    for key, value in given:
        parsed = parse_value(value.strip("'"), fields[key].type)
        if key == "format" and parsed != "PATH":
            check_format(parsed)


def test_the_example_of_the_common_format_is_what_is_written():
    class Headers:
        def get(self, name):
            return {b"referer": b"http://shop/", b"user-agent": b"curl/8.0"}[name]

    record = build_record(
        "http",
        started_at=1764444772.5,
        duration_s=0.001,
        client="10.1.2.3",
        entrypoint=5000,
        protocol="HTTP/1.1",
        service="shop/cart:80",
        server="10.1.2.9:8080",
        attempts=1,
        status=200,
        sent_bytes=124,
        method=b"GET",
        target=b"/items?page=2",
        headers=Headers(),
    )
    assert build_renderer("common").render(record) in PAGE
    assert json.loads(build_renderer("json").render(record))["StartUTC"].startswith("2025-11-29T19:32:52")


@pytest.mark.parametrize(
    "text",
    [
        f"It can have {FIELD_LIMIT} fields, and {LITERAL_LIMIT} bytes of other text",
        f"cut after {TEXT_LIMIT} characters",
        f"if a line would have more than {LINE_LIMIT_BYTES} bytes, its texts are cut after {SHORT_TEXT_LIMIT}",
        f"four times a second or {BATCH_LINES} lines at a time",
        f"Up to {QUEUE_LIMIT_BYTES >> 20} MiB wait for the thread",
    ],
)
def test_limits_and_reasons_are_the_codes(text):
    assert text in " ".join(PAGE.split())
