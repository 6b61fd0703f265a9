"""pytest fixtures for tests of plugins; pytest loads them if maesh-testing is installed.

What a test starts ends with it, by process id; a command that does not end cleanly, or leaves a process behind, fails
the test.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from maesh_testing.api_server import ApiServer
from maesh_testing.commands import MAESH, PATIENCE_S, Command, build_environment
from maesh_testing.policy import Policy
from maesh_testing.ports import find_free_port
from maesh_testing.running_mesh import SERVICE, Manifests, RunningMesh, build_service
from maesh_testing.upstream import Upstream


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests that start commands, such as those of the contract: `-m "not integration"`."""
    config.addinivalue_line("markers", "integration: runs the real commands as processes")


@pytest.fixture
def maesh_program() -> Sequence[str]:
    """Return the command `maesh` of the environment that the tests run in; override it to test another."""
    return MAESH


@pytest.fixture
def start_maesh(tmp_path: Path, maesh_program: Sequence[str]) -> Iterator[Callable[..., Command]]:
    """Start `maesh ARGUMENTS`, as a user who has set nothing; `env` adds to the environment."""
    commands: list[Command] = []

    def start(*arguments: object, env: Mapping[str, str] | None = None) -> Command:
        program = (*maesh_program, *map(str, arguments))
        folder = tmp_path / f"command-{len(commands)}"
        commands.append(Command(program, folder, build_environment(tmp_path) | dict(env or {})))
        return commands[-1]

    yield start
    complaints = [complaint for command in reversed(commands) for complaint in command.end()]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def run_maesh(start_maesh: Callable[..., Command]) -> Callable[..., Command]:
    """Run `maesh ARGUMENTS` to its end."""

    def run(*arguments: object, env: Mapping[str, str] | None = None) -> Command:
        command = start_maesh(*arguments, env=env)
        command.wait(PATIENCE_S)
        return command

    return run


@pytest.fixture
def start_upstream() -> Iterator[Callable[..., Upstream]]:
    """Start a server with a name, on a port of its own."""
    servers: list[Upstream] = []

    def start(name: str, address: str = "127.0.0.1") -> Upstream:
        servers.append(Upstream(name, find_free_port(), address))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def manifests(tmp_path: Path) -> Manifests:
    """Return an empty folder for manifests."""
    return Manifests(tmp_path / "manifests")


@pytest.fixture
def start_mesh(
    manifests: Manifests, start_maesh: Callable[..., Command], start_upstream: Callable[..., Upstream]
) -> Callable[..., RunningMesh]:
    """Start `maesh up FLAGS` in front of a service `app` with these annotations, and wait until it is ready.

    `servers` says how many it has, or gives them; `objects` are further manifests. With an `account` its servers are
    pods of that service account.
    """

    def start(
        *flags: object,
        annotations: Mapping[str, str] | None = None,
        servers: int | Sequence[Upstream] = 1,
        objects: Sequence[Mapping[str, Any]] = (),
        account: str = "",
        env: Mapping[str, str] | None = None,
    ) -> RunningMesh:
        if isinstance(servers, int):
            servers = [start_upstream(f"{SERVICE}-{number}") for number in range(1, servers + 1)]
        addresses = [(server.address, server.port) for server in servers]
        manifests.write(f"{SERVICE}.json", build_service(SERVICE, addresses, annotations=annotations, account=account))
        manifests.write("more.json", objects)
        http, api, admin = ports = (find_free_port(), find_free_port(), find_free_port())
        options = ("--http-port", http, "--api-port", api, "--admin-port", admin, "--json")
        command = start_maesh("up", *options, *flags, manifests.path, env=env)
        command.wait_until(lambda: "\n" in command.stdout, "one line on standard output")
        return RunningMesh(command, ports, manifests, servers, account=account)

    return start


@pytest.fixture
def policy() -> Policy:
    """Return a builder of meshes from manifests, for tests of who may call whom and where requests go."""
    return Policy()


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    """Start a Kubernetes API server without TLS and without any definition of custom resources."""
    with ApiServer() as server:
        yield server
