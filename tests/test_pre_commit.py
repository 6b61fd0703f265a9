"""The checks that git runs before a commit: the tools are those of .venv, and long commit subjects are refused."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / ".pre-commit-config.yaml"


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_the_configuration_is_valid():
    ended = run(sys.executable, "-m", "pre_commit", "validate-config", CONFIGURATION)
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


def test_every_hook_is_local_and_its_program_is_one_of_the_environment():
    repositories = yaml.safe_load(CONFIGURATION.read_text())["repos"]
    assert [each["repo"] for each in repositories] == ["local"], "others would be fetched"
    programs = [hook["entry"].split()[0] for hook in repositories[0]["hooks"] if hook["language"] == "system"]
    assert {Path(program).name for program in programs} == {"ruff", "mypy", "lint-imports", "python"}
    assert {str(Path(program).parent) for program in programs} == {".venv/bin"}


@pytest.fixture
def repository(tmp_path):
    """Make a repository with the hooks installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"HOME": str(tmp_path), "PRE_COMMIT_HOME": str(tmp_path / "cache"), "GIT_CONFIG_NOSYSTEM": "1"}
    environment |= {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    folder = tmp_path / "repository"
    folder.mkdir()
    shutil.copy(CONFIGURATION, folder)

    def run_in(*command):
        return run(*command, cwd=folder, env=environment)

    assert run_in("git", "init", "--quiet").returncode == 0
    assert run_in(sys.executable, "-m", "pre_commit", "install").returncode == 0
    assert run_in("git", "add", CONFIGURATION.name).returncode == 0
    return run_in


@pytest.mark.parametrize(("length", "is_accepted"), [(72, True), (73, False)])
def test_a_commit_subject_has_at_most_72_characters(repository, length, is_accepted):
    body = "A body may have long lines. " * 10
    ended = repository("git", "commit", "--message", "s" * length, "--message", body)
    assert (ended.returncode == 0) is is_accepted, ended.stdout + ended.stderr
    assert ("commit subject of 72 characters at most" in ended.stderr + ended.stdout) is True
