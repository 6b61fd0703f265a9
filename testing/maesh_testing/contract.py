"""What holds for every plugin, as tests: subclass `PluginContract` in a test module, and name the plugin.

    class TestContract(PluginContract):
        name = "stamp"
        settings = {"prefix": "X-"}
        annotations = {"stamp": "X-Team: payments"}
        bad_annotations = ({"stamp": "no header"},)

A guard says what it wants to see and what it answers otherwise; a plugin with a required setting, what to give it:

    class TestContract(PluginContract):
        name = "door"
        required_settings = {"key": "sesame"}
        annotations = {"door": "locked"}
        request_headers = {"X-Key": "sesame"}
        refused_status = 401

The plugin must be installed in the environment that the tests run in, as its users will have it.
"""

import ast
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from maesh_core.model.annotations import PREFIXES, SHOWN_CHARACTERS
from maesh_core.plugin import HOOK_API_VERSION, Plugin
from maesh_core.plugin_system.metadata import ENTRY_POINT_GROUP, find_name_problems, list_installed
from maesh_core.settings.loading import list_core_flags
from maesh_testing.commands import Command
from maesh_testing.http_client import Answer
from maesh_testing.running_mesh import HOST, NAMESPACE, RunningMesh, build_service
from maesh_testing.upstream import Upstream

_NOT_IN_A_PROXY = ("aiohttp", "typer", "click", "rich", "pydantic", "yaml", "watchfiles", "kubernetes_asyncio")
_NOT_IN_A_CONTROLLER = ("uvloop", "httptools")
_VERBOSE_IMPORT = re.compile(r"^import '([\w.]+)'", re.MULTILINE)
_WATCHED = {"PYTHONVERBOSE": "1"}
"""Lets each process of Python write what it imports."""
_LIST_MODULES = "import sys; from importlib import import_module; import_module(sys.argv[1]); print(*sys.modules)"


