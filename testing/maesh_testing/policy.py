"""Tests of policy: what manifests make of requests, computed by the engine of a controller, without any process.

Takes paths of manifests; answers questions about requests, and checks expectations with assertions. The fixture
`policy` gives the one object that tests need. The engine is imported when the first mesh is built.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maesh_core.controller.explaining.explanation import Explanation
    from maesh_core.controller.simulating.results import CaseResult, ScenarioResult
    from maesh_core.controller.simulating.scenarios import Case
    from maesh_core.controller.simulating.simulation import Simulation
    from maesh_core.settings import InstalledPlugin

Shares = str | Sequence[str] | Mapping[str, str | float]


class PolicyMesh:
    """A mesh that was built from manifests.

    Clients are service accounts, `namespace/name`, or addresses, or `*` for a client that no rule names. Services are
    written as `namespace/name` or `name.namespace`.
    """

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation

    def __repr__(self) -> str:
        return f"<PolicyMesh {self._simulation!r}>"

    def explain(self, client: str, service: str, **request: Any) -> "Explanation":
        """Explain a request, as `maesh explain` does; `method`, `path`, `port` and `headers` are optional.

        Raises ConfigurationError for an unknown service or port.
        """
        case = self._build(client, service, {"verdict": "allowed"}, request)
        return self._simulation.explain(case)

    def assert_allowed(
        self,
        client: str,
        service: str,
        *,
        by: str | Sequence[str] = (),
        goes_to: Shares = (),
        tolerance: str | float = 0.001,
        limits: Sequence[str] | None = None,
        **request: Any,
    ) -> None:
        """Assert that a server gets a request; the other arguments are those of a scenario's `expect`."""
        expected = {"verdict": "allowed", "by": by, "goes-to": goes_to, "tolerance": tolerance, "limits": limits}
        self._check(self._build(client, service, expected, request))

    def assert_denied(
        self, client: str, service: str, *, by: str | Sequence[str] = (), status: int | None = None, **request: Any
    ) -> None:
        """Assert that access control denies a request."""
        self._check(self._build(client, service, {"verdict": "denied", "by": by, "status": status}, request))

    def run(self, *scenarios: str | Path) -> None:
        """Assert that all cases of scenario files have their expected results; the manifests are those of this mesh."""
        from maesh_core.controller.simulating.scenarios import parse_scenario

        results = [self._simulation.run(parse_scenario(Path(path).read_text(), str(path))) for path in scenarios]
        _check_results(results)

    def _build(self, client: str, service: str, expected: Mapping[str, Any], request: Mapping[str, Any]) -> "Case":
        from maesh_core.controller.simulating.scenarios import build_cases

        wanted = {name: value for name, value in expected.items() if value is not None}
        (case,) = build_cases({"client": client, "service": service, "expect": wanted, **request}, "the request")
        self._simulation.add_clients([case.client])
        return case

    def _check(self, case: "Case") -> None:
        result = self._simulation.run_case(case)
        assert not result.failures, _describe(result)


class Policy:
    """Builds meshes from manifests: call it with paths."""

    def __call__(
        self,
        *paths: str | Path,
        plugins: Sequence[str] = (),
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        recursive: bool = True,
        default_mode: str = "http",
    ) -> PolicyMesh:
        """Build a mesh from files and folders.

        `plugins` are enabled in addition to the default ones; `settings` are theirs, by plugin and key.
        """
        from maesh_core.controller.mesh_states.reading import build_manifest_state
        from maesh_core.controller.simulating.simulation import Simulation
        from maesh_core.plugin_system.loading import load_plugins
        from maesh_core.settings import ControllerSettings

        chosen = _find_plugins(plugins)
        given = {name: dict(values) for name, values in (settings or {}).items()}
        controller = ControllerSettings(
            paths=tuple(map(str, paths)),
            recursive=recursive,
            default_mode=default_mode,
            plugins=chosen,
            plugin_settings=given,
        )
        loaded = load_plugins("controller", chosen, given)
        state = asyncio.run(build_manifest_state(controller, loaded, ", ".join(controller.paths)))
        return PolicyMesh(Simulation(state))

    def run(self, *scenarios: str | Path, plugins: Sequence[str] = ()) -> None:
        """Assert that all cases of scenario files, which name their manifests, have their expected results."""
        from maesh_core.cli.simulate.running import run_scenarios
        from maesh_core.settings.states import SimulateSettings

        settings = SimulateSettings(plugins=_find_plugins(plugins), recursive=True)
        _check_results(asyncio.run(run_scenarios(settings, list(map(str, scenarios)))))


def _find_plugins(names: Sequence[str]) -> "tuple[InstalledPlugin, ...]":
    from maesh_core.plugin_system.metadata import list_installed

    installed = list_installed()
    missing = set(names) - {each.name for each in installed}
    assert not missing, f"plugin {min(missing)} is not installed"
    return tuple(each for each in installed if each.is_default or each.name in names)


def _check_results(results: "Sequence[ScenarioResult]") -> None:
    failed = [_describe(case) for result in results for case in result.failed]
    assert not failed, "\n\n".join(failed)


def _describe(result: "CaseResult") -> str:
    request = f"{result.method} {result.path} from {result.client} to {result.service}"
    steps = "\n".join(f"  | {step}" for step in result.found.steps)
    return "\n".join([request, *(f"  {failure}" for failure in result.failures), steps])
