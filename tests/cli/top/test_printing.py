"""`maesh top --once` prints plain text."""

import msgspec

from maesh_core.cli.top.printing import render_once
from maesh_core.settings.traffic import TopSettings

from .sample import build_failing, build_report, build_service


def test_a_file_gets_all_columns_and_the_trouble_at_full_width():
    lines = render_once(build_report(), TopSettings(), width=None, is_opened=False).splitlines()
    assert lines[:3] == [
        "10 service ports, 2 proxies, last 60 s",
        "SERVICE                 RATE  SUCCESS     p50     p95     p99  RETRIES  LIMITED  DENIED  TROUBLE",
        "shop/checkout:80      40.0/s      80%   2.1ms    12ms    34ms      120        3       7  the annotation"
        " maesh.io/retry-attempts is not a number: many; 1 of 2 servers set aside; 1 open circuit breaker;"
        " 480 x no server answered; 7 x denied",
    ]
    assert len(lines) == 12


def test_a_terminal_gets_what_fits():
    text = render_once(build_report(), TopSettings(sort="service", filter="quiet"), width=60, is_opened=False)
    lines = text.splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert [line.split()[0] for line in lines[2:]] == [f"shop/quiet-{number}:80" for number in range(1, 7)]


def test_missing_data_are_reported_last():
    report = build_report(build_service("a"), refused={"400": 2})
    lines = render_once(report, TopSettings(), width=None, is_opened=False).splitlines()
    assert lines[-1] == "refused before routing, since start: 2 x 400"


def test_without_services_that_is_said():
    empty = msgspec.structs.replace(build_report(), services=())
    assert render_once(empty, TopSettings(), width=80, is_opened=False).endswith("no service yet")
    assert render_once(empty, TopSettings(filter="x"), width=80, is_opened=False).endswith("matches the filter")


def test_every_port_of_an_opened_service_is_printed():
    lines = render_once(build_report(build_failing(), build_service("b")), TopSettings(), width=80, is_opened=True)
    assert "shop/checkout:80\nrate 40.0/s   success 80%\n" in lines
    assert "\n\nshop/b:80\n" in lines
