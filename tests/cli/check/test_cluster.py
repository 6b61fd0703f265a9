import json

import pytest

from maesh_core.cli.check.cluster import describe_failures, is_failing, repeat, run_cluster_check
from maesh_core.controller.cluster_check.outcomes import Outcome, Report, Section
from maesh_core.errors import SettingsError
from maesh_core.settings.check import CheckSettings


def build_report(*results):
    checks = tuple(Outcome(id=f"c{number}", title="t", result=result) for number, result in enumerate(results))
    return Report(success="error" not in results, sections=(Section(name="s", checks=checks),))


@pytest.mark.parametrize(
    ("results", "fail_on", "expected"),
    [
        (["success"], "notice", False),
        (["warning"], "error", False),
        (["warning"], "warning", True),
        (["warning"], "notice", True),
        (["error"], "error", True),
        (["skipped"], "notice", False),
    ],
)
def test_the_command_fails_for_errors_and_if_wanted_for_warnings(results, fail_on, expected):
    assert is_failing(build_report(*results), CheckSettings(fail_on=fail_on)) is expected


def test_what_is_waited_for_is_named():
    report = build_report("error", "warning", "success", "skipped")
    assert describe_failures(report, CheckSettings()) == "c0"
    assert describe_failures(report, CheckSettings(fail_on="warning")) == "c0, c1"


class Clock:
    """Time that only pauses move."""

    def __init__(self):
        self.now = 0.0
        self.pauses = []
        self.shown = []

    def __call__(self):
        return self.now

    async def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


async def run(reports, *, wait):
    found, clock = list(reports), Clock()

    async def check():
        return found.pop(0)

    report = await repeat(check, CheckSettings(wait=wait), clock=clock, pause=clock.pause, show=clock.shown.append)
    return report, clock


async def test_without_wait_the_checks_run_once():
    report, clock = await run([build_report("error")], wait=0.0)
    assert (report.success, clock.pauses) == (False, [])


async def test_with_wait_the_checks_are_repeated_until_none_fails():
    report, clock = await run([build_report("error"), build_report("error"), build_report("success")], wait=60.0)
    assert (report.success, clock.pauses) == (True, [5.0, 5.0])
    assert clock.shown == ["maesh: waiting for: c0"], "told once, because it is the same check"


async def test_the_last_report_counts_when_the_time_is_over():
    report, clock = await run([build_report("error")] * 3, wait=7.0)
    assert (report.success, clock.pauses) == (False, [5.0, 2.0])


@pytest.mark.parametrize("format_", ["sarif", "github"])
def test_formats_for_findings_in_files_are_refused(format_):
    with pytest.raises(SettingsError, match=f"--format: {format_}"):
        run_cluster_check(CheckSettings(cluster=True, format=format_))


def test_the_command_prints_a_report_of_a_running_mesh_and_has_status_3_without_one(start_mesh, run_maesh):
    mesh = start_mesh()
    endpoint = f"http://127.0.0.1:{mesh.api_port}"
    shown = run_maesh("check", "--cluster", "--endpoint", endpoint, "--wait", "1m")
    assert shown.status == 0, shown.stdout + shown.stderr
    assert "√ exactly one controller leads" in shown.stdout
    document = json.loads(run_maesh("check", "--cluster", "--endpoint", endpoint, "--json").stdout)
    assert document["success"] is True
    lost = run_maesh("check", "--cluster", "--endpoint", "http://127.0.0.1:1")
    assert lost.status == 3
    assert "see docs/check-cluster.md#controllers-answer" in lost.stdout
