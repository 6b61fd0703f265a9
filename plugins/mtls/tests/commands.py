"""The commands of the plugin, run against the controller of two nodes."""

import json
import subprocess
import sys


def call_maesh(mesh, *arguments):
    """Run a command of the plugin against the controller."""
    command = [sys.executable, "-m", "maesh_core.cli", "mtls", *map(str, arguments)]
    command += ["--endpoint", f"http://127.0.0.1:{mesh.ports['api']}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def run_maesh(mesh, *arguments):
    """Run a command that must succeed; returns what it prints."""
    done = call_maesh(mesh, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_report(mesh):
    """Read the report; the exit status is 3 if it has a problem."""
    return json.loads(call_maesh(mesh, "status", "--json").stdout)
