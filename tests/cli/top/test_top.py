"""`maesh top` without a terminal, as scripts call it."""

import json
import subprocess

import pytest

from maesh_core.cli.app import run_command_line

from .sample import TrafficServer, build_report


@pytest.fixture
def server():
    server = TrafficServer(build_report())
    yield server
    server.close()


@pytest.fixture
def run(capfd, server, restored_logging):
    def run_arguments(*arguments):
        status = run_command_line(["top", "--endpoint", server.url, *arguments])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run_arguments


def test_without_a_terminal_one_table_is_printed(run):
    status, out, err = run()
    assert (status, err) == (0, "")
    assert out.splitlines()[2].startswith("shop/checkout:80")
    assert run("--once")[1] == out


def test_a_table_is_sorted_and_filtered(run):
    _, out, _ = run("--sort", "service", "--filter", "quiet")
    assert [line.split()[0] for line in out.splitlines()[2:]] == [f"shop/quiet-{number}:80" for number in range(1, 7)]


def test_one_service_is_printed_with_its_parts(run):
    _, out, _ = run("checkout.shop")
    assert "Deployment/web@shop" in out
    assert "quiet" not in out


def test_json_has_the_whole_report_or_one_service(run):
    _, out, _ = run("--json")
    assert [len(json.loads(out)["services"]), json.loads(out)["intervalS"]] == [10, 60.0]
    _, out, _ = run("--json", "db")
    assert [each["key"] for each in json.loads(out)["services"]] == ["shop/db:5432"]
    _, out, _ = run("--json", "--filter", "shop/db")
    assert [each["key"] for each in json.loads(out)["services"]] == ["shop/db:5432"]


def test_an_unknown_service_or_no_controller_is_an_error_with_status_1(run, server):
    status, _, err = run("chekout")
    assert status == 1
    assert "maesh: error: there is no service 'chekout'; did you mean checkout" in err
    server.report = None
    status, out, err = run("--json")
    assert (status, out) == (1, "")
    assert "/api/traffic: 503 not ready" in err
    assert "--endpoint" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("--sorted", "rate"), 2, "--sort"),
        (("--sort", "speed"), 1, "health"),
        (("--interval", "0"), 1, "--interval"),
        (("a", "b"), 2, "unexpected extra argument"),
    ],
)
def test_mistyped_flags_are_refused_as_everywhere(run, arguments, status, text):
    ended, out, err = run(*arguments)
    assert (ended, out) == (status, "")
    assert text in err


@pytest.mark.integration
def test_the_command_ends_with_the_pipe_that_it_writes_to(server, maesh_program):
    command = (*maesh_program, "top", "--endpoint", server.url, "--once")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "shop/checkout:80" in ended.stdout
