"""`maesh PLUGIN COMMAND`: the commands of plugins, against a server that answers like a controller."""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from maesh_core.cli.app import run_command_line

GREETING = """
from maesh_core.plugin import (
    CommandArgument, CommandOption, CommandResult, CommandSwitch, ConfigurationError
)

class Greet:
    name = "greet"
    text = "Greet somebody."
    arguments = (
        CommandArgument(name="who", text="Whom to greet."),
        CommandArgument(name="how", text="How.", is_required=False),
    )
    switches = (CommandSwitch(name="loud-voice", text="Shout."),)

    async def run(self, apis, values):
        (api,) = apis
        if values["who"] == "nobody":
            raise ConfigurationError("nobody is there")
        text = (await api.post("/greet", values["who"].encode())).decode() + values["how"]
        text += (await api.fetch("/name")).decode()
        if values["loud-voice"]:
            text = text.upper()
        return CommandResult(text=text, document={"text": text}, status=3 if values["how"] == "badly" else 0)

class Read:
    name = "read"
    text = "Read a path."
    arguments, switches = (), ()
    options = (
        CommandOption(name="path", text="The path.", metavar="PATH"),
        CommandOption(name="more", text="More paths.", is_repeatable=True),
    )
    reads_manifests = True

    async def run(self, apis, values):
        (api,) = apis
        bodies = [(await api.fetch(path)).decode() for path in (values["path"], *values["more"]) if path]
        return CommandResult(text=f"{api.name} {values}", document=bodies)

COMMANDS = [Greet(), Read()]
"""

SERVICE = """
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
 "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer(f"GET {self.path}")

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        self._answer(f"POST {self.path} {self.rfile.read(size).decode()} ")

    def _answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint():
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def polite(install, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MAESH_", "TRAEFIK_MESH_"))]:
        monkeypatch.delenv(name)
    code = "from maesh_core.plugin import Plugin\nPLUGIN = Plugin(hook_api_version=1)\n"
    commands = [("polite", "greeting:COMMANDS")]
    install(
        "acme-polite", [("polite", "polite:PLUGIN")], {"greeting.py": GREETING, "polite.py": code}, commands=commands
    )


@pytest.mark.usefixtures("polite", "restored_logging")
def test_a_command_gets_its_values_and_the_api(endpoint, capsys):
    assert run_command_line(["polite", "greet", "you", "--endpoint", endpoint]) == 0
    assert capsys.readouterr().out == "POST /greet you GET /name\n"
    assert run_command_line(["polite", "greet", "you", "badly", "--loud-voice", "--endpoint", endpoint, "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {"text": "POST /GREET YOU BADLYGET /NAME"}


@pytest.mark.usefixtures("polite", "restored_logging")
def test_a_command_that_fails_prints_one_line(endpoint, capsys):
    assert run_command_line(["polite", "greet", "nobody", "--endpoint", endpoint]) == 1
    assert capsys.readouterr().err == "maesh: error: nobody is there\n"
    assert run_command_line(["polite", "greet"]) == 2


@pytest.mark.usefixtures("polite", "restored_logging")
def test_flags_with_values_are_texts_or_tuples_of_texts(endpoint, capsys):
    assert run_command_line(["polite", "read", "--more", "/a", "--more", "/b", "--endpoint", endpoint, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ["GET /a", "GET /b"]
    assert run_command_line(["polite", "read", "--path", "/a", "--endpoint", endpoint]) == 0
    assert "{'path': '/a', 'more': ()}" in capsys.readouterr().out


@pytest.mark.usefixtures("polite", "restored_logging")
def test_a_command_reads_manifests_as_it_reads_a_controller(tmp_path, capsys):
    (tmp_path / "web.json").write_text(SERVICE)
    paths = ["/api/topology/current", "/api/configuration/current", "/api/objects", "/api/pods?namespace=shop&name=a"]
    flags = [text for path in paths for text in ("--more", path)]
    assert run_command_line(["polite", "read", "--manifests", str(tmp_path), *flags, "--json"]) == 0
    topology, configuration, objects, pods = map(json.loads, json.loads(capsys.readouterr().out))
    assert list(topology["services"]) == ["web@shop"]
    assert "polite" in configuration["plugins"]
    assert objects == []
    assert pods["pods"] == []


@pytest.mark.usefixtures("polite")
def test_help_lists_the_plugin_without_importing_it(capsys):
    assert run_command_line(["--help"]) == 0
    assert "polite" in capsys.readouterr().out
    assert "greeting" not in sys.modules
    assert run_command_line(["polite", "--help"]) == 0
    assert "Greet somebody." in capsys.readouterr().out


@pytest.mark.usefixtures("polite")
def test_the_help_of_a_command_explains_its_arguments(capsys):
    assert run_command_line(["polite", "greet", "--help"]) == 0
    out = capsys.readouterr().out
    for text in ("Whom to greet.", "--loud-voice", "Shout.", "--endpoint"):
        assert text in out


def test_commands_that_cannot_be_imported_are_an_error(install, capsys):
    install("acme-odd", [("odd", "odd:PLUGIN")], {"oddity.py": "import no_such"}, commands=[("odd", "oddity:COMMANDS")])
    assert run_command_line(["odd"]) == 1
    assert "plugin 'odd' (acme-odd 1.0): its commands oddity:COMMANDS cannot be imported" in capsys.readouterr().err


def test_a_plugin_with_the_name_of_a_command_has_no_commands(install, capsys):
    install("acme-top", [("top", "x:PLUGIN")], {}, commands=[("top", "x:COMMANDS")])
    assert run_command_line(["top", "--help"]) == 0
    assert "Show the traffic" in capsys.readouterr().out
