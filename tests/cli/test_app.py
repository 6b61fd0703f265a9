"""The command line as a user types it: help, versions, spelling, and how commands end."""

import os
import re
import signal
import subprocess
import sys
from importlib import import_module

import pytest

from maesh_core.cli.app import COMMANDS, choose_commands, run_command_line
from maesh_core.cli.options import normalise_arguments
from maesh_core.compiled import FOLDER, MANIFEST, PURE_VARIABLE, REASON
from maesh_core.settings import ControllerSettings, ProxySettings, UpSettings
from maesh_core.settings.fields import list_fields
from maesh_core.settings.handover import parse_proxy_settings


def list_enabled(environment):
    """List the plugins that a proxy is told to load."""
    return [plugin.name for plugin in parse_proxy_settings(environment["MAESH_PROXY_SETTINGS_JSON"]).plugins]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, install, restored_logging):
    """Hide the user's own settings and plugins."""
    for name in [name for name in os.environ if name.startswith(("MAESH_", "TRAEFIK_MESH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command line; gives status, standard output and standard error."""

    def run_program(path, command, environment):
        """Run what `up` and `controller` become, in this process."""
        descriptor = os.dup(int(environment["MAESH_SETTINGS_DESCRIPTOR"]))
        monkeypatch.setattr("os.environ", {**environment, "MAESH_SETTINGS_DESCRIPTOR": str(descriptor)})
        raise SystemExit(import_module(command[-1]).main())

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr("os.execve", run_program)

    def run_arguments(*arguments):
        status = run_command_line(arguments)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_arguments


@pytest.fixture
def ran(monkeypatch):
    """Take the place of the programs that commands become; gives what they were started with."""
    seen = []
    monkeypatch.setattr("os.execve", lambda *started: seen.append(started))
    return seen


# --- help and versions -----------------------------------------------------------------------------------------------


def test_bare_maesh_prints_help(run):
    status, out, err = run()
    assert status == 0
    assert all(re.search(rf"^  {command} ", out, re.MULTILINE) for command in ("up", "controller", "proxy", "plugins"))
    assert err == ""


@pytest.mark.parametrize(
    ("command", "settings_class"), [("up", UpSettings), ("controller", ControllerSettings), ("proxy", ProxySettings)]
)
def test_help_shows_every_flag_with_variable_and_default(run, command, settings_class):
    status, out, _ = run(command, "--help")
    assert status == 0
    text = " ".join(out.split())
    for field in list_fields(settings_class):
        assert field.flag in text
        assert f"[env: {field.variable}]" + (f" [default: {field.default_text}]" if field.default_text else "") in text
    assert "[env: MAESH_CONFIG_FILE]" in text


def test_help_shows_flags_in_groups_with_those_of_plugins_among_them(run, stamp):
    _, out, _ = run("up", "--help")
    wanted = ["Options:", "--bind", "--help", "Services:", "Limits and time-outs:", "Plugins:", "--stamp"]
    places = [
        out.index(f"\n{text}" if text.endswith(":") else text) for text in [*wanted, "--set", "Logging and settings:"]
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("command", ["up", "controller", "proxy", "plugins"])
def test_help_shows_the_flag_of_an_installed_plugin_without_importing_it(run, stamp, command):
    _, out, _ = run(command, "--help")
    assert "--stamp / --no-stamp" in out
    assert "acme-stamp 1.0: Stamps a header" in " ".join(out.split())
    assert "--smi" not in out


@pytest.mark.parametrize("command", ["up", "controller", "check"])
def test_help_shows_that_a_command_accepts_several_paths(run, command):
    _, out, _ = run(command, "--help")
    assert out.splitlines()[0] == f"Usage: maesh {command} [OPTIONS] [PATH...]"


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_versions_of_everything_are_shown(run, stamp, arguments):
    status, out, _ = run(*arguments)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["maesh", "python", "platform", "engine", "plugin"]
    assert "stamp (acme-stamp 1.0)" in out


def test_the_form_of_a_plugin_that_was_to_be_compiled_is_shown_with_its_version(run, stamp, monkeypatch):
    monkeypatch.delenv(PURE_VARIABLE, raising=False)
    folder = stamp / "stamping" / FOLDER
    folder.mkdir()
    for file, text, form in (
        (REASON, "when it was built: no C compiler was found\n", "pure (when it was built: no C compiler was found)"),
        (MANIFEST, "source __init__.py 0\n", "pure (the compiled modules do not fit __init__.py)"),
        (MANIFEST, "", "compiled"),
    ):
        (folder / file).write_text(text)
        _, out, _ = run("version")
        assert out.splitlines()[-1] == f"plugin    stamp (acme-stamp 1.0), {form}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_called_is_built_alone(command):
    assert choose_commands([command, "--help"]) == [command]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["contoller"], ["--log-level", "up"]])
def test_without_a_command_all_are_built(arguments):
    assert choose_commands(arguments) == COMMANDS


# --- bad usage -----------------------------------------------------------------------------------------------------


def test_unknown_command_is_bad_usage_with_a_suggestion(run):
    status, out, err = run("contoller")
    assert (status, out) == (2, "")
    assert "contoller" in err
    assert "'controller'" in err


@pytest.mark.parametrize("command", ["up", "controller", "proxy", "plugins"])
def test_unknown_flag_is_bad_usage_with_a_suggestion(run, command):
    status, out, err = run(command, "--log-levle", "info")
    assert (status, out) == (2, "")
    assert "--log-levle" in err
    assert "--log-level" in err.replace("--log-levle", "")


def test_flag_without_its_value_is_bad_usage(run):
    assert run("up", "--api-port")[0] == 2


# --- what cannot be done ---------------------------------------------------------------------------------------------


def test_up_without_manifests_says_that_they_must_be_named(run):
    assert run("up") == (
        1,
        "",
        "maesh: error: no manifests are given; pass files or folders: maesh up PATH...\n",
    )


def test_controller_without_cluster_and_manifests_says_what_to_name(run):
    status, _, err = run("controller")
    assert status == 1
    assert err.startswith("maesh: error: nothing to read the cluster's objects from: name a kubeconfig (--kubeconfig)")
    assert err.count("\n") == 1


def test_proxy_without_endpoint_says_that_it_needs_one(run):
    status, _, err = run("proxy")
    assert status == 1
    assert "--endpoint" in err


@pytest.mark.parametrize("command", ["up", "controller", "proxy"])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--log-format", "xml"], "--log-format: 'xml' is not one of common, json"),
        (["--config-file", "/absent.toml"], "--config-file: '/absent.toml' cannot be read: No such file or directory"),
        (["--acl"], "--acl: plugin 'acl' is not installed; installed plugins: stamp (acme-stamp 1.0)"),
        (["--smi"], "--smi, the old name of --acl: plugin 'acl' is not installed"),
        (["--set", "stamp.x=1"], "--set stamp.x: plugin 'stamp' is not enabled; --stamp enables it"),
        (["--set", "x"], "--set: 'x' is not NAME.KEY=VALUE"),
    ],
)
def test_bad_setting_ends_every_command_with_one_line(run, stamp, command, arguments, text):
    status, out, err = run(command, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith(f"maesh: error: {text}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["up", "controller"])
def test_plugin_that_does_not_load_ends_the_command_with_one_line(run, install, command):
    install("acme-odd", [("odd", "oddity:PLUGIN")], {"oddity.py": "raise RuntimeError('two\\nlines')"})
    status, _, err = run(command, "--odd", "manifests")
    assert status == 1
    assert re.fullmatch(r"maesh: error: plugin 'odd' \(acme-odd 1\.0\) cannot .*RuntimeError: two lines\n", err)


@pytest.mark.parametrize("command", ["up", "controller", "proxy"])
def test_plugin_with_the_name_of_a_core_flag_ends_the_command_and_names_the_distribution(run, install, command):
    install("acme-loud", [("api-port", "loudness:PLUGIN")], {})
    status, _, err = run(command, "manifests") if command != "proxy" else run(command)
    assert status == 1
    assert "plugin 'api-port' (acme-loud 1.0) has a name that is a flag" in err
    assert run(command, "--help")[0] == 0


# --- from flags to what is run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["--limit-http-port", "--limitHTTPPort", "--limit_http_port", "-limitHTTPPort"])
def test_spelling_of_a_flag_does_not_matter(run, ran, spelling):
    assert run("controller", spelling, "7", "manifests")[0] == 0
    assert run("controller", f"{spelling}=7", "manifests")[0] == 0
    assert len(ran) == 2


def test_arguments_behind_two_dashes_and_unknown_ones_stay_as_they_are():
    flags = frozenset({"api-port", "acl"})
    typed = ["up", "--apiPort=--API", "--ACL", "--other", "-R", "path", "--", "--apiPort"]
    assert normalise_arguments(typed, flags) == [
        "up",
        "--api-port=--API",
        "--acl",
        "--other",
        "-R",
        "path",
        "--",
        "--apiPort",
    ]


def test_proxy_becomes_its_own_program_with_settings_that_no_argument_shows(run, ran, stamp, monkeypatch):
    monkeypatch.setenv("MAESH_STAMP_PREFIX", "secret")
    arguments = ("proxy", "--endpoint", "http://mesh:9000", "--stamp", "--idle-timeout", "500ms")
    assert run(*arguments) == (0, "", "")
    ((_, command, environment),) = ran
    assert command[-2:] == ("-m", "maesh_core.proxy")
    assert "secret" not in " ".join(command)
    settings = parse_proxy_settings(environment["MAESH_PROXY_SETTINGS_JSON"])
    assert (settings.endpoint, settings.idle_timeout) == ("http://mesh:9000", 0.5)
    assert list_enabled(environment) == ["stamp"]
    assert settings.plugin_settings == {"stamp": {"prefix": "secret"}}


def test_old_debug_flag_is_taken_with_a_warning(run, ran):
    assert run("controller", "--debug", "manifests") == (
        0,
        "",
        "maesh: warning: --debug is deprecated: use --log-level debug\n",
    )


def test_old_smi_flag_switches_access_control_on_and_its_negation_the_plugin_off(run, ran, install):
    code = "from maesh_core.plugin import Plugin\nPLUGIN = Plugin(hook_api_version=1)\n"
    install("maesh-acl", [("acl", "aclish:PLUGIN")], {"aclish.py": code})
    install("maesh-smi", [("smi", "smish:PLUGIN")], {"smish.py": code})
    assert run("proxy", "--endpoint", "http://m", "--smi")[2] == "maesh: warning: --smi is deprecated: use --acl\n"
    assert run("proxy", "--endpoint", "http://m", "--no-smi")[2] == ""
    assert [list_enabled(environment) for _, _, environment in ran] == [["acl", "smi"], []]


def test_plugin_with_a_dash_in_its_name_has_its_flag(run, ran, install):
    code = "from maesh_core.plugin import Plugin\nPLUGIN = Plugin(hook_api_version=1)\n"
    install("acme-two", [("two-words", "twowords:PLUGIN")], {"twowords.py": code})
    assert run("proxy", "--endpoint", "http://m", "--two-words")[0] == 0
    assert list_enabled(ran[0][2]) == ["two-words"]


def test_signals_wait_while_the_command_becomes_the_proxy(run, monkeypatch):
    masks = []
    monkeypatch.setattr("os.execve", lambda *arguments: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    run("proxy", "--endpoint", "http://m")
    assert masks == [{signal.SIGINT, signal.SIGTERM}]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


INTERRUPTED = """
import signal, sys
import maesh_core.cli.app
from maesh_core.cli import main

def run_command_line(arguments):
    try:
        exec("signal.raise_signal(signal.{name})")  # as in the making of a dataclass, while something is imported
    except BaseException as error:
        print(type(error).__name__, flush=True)
    return 3

maesh_core.cli.app.run_command_line = run_command_line
sys.exit(main())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_before_a_command_follows_them_is_a_quiet_end_with_status_0(name):
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED.format(name=name)], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_the_original_spelling_of_the_limit_of_udp_ports_is_known(run):
    assert normalise_arguments(["--limitUDPPort=3"], frozenset({"limit-udp-port"})) == ["--limit-udp-port=3"]
    status, _, error = run("up", "--limitUDPPort", "3", "/no/such/folder")
    assert status == 1
    assert "--limit-udp-port" in error or "no such file" in error
