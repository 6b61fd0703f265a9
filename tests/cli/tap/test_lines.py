"""Lines of a tap, as a person reads them and as a program reads them."""

import io
import json
import time
from typing import Any

import msgspec
import pytest

from maesh_core.cli.tap.lines import LinePrinter, escape_json, render_time
from maesh_core.model.tap import TapDrops, TapError

from .tap_server import build_record


class World:
    """A printer and what it has printed."""

    def __init__(self, **chosen: bool) -> None:
        self.out, self.notes = io.StringIO(), io.StringIO()
        flags = {"is_json": False, "is_coloured": False, "shows_service": False, **chosen}
        self.printer = LinePrinter(**flags, out=self.out, notes=self.notes)

    def show(self, **changes: Any) -> list[str]:
        """Show a record; return the parts of its line after the time."""
        self.printer.show(build_record(**changes))
        return [part for part in self.out.getvalue().splitlines()[-1].split("  ")[1:] if part]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, ["shop/cart-0", "GET /a", "200", "12ms", "10.0.0.7:8080"]),
        ({"source": ""}, ["10.0.0.1", "GET /a", "200", "12ms", "10.0.0.7:8080"]),
        ({"duration_s": 0.0}, ["shop/cart-0", "GET /a", "200", "<1ms", "10.0.0.7:8080"]),
        (
            {"status": 503, "attempts": 3, "reason": "no server"},
            ["shop/cart-0", "GET /a", "503", "12ms", "10.0.0.7:8080", "3 attempts", "no server"],
        ),
        (
            {"status": 403, "attempts": 0, "server": "", "reason": "access denied"},
            ["shop/cart-0", "GET /a", "403", "12ms", "access denied"],
        ),
        (
            {"would_deny": "no rule allows this client"},
            ["shop/cart-0", "GET /a", "200", "12ms", "10.0.0.7:8080", "would-deny: no rule allows this client"],
        ),
        (
            {"destination": "shop/web-v2:80", "grpc_status": 14, "method": "POST"},
            ["shop/cart-0", "POST /a", "UNAVAILABLE", "12ms", "to shop/web-v2:80", "10.0.0.7:8080"],
        ),
        ({"grpc_status": 99}, ["shop/cart-0", "GET /a", "gRPC 99", "12ms", "10.0.0.7:8080"]),
        ({"kind": "tunnel", "status": 101}, ["shop/cart-0", "GET /a (tunnel)", "101", "12ms", "10.0.0.7:8080"]),
        (
            {"kind": "tcp", "protocol": "TCP", "method": "", "path": "", "status": 0, "received_bytes": 12},
            ["shop/cart-0", "TCP", "12 B in, 0 B out", "12ms", "10.0.0.7:8080"],
        ),
        (
            {"kind": "refused", "method": "", "path": "", "status": 400, "server": "", "reason": "no request"},
            ["shop/cart-0", "refused", "400", "12ms", "no request"],
        ),
    ],
)
def test_a_line_says_who_asked_for_what_and_how_it_ended(changes: dict[str, Any], parts: list[str]) -> None:
    assert World().show(**changes) == parts


def test_without_a_service_the_line_names_it_and_columns_are_aligned() -> None:
    world = World(shows_service=True)
    assert world.show(service="")[:2] == ["shop/cart-0", "-"]
    assert world.show()[:3] == ["shop/cart-0", "shop/web:80", "GET /a"]
    world.show(source="a", service="b")
    long, short = world.out.getvalue().splitlines()[1:]
    assert long.index("GET") == short.index("GET")


def test_colours_mark_the_status_only_on_request() -> None:
    world = World(is_coloured=True)
    assert "\x1b[31m503\x1b[0m" in world.show(status=503)
    assert "\x1b[33m404\x1b[0m" in world.show(status=404)
    assert "\x1b[32m200\x1b[0m" in world.show()
    assert "\x1b[31mINTERNAL\x1b[0m" in world.show(grpc_status=13)
    assert "\x1b[33mNOT_FOUND\x1b[0m" in world.show(grpc_status=5)
    plain = World()
    plain.show(status=503)
    assert "\x1b" not in plain.out.getvalue()


def test_unprintable_characters_are_escaped() -> None:
    hostile = "\x1b[2J\n\u202e"
    fields = ("source", "service", "method", "path", "server", "reason", "destination", "protocol")
    world = World(shows_service=True)
    world.show(**dict.fromkeys(fields, hostile))
    world.show(kind="tcp", **{**dict.fromkeys(fields, hostile), "method": ""})
    assert world.out.getvalue().count("\n") == 2
    assert all(line.isprintable() for line in world.out.getvalue().splitlines())
    world.printer.show(TapError(error=hostile, node=hostile))
    world.printer.show(TapError(error=hostile, controller=hostile))
    assert world.notes.getvalue().count("\n") == 2
    assert all(line.isprintable() for line in world.notes.getvalue().splitlines())


def test_what_is_missing_is_a_note() -> None:
    world = World()
    world.printer.show(TapDrops(1))
    world.printer.show(TapDrops(20))
    world.printer.show(TapError(error="the proxy cannot be reached", node="node-1"))
    world.printer.show(TapError(error="the controller cannot be reached", controller="c-1"))
    assert world.notes.getvalue().splitlines() == [
        "maesh: 1 record dropped: too many at once; a narrower filter shows more",
        "maesh: 20 records dropped: too many at once; a narrower filter shows more",
        "maesh: the records of proxy node-1 are missing: the proxy cannot be reached",
        "maesh: records may be missing, controller c-1: the controller cannot be reached",
    ]
    assert world.out.getvalue() == ""


def test_json_has_everything_on_lines_that_a_terminal_shows_as_they_are() -> None:
    world = World(is_json=True)
    items = (build_record(path="/\u202e\x9b\U000e0001"), TapDrops(2), TapError(error="e", node="n"))
    for item in items:
        world.printer.show(item)
    lines = world.out.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert [json.loads(line) for line in lines] == [msgspec.json.decode(msgspec.json.encode(each)) for each in items]


def test_a_time_that_no_calendar_has_is_not_shown() -> None:
    assert render_time(1e300) == "-"
    assert render_time(1000.25) == time.strftime("%H:%M:%S", time.localtime(1000)) + ".250"


def test_printable_json_stays_as_it_is() -> None:
    assert escape_json('{"a": "\u00e9"}') == '{"a": "\u00e9"}'