class PluginContract:
    """The contract; a subclass says which plugin it is about, and what a service says to have it."""

    name: ClassVar[str]
    """The plugin's name: its entry point, and its flag."""

    settings: ClassVar[Mapping[str, str]] = {}
    """For each setting a value, as `--set NAME.KEY=VALUE` takes it."""

    required_settings: ClassVar[Mapping[str, str]] = {}
    """Settings without which the plugin refuses to start, as `settings`; every run is given them."""

    run_switches: ClassVar[Sequence[str]] = ()
    """Further flags of `maesh up` for every run, such as `--smi` where the plugin has a use for it."""

    annotations: ClassVar[Mapping[str, str]] = {}
    """Good values of every annotation that the plugin claims, without prefix: a GET gets `expected_status`."""

    request_headers: ClassVar[Mapping[str, str]] = {}
    """Headers of every request, such as those that a guard wants to see."""

    expected_status: ClassVar[int] = 200
    """What a GET with `request_headers` is answered by a service that has the plugin."""

    refused_status: ClassVar[int | None] = None
    """What a GET without `request_headers` is answered by such a service; None: it is not asked."""

    bad_annotations: ClassVar[Sequence[Mapping[str, str]]] = ()
    """Annotations of a service, the last of which has a bad value. Some are needed where `annotations` are."""

    switched_on: ClassVar[Sequence[str] | None] = None
    """The flags that switch it on; None: its own. (`--smi` is the old name of another plugin's.)"""

    @property
    def _switch(self) -> Sequence[str]:
        return (f"--{self.name}",) if self.switched_on is None else self.switched_on

    @property
    def _on(self) -> Sequence[str]:
        return (*self._switch, *self.run_switches, *self._render_settings(self.required_settings))

    @property
    def _on_with_settings(self) -> Sequence[str]:
        return (*self._switch, *self.run_switches, *self._render_settings(self._settings))

    @property
    def _off(self) -> Sequence[str]:
        return (f"--no-{self.name}", *self.run_switches)

    @property
    def _settings(self) -> Mapping[str, str]:
        return {**self.required_settings, **self.settings}

    @pytest.fixture
    def good_annotations(self) -> Mapping[str, str]:
        """Return `annotations`; override it where they depend on what a test starts."""
        return self.annotations

    @pytest.fixture
    def entry_point(self) -> EntryPoint:
        """Find the plugin's entry point."""
        found = entry_points(group=ENTRY_POINT_GROUP, name=self.name)
        assert len(found) == 1, f"{self.name!r} is registered {len(found)} times in group {ENTRY_POINT_GROUP}"
        return next(iter(found))

    @pytest.fixture
    def distribution(self, entry_point: EntryPoint) -> Distribution:
        """Return what pip has installed."""
        assert entry_point.dist is not None
        return entry_point.dist

    @pytest.fixture
    def plugin(self, entry_point: EntryPoint) -> Plugin:
        """Load the declaration."""
        found = entry_point.load()
        assert isinstance(found, Plugin)
        return found

    def test_its_distribution_needs_maesh_and_its_name_can_be_a_flag(self, distribution: Distribution) -> None:
        """pip brings the mesh along, and no flag of the mesh or of another plugin is taken."""
        needed = [requirement.split(";")[0].strip().lower() for requirement in distribution.requires or ()]
        assert any(_read_name(requirement) == "maesh" for requirement in needed), needed
        problems = find_name_problems(list_installed(), list_core_flags())
        assert [text for plugin, text in problems.items() if plugin.name == self.name] == []

    def test_it_is_made_for_this_hook_api(self, plugin: Plugin) -> None:
        """An older one could misbehave, and is refused at start."""
        assert plugin.hook_api_version == HOOK_API_VERSION
        assert plugin.controller or plugin.proxy, "it has no half"

    def test_its_readme_names_its_flag_settings_and_annotations(
        self, distribution: Distribution, plugin: Plugin
    ) -> None:
        """What it takes is written down where people look first."""
        readme = str(distribution.metadata.get_payload() or distribution.metadata["Description"])  # type: ignore[attr-defined]
        fields = msgspec.structs.fields(plugin.settings) if plugin.settings else ()
        keys = [field.encode_name.replace("_", "-") for field in fields]
        assert sorted(keys) == sorted(self._settings), "the test names its settings, each with a value"
        assert f"--{self.name}" in readme or f"--no-{self.name}" in readme
        assert [name for name in (*keys, *self.annotations) if name not in readme] == []

    def test_of_maesh_it_imports_the_plugin_module_alone(self, entry_point: EntryPoint) -> None:
        """Everything else may change in any version."""
        foreign = {
            (path.name, module)
            for path in _find_sources(entry_point)
            for module in _find_imports(path)
            if module.partition(".")[0] == "maesh_core" and module != "maesh_core.plugin"
        }
        assert foreign == set()

    def test_its_declaration_imports_neither_half(self, entry_point: EntryPoint, plugin: Plugin) -> None:
        """The declaration is imported by both processes, so it must not bring a half along."""
        halves = {path.partition(":")[0] for path in (plugin.controller, plugin.proxy) if path}
        assert halves & _list_modules(entry_point.module) == set()

    def test_its_halves_bring_nothing_into_a_process_that_does_not_belong_there(self, plugin: Plugin) -> None:
        """A proxy stays small, and a controller carries no traffic."""
        for path, unwanted in ((plugin.proxy, _NOT_IN_A_PROXY), (plugin.controller, _NOT_IN_A_CONTROLLER)):
            if path:
                module = path.partition(":")[0]
                assert set(unwanted) & _list_modules(module) == set(), f"imported by {module}"

    @pytest.mark.integration
    def test_it_loads_alone_and_beside_all_that_are_installed(self, run_maesh: Callable[..., Command]) -> None:
        """Nothing that it gives is claimed by another plugin, and it needs none."""
        fixed = {self.name, *(flag.removeprefix("--").removeprefix("no-") for flag in self.run_switches)}
        others = [plugin.name for plugin in list_installed() if plugin.name not in fixed]
        for switches in ([f"--no-{name}" for name in others], [f"--{name}" for name in others]):
            command = run_maesh("plugins", "--json", *self._on_with_settings, *switches)
            assert command.status == 0, command.stderr
            (report,) = [each for each in json.loads(command.stdout) if each["name"] == self.name]
            assert report["error"] is None
            assert report["provides"]
            claimed = {name for text in report["provides"] for name in _read_claimed(text)}
            assert claimed <= set(self.annotations), "the test names its annotations, each with a good value"

    @pytest.mark.integration
    def test_it_starts_with_its_settings_and_not_without_those_that_it_requires(
        self, start_mesh: Callable[..., RunningMesh], run_maesh: Callable[..., Command], tmp_path: Path
    ) -> None:
        """What the README names is taken, and what is missing is named."""
        if self._settings != self.required_settings:
            self._check_answers(start_mesh(*self._on_with_settings), has_plugin=not self.annotations)
        for missing in self.required_settings:
            given = {key: text for key, text in self.required_settings.items() if key != missing}
            switches = (*self._switch, *self.run_switches, *self._render_settings(given))
            command = run_maesh("up", tmp_path, *switches)
            assert command.status == 1, f"it starts without its setting {missing}"
            assert missing in command.stderr
            assert "Traceback" not in command.stderr

    @pytest.mark.integration
    def test_a_setting_that_it_does_not_have_stops_the_start(
        self, run_maesh: Callable[..., Command], tmp_path: Path
    ) -> None:
        """A misspelt setting must not go unnoticed."""
        command = run_maesh("up", tmp_path, *self._on, "--set", f"{self.name}.no-such-setting=1")
        assert command.status == 1
        assert "no-such-setting" in command.stderr
        assert "Traceback" not in command.stderr

    @pytest.mark.integration
    def test_where_it_is_off_nothing_imports_it_and_its_annotations_are_not_ignored_in_silence(
        self,
        start_mesh: Callable[..., RunningMesh],
        entry_point: EntryPoint,
        good_annotations: Mapping[str, str],
    ) -> None:
        """It costs nothing there, in any process, and a service says what it asks for and does not get."""
        mesh = start_mesh(*self._off, annotations=good_annotations, env=_WATCHED)
        assert _find_imported(mesh.command.stderr, entry_point.module.partition(".")[0]) == set()
        if self.annotations:
            service = mesh.describe_service()
            told = "\n".join((*service["errors"], *service["notices"]))
            assert any(name in told for name in good_annotations), told

    @pytest.mark.integration
    def test_its_switch_imports_it_and_no_other_setting_is_needed(
        self, start_mesh: Callable[..., RunningMesh], entry_point: EntryPoint
    ) -> None:
        """The defaults of all settings but those that it requires are enough."""
        mesh = start_mesh(*self._on, env=_WATCHED)
        package = entry_point.module.partition(".")[0]
        assert package in _find_imported(mesh.command.stderr, package)
        self._check_answers(mesh, has_plugin=not self.annotations)

    @pytest.mark.integration
    def test_a_service_has_it_by_either_prefix_and_a_bad_annotation_closes_that_service_alone(
        self,
        start_mesh: Callable[..., RunningMesh],
        start_upstream: Callable[..., Upstream],
        good_annotations: Mapping[str, str],
    ) -> None:
        """Annotations of Maesh and of Traefik Mesh mean the same. An error names the annotation and its value."""
        if not self.annotations:  # test_it_loads_... has seen that it claims none
            pytest.skip("the plugin claims no annotations")
        assert self.bad_annotations, "the test names a bad value"
        other = start_upstream("other")
        mesh = start_mesh(*self._on, objects=build_service("other", [(other.address, other.port)]))
        for annotations in self.bad_annotations:
            self._check_closes(mesh, annotations)
        for prefix in PREFIXES:
            self._check_closes(mesh, self.bad_annotations[0])  # what is served afterwards has the new annotations
            mesh.set_annotations({f"{prefix}{name}": text for name, text in good_annotations.items()})
            mesh.wait_until(lambda: not mesh.describe_service()["errors"], f"a service with {prefix}")
            assert mesh.describe_service()["notices"] == []
            mesh.wait_until(lambda: self._ask(mesh).status == self.expected_status, str(self.expected_status))
            self._check_answers(mesh, has_plugin=True)

    def _check_closes(self, mesh: RunningMesh, annotations: Mapping[str, str]) -> None:
        """Check that these annotations, the last of which is bad, close the service, say why, and close no other."""
        mesh.set_annotations(annotations)
        name, text = list(annotations.items())[-1]
        shown = repr(text)[1:-1][:SHOWN_CHARACTERS]

        def find_errors() -> list[str]:
            return [each for each in mesh.describe_service()["errors"] if name in each and shown in each]

        mesh.wait_until(find_errors, f"an error that names {name} and {text!r}")
        mesh.wait_until(lambda: self._ask(mesh).status >= 400, "a closed service")
        assert self._ask(mesh, host=f"other.{NAMESPACE}.maesh").text == "other"

    def _ask(self, mesh: RunningMesh, host: str = HOST) -> Answer:
        return mesh.get(host=host, headers=self.request_headers)

    def _check_answers(self, mesh: RunningMesh, *, has_plugin: bool) -> None:
        """Check what the service answers, with the headers and, where that is said, without them."""
        assert self._ask(mesh).status == (self.expected_status if has_plugin else 200)
        if has_plugin and self.refused_status is not None:
            assert mesh.get().status == self.refused_status, "the answer to a request without `request_headers`"

    def _render_settings(self, settings: Mapping[str, str]) -> list[str]:
        return [word for key, text in settings.items() for word in ("--set", f"{self.name}.{key}={text}")]


