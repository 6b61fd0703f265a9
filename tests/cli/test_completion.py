"""Shell completion: the scripts, what they are answered, and a real bash that has them installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maesh_core.cli.app import COMMANDS, run_command_line
from maesh_core.cli.completion import SHELLS, install_script
from maesh_core.errors import MaeshError

PROGRAM = Path(sys.executable).with_name("maesh")
ASK = """
COMP_WORDS=({words}) COMP_CWORD={position}
_maesh_completion maesh
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def bash(tmp_path):
    """Run lines in a bash that finds `maesh`, with a home folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAESH_", "TRAEFIK_"))}
    environment |= {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    program = shutil.which("bash")
    assert program is not None, "bash is part of every system that Maesh runs on"

    def run(text):
        command = [program, "--norc", "-euc", text]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    return run


def ask(*words):
    """Write the lines that complete the last of these words."""
    quoted = " ".join(f"'{word}'" for word in ("maesh", *words))
    return ASK.format(words=quoted, position=len(words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ver",), ["version"]),
        (("p",), ["proxy", "prepare", "plugins"]),
        (("up", "--log-"), ["--log-level", "--log-format"]),
        (("up", "--log-format", ""), ["common", "json"]),
        (("up", "--log-level", "d"), ["debug"]),
        (("plugins", "n"), ["new"]),
        (("version", "--j"), ["--json"]),
        (("up", "--no-ac"), ["--no-access-log", "--no-acl"]),
        (("up", "manifests"), [""]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bash_completes_commands_flags_and_values(bash, words, expected):
    lines = bash('eval "$(maesh --show-completion bash)"' + ask(*words)).split("\n")[:-1]
    assert sorted(lines) == sorted(expected)


def test_completion_is_installed_for_the_shell_that_asks(bash, tmp_path):
    said = bash("maesh --install-completion; true")
    script = tmp_path / ".bash_completions" / "maesh.sh"
    assert said == f"Completion for bash is installed in {script}. It takes effect in the next shell that you start.\n"
    assert bash("source ~/.bashrc" + ask("sta")) == "status\n"


def test_installing_twice_changes_nothing_more(bash, tmp_path):
    bash("maesh --install-completion; true")
    before = (tmp_path / ".bashrc").read_text().strip()
    bash("maesh --install-completion; true")
    assert (tmp_path / ".bashrc").read_text().strip() == before


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_every_shell_is_printed(capsys, shell):
    assert run_command_line(["--show-completion", shell]) == 0
    assert f"_MAESH_COMPLETE=complete_{shell}" in capsys.readouterr().out


def test_an_unknown_shell_is_bad_usage(capsys):
    assert run_command_line(["--show-completion", "tcsh"]) == 2
    assert "'tcsh' is not one of bash, zsh, fish" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.parametrize("command", COMMANDS)
def test_other_shells_are_answered_with_descriptions(monkeypatch, capsys, shell, command):
    monkeypatch.setenv("_MAESH_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"maesh {command} --he")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert run_command_line([]) == 0
    captured = capsys.readouterr()
    assert "--help" in captured.out
    assert "Show this message and exit" in captured.out
    assert captured.err == ""


def test_a_shell_that_is_not_known_is_named_as_the_reason(monkeypatch, capsys):
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    with pytest.raises(
        MaeshError, match="was not started from bash, zsh or fish; maesh --show-completion SHELL prints"
    ):
        install_script()
    assert capsys.readouterr().err == ""


def test_a_home_folder_that_cannot_be_written_ends_the_command_with_one_line(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    with pytest.raises(MaeshError, match=r"completion cannot be installed: .*: (File exists|Not a directory)"):
        install_script()
