"""Settings on their way from the command line to the program that it becomes, in a real process."""

import subprocess
import sys

import pytest

BECOME = """
from maesh_core.cli import programs
from maesh_core.settings import UpSettings

settings = UpSettings(paths=tuple(f"{number:04}" * 30 for number in range(3000)) + ("\\udcff\\u20ac",),
                      plugin_settings={"a": {"b": float("inf")}}, drain_timeout=0.5)
programs.become_program("becoming_probe", settings)
"""
PROBE = """
import os, signal
from maesh_core.cli.programs import run_program
from maesh_core.settings import UpSettings

def run(settings):
    print(len(settings.paths), ascii(settings.paths[-1]), settings.plugin_settings, settings.drain_timeout)
    print(signal.pthread_sigmask(signal.SIG_BLOCK, []), "MAESH_SETTINGS_DESCRIPTOR" in os.environ)
    print(sorted(int(each) for each in os.listdir("/proc/self/fd"))[:4])

raise SystemExit(run_program(UpSettings, run))
"""


def test_settings_of_any_size_and_any_file_names_come_over_and_nothing_else_does(tmp_path) -> None:
    (tmp_path / "becoming_probe.py").write_text(PROBE)
    ended = subprocess.run(
        [sys.executable, "-c", BECOME],
        env={"PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout.splitlines() == [
        "3001 '\\udcff\\u20ac' {'a': {'b': inf}} 0.5",
        "set() False",
        "[0, 1, 2, 3]",  # 3 is the listing's own
    ]


@pytest.mark.parametrize("module", ["local_mesh.program", "controller_program"])
def test_a_program_by_hand_is_one_line_and_status_1(module) -> None:
    command = [sys.executable, "-P", "-m", f"maesh_core.cli.{module}"]
    ended = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert (
        ended.stderr == "maesh: error: MAESH_SETTINGS_DESCRIPTOR: no settings found; this program is started by maesh\n"
    )