def _read_name(requirement: str) -> str:
    """Read the name in front of a requirement's versions and extras (PEP 508)."""
    for index, character in enumerate(requirement):
        if not (character.isalnum() or character in "-_."):
            return requirement[:index]
    return requirement


def _find_sources(entry_point: EntryPoint) -> list[Path]:
    """Find the plugin's modules: its package's, or the one that it is."""
    spec = find_spec(entry_point.module.partition(".")[0])
    assert spec is not None
    if spec.submodule_search_locations is None:
        assert spec.origin is not None
        return [Path(spec.origin)]
    return [path for folder in spec.submodule_search_locations for path in sorted(Path(folder).rglob("*.py"))]


def _find_imports(path: Path) -> list[str]:
    """Find the modules that a source imports, at any place in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found += whole if node.module == "maesh_core" else [node.module]
    return found


def _list_modules(module: str) -> set[str]:
    """List what is imported in a fresh interpreter once this module is."""
    command = (sys.executable, "-P", "-c", _LIST_MODULES, module)
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())  # noqa: S603


def _find_imported(written: str, package: str) -> set[str]:
    """Find in what a verbose interpreter writes those of its imports that are of one package."""
    return {name for name in _VERBOSE_IMPORT.findall(written) if name.partition(".")[0] == package}


def _read_claimed(text: str) -> list[str]:
    """Read the annotations from a line of what a plugin provides: `middleware stamp (annotation stamp)`."""
    with contextlib.suppress(ValueError):
        _, listed = text.rstrip(")").split(" (annotation", 1)
        return listed.removeprefix("s").strip().split(", ")
    return []
