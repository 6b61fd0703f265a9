"""The compiled form beside its sources, in small packages that are built once: `value` is compiled, `words` is not.

One package is the core of its own; the other is a plugin, whose `words` are the core's.
"""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from maesh_core import compiled, engine
from maesh_core.plugin_system.metadata import SHIPPED

ROOT = Path(__file__).resolve().parents[1]


def load_engine():
    spec = importlib.util.spec_from_file_location("compiling_engine", ROOT / "compiling" / "engine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_extensions():
    spec = importlib.util.spec_from_file_location("compiling_extensions", ROOT / "compiling" / "extensions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


building = load_engine()
needs_compiler = pytest.mark.skipif(not building.has_compiler(), reason="there is no C compiler")
INIT = "from small.compiled import install_finder\nengine = install_finder()\n"
VALUE = "from small.words import WORD\n\ndef read() -> str:\n    return WORD + '{}'\n"
PLUGIN_INIT = "from typing import Final\n\nimport maesh_core.words\n\nEND: Final = '{}'\n"
PLUGIN_VALUE = """
from maesh_core.words import WORD
from small import END

def read() -> str:
    return WORD + '{}' + END
"""
WORDS = "from typing import Final\n\nWORD: Final = '{}'\n"
PROGRAM = """
import small.value
print(small.engine.form, small.value.read(), small.value.__file__)
"""


class Tree:
    def __init__(self, root):
        self.root = root
        self.package = root / "small"
        self.engine = building.Engine(root, "small", ["small/value.py"])

    def run(self, **environment):
        """Run the program; give the form that it saw, what it read, and standard error."""
        kept = {name: value for name, value in os.environ.items() if name != compiled.PURE_VARIABLE}
        command = [sys.executable, "-B", "-c", PROGRAM]
        ended = subprocess.run(
            command, cwd=self.root, env=kept | environment, capture_output=True, text=True, check=True
        )
        form, value, file = ended.stdout.split()
        assert Path(file).is_relative_to(self.package / compiled.FOLDER) == (form == "compiled")
        assert Path(file).exists()
        return form, value, ended.stderr


@pytest.fixture(scope="module")
def built(make_once):
    return Tree(make_once("built", build_tree))


def build_tree(root):
    tree = Tree(root)
    tree.package.mkdir()
    (tree.package / "__init__.py").write_text(INIT)
    (tree.package / "value.py").write_text(VALUE.format(1))
    (tree.package / "words.py").write_text(WORDS.format("word"))
    shutil.copy(compiled.__file__, tree.package)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(compiled.PURE_VARIABLE, raising=False)
        tree.engine.install(tree.engine.build())


@pytest.fixture
def tree(built, tmp_path):
    return Tree(shutil.copytree(built.root, tmp_path / "copy"))


class PluginTree:
    """A plugin and the core that it is for, in folders of their own, as an editable install leaves them."""

    def __init__(self, root):
        self.root = root
        self.core, self.package = root / "maesh_core", root / "plugin" / "small"
        self.engine = building.Engine(root / "plugin", "small", ["small/value.py"], core=root)

    def run(self, **environment):
        """Run the program; give the form that it saw, what it read, and standard error."""
        kept = {name: value for name, value in os.environ.items() if name != compiled.PURE_VARIABLE}
        kept["PYTHONPATH"] = f"{self.root}{os.pathsep}{self.root / 'plugin'}"
        command = [sys.executable, "-B", "-c", "from small import value; print(value.read(), value.__file__)"]
        ended = subprocess.run(
            command, cwd=self.root, env=kept | environment, capture_output=True, text=True, check=True
        )
        value, file = ended.stdout.split()
        is_compiled = Path(file).is_relative_to(self.package / compiled.FOLDER)
        return "compiled" if is_compiled else "pure", value, ended.stderr


@pytest.fixture(scope="module")
def built_plugin(tmp_path_factory):
    tree = PluginTree(tmp_path_factory.mktemp("plugin"))
    tree.core.mkdir()
    tree.package.mkdir(parents=True)
    (tree.core / "__init__.py").write_text(INIT.replace("small", "maesh_core"))
    (tree.core / "words.py").write_text(WORDS.format("word"))
    shutil.copy(compiled.__file__, tree.core)
    (tree.package / "__init__.py").write_text(PLUGIN_INIT.format("!"))
    (tree.package / "value.py").write_text(PLUGIN_VALUE.format(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(compiled.PURE_VARIABLE, raising=False)
        tree.engine.install(tree.engine.build())
    return tree


@pytest.fixture
def plugin_tree(built_plugin, tmp_path):
    return PluginTree(shutil.copytree(built_plugin.root, tmp_path / "copy"))


@needs_compiler
def test_compiled_modules_are_loaded(tree):
    assert tree.run() == ("compiled", "word1", "")


@needs_compiler
def test_an_edited_source_runs_and_not_what_was_compiled_before(tree):
    (tree.package / "value.py").write_text(VALUE.format(2))
    form, value, said = tree.run()
    assert (form, value) == ("pure", "word2")
    assert said == (
        "maesh: warning: the compiled modules do not fit value.py; the plain Python runs"
        " (make compiled builds them again)\n"
    )
    (tree.package / "value.py").write_text(VALUE.format(1))
    assert tree.run() == ("compiled", "word1", "")


@needs_compiler
def test_an_edit_of_what_a_compiled_module_imports_takes_effect(tree):
    (tree.package / "words.py").write_text(WORDS.format("other"))
    form, value, said = tree.run()
    assert (form, value) == ("pure", "other1")
    assert "words.py" in said


@needs_compiler
def test_a_variable_has_the_sources_run(tree):
    assert tree.run(MAESH_PURE="1") == ("pure", "word1", "")


@needs_compiler
def test_what_another_python_compiled_is_not_loaded(tree):
    manifest = tree.package / compiled.FOLDER / compiled.MANIFEST
    manifest.write_text(manifest.read_text().replace(".cpython-", ".another-"))
    form, value, said = tree.run()
    assert (form, value) == ("pure", "word1")
    assert "do not fit this Python" in said


@needs_compiler
def test_a_plugin_is_loaded_in_compiled_form_beside_a_core_that_is_not_compiled(plugin_tree):
    assert plugin_tree.run() == ("compiled", "word1!", "")
    assert plugin_tree.run(MAESH_PURE="1") == ("pure", "word1!", "")


@needs_compiler
@pytest.mark.parametrize(
    ("edited", "text", "what", "value"),
    [
        ("plugin/small/value.py", PLUGIN_VALUE.format(2), "value.py", "word2!"),
        ("plugin/small/__init__.py", PLUGIN_INIT.format("?"), "__init__.py", "word1?"),
        ("maesh_core/words.py", WORDS.format("other"), "maesh_core/words.py", "other1!"),
    ],
    ids=["its-module", "its-package", "the-core"],
)
def test_an_edit_of_what_a_plugin_was_compiled_from_takes_effect(plugin_tree, edited, text, what, value):
    (plugin_tree.root / edited).write_text(text)
    warning = (
        f"maesh: warning: small: the compiled modules do not fit {what}; the plain Python runs"
        " (make compiled builds them again)\n"
    )
    assert plugin_tree.run() == ("pure", value, warning)
    assert plugin_tree.engine.refresh() == f"the compiled modules do not fit {what}"
    assert plugin_tree.run() == ("pure", value, "")


@needs_compiler
def test_an_edit_of_what_no_compiled_module_of_a_plugin_imports_leaves_it_compiled(plugin_tree):
    (plugin_tree.core / "other.py").write_text("NUMBER = 1\n")
    (plugin_tree.package / "other.py").write_text("NUMBER = 1\n")
    assert plugin_tree.run() == ("compiled", "word1!", "")


@needs_compiler
def test_refreshing_removes_what_does_not_fit_and_nothing_else(tree):
    folder = tree.package / compiled.FOLDER
    assert tree.engine.refresh() == ""
    assert folder.exists()
    (tree.package / "value.py").write_text(VALUE.format(2))
    assert tree.engine.refresh() == "the compiled modules do not fit value.py"
    assert not folder.exists()
    assert tree.run() == ("pure", "word2", "")


@needs_compiler
def test_the_same_sources_are_compiled_once(tree, monkeypatch):
    monkeypatch.delenv(compiled.PURE_VARIABLE, raising=False)
    tree.engine.log.unlink()
    tree.engine.install(tree.engine.build())
    assert not tree.engine.log.exists()
    assert tree.run() == ("compiled", "word1", "")


def test_sources_are_joined_to_parts_of_about_the_same_size_in_their_order(tmp_path):
    extensions = load_extensions()
    size = extensions.PART_BYTES // 2
    sources = [tmp_path / f"{name}.c" for name in "abcde"]
    for source in sources:
        source.write_text(" " * size + "x" * size + "\n")
    parts = extensions.join_sources([str(source) for source in sources], tmp_path)
    found = [[Path(line.split('"')[1]).name for line in Path(part).read_text().splitlines()] for part in parts]
    assert found == [["a.c", "b.c"], ["c.c", "d.c"], ["e.c"]]


def test_a_condition_that_mypyc_negates_by_half_is_corrected(tmp_path):
    file = tmp_path / "module.c"
    right = "if (unlikely(cpy_r_r1.f0 == -113.0 && PyErr_Occurred())) {"
    file.write_text(f"{right}\nif (likely(cpy_r_r36.f0 != -113.0 && PyErr_Occurred())) goto CPyL21;\n")
    load_extensions().correct_conditions(file)
    assert file.read_text() == f"{right}\nif (likely(!(cpy_r_r36.f0 == -113.0 && PyErr_Occurred()))) goto CPyL21;\n"


@needs_compiler
def test_a_module_that_mypyc_refuses_is_not_compiled_and_the_reason_is_one_line(tree, monkeypatch):
    monkeypatch.delenv(compiled.PURE_VARIABLE, raising=False)
    (tree.package / "value.py").write_text("def read() -> str:\n    return 1\n")
    with pytest.raises(building.NotCompiledError, match=r"\Acompiling failed: small/value\.py:2: error: .*\Z"):
        tree.engine.build()


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [("CC", "/nowhere/cc -pthread", "no C compiler was found"), (compiled.PURE_VARIABLE, "1", "MAESH_PURE is set")],
)
def test_without_a_compiler_or_where_it_is_unwanted_nothing_is_compiled(tmp_path, monkeypatch, variable, value, reason):
    monkeypatch.delenv(compiled.PURE_VARIABLE, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(building.NotCompiledError, match=f"^{reason}$"):
        Tree(tmp_path).engine.build()


def test_the_reason_of_a_pure_build_is_known_where_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.delenv(compiled.PURE_VARIABLE, raising=False)
    assert compiled.CompiledFinder(str(tmp_path)).reason == "it was not compiled"
    (tmp_path / compiled.FOLDER).mkdir()
    (tmp_path / compiled.FOLDER / compiled.REASON).write_text("when it was built: no C compiler was found\n")
    finder = compiled.CompiledFinder(str(tmp_path))
    assert (finder.reason, finder.is_stale) == ("when it was built: no C compiler was found", False)
    assert finder.form == "pure"


PROJECTS = building.open_all()
# What has nothing to compile: what has no half in workers, mtls, whose work is per connection, and jwt, whose work is
# that of a library.
COMPILED = SHIPPED - {"dashboard", "egress", "gateway", "jwt", "mtls"}


@pytest.mark.parametrize("engine", PROJECTS, ids=lambda engine: engine.package.name)
def test_every_module_of_the_list_is_there_once(engine):
    assert engine.modules == sorted(set(engine.modules))
    assert all((engine.root / path).is_file() for path in engine.modules)


@pytest.mark.parametrize("engine", PROJECTS, ids=lambda engine: engine.package.name)
def test_no_compiled_module_has_a_class_with_keywords_which_mypyc_would_drop(engine):
    for path in engine.modules:
        nodes = ast.walk(ast.parse((engine.root / path).read_text()))
        assert [each.name for each in nodes if isinstance(each, ast.ClassDef) and each.keywords] == []


def test_every_shipped_plugin_with_work_for_each_request_has_modules_to_compile():
    assert {f"maesh_{name.replace('-', '_')}" for name in COMPILED} == {engine.package.name for engine in PROJECTS[1:]}


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({compiled.PURE_VARIABLE: "1"}, "MAESH_PURE is set"),
        ({"CC": "/nowhere/cc"}, "no C compiler was found"),
        pytest.param({"CC": "/bin/false"}, "compiling failed: error: ", marks=needs_compiler),
    ],
)
@pytest.mark.slow
def test_a_wheel_that_cannot_be_compiled_is_pure_and_says_why_in_one_line(tmp_path, environment, reason):
    leftover = Path("maesh_core", compiled.FOLDER, "leftover.so")
    for name in ("maesh_core", "compiling"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns(compiled.FOLDER, "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "compiling" / "modules.txt").write_text("maesh_core/proxy/network/clock.py\n")
    for folder in ("", "build/lib", "build/lib.linux-x86_64-cpython-311"):
        (tmp_path / folder / leftover).parent.mkdir(parents=True)
        (tmp_path / folder / leftover).touch()
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", "wheels"]
    kept = {name: value for name, value in os.environ.items() if name != compiled.PURE_VARIABLE}
    ended = subprocess.run(command, cwd=tmp_path, env=kept | environment, capture_output=True, text=True, check=True)
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("maesh: ")]
    assert said.startswith(f"maesh: not compiled, the plain Python will run: {reason}")
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"maesh_core/{compiled.FOLDER}/")]
        assert names == [f"maesh_core/{compiled.FOLDER}/{compiled.REASON}"]
        assert archive.read(names[0]).startswith(f"when it was built: {reason}".encode())


def test_a_wheel_of_a_plugin_that_cannot_be_compiled_is_pure_and_says_why(tmp_path):
    for name in ("maesh_core", "compiling", "plugins/retry"):
        ignored = shutil.ignore_patterns(compiled.FOLDER, "__pycache__", "build", "*.egg-info")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    wheel, said = build_plugin_wheel(tmp_path / "plugins" / "retry")
    assert said == ["maesh-retry: not compiled, the plain Python will run: MAESH_PURE is set"]
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("maesh_retry/_compiled/reason") == b"when it was built: MAESH_PURE is set\n"


def test_a_plugin_that_is_unpacked_elsewhere_is_built_as_plain_python_and_says_so(tmp_path):
    ignored = shutil.ignore_patterns(compiled.FOLDER, "__pycache__", "build", "*.egg-info")
    folder = shutil.copytree(ROOT / "plugins" / "retry", tmp_path / "a" / "b" / "retry", ignore=ignored)
    wheel, said = build_plugin_wheel(folder)
    assert said == ["maesh-retry: not compiled, the plain Python will run: it is built outside of Maesh's repository"]
    with zipfile.ZipFile(wheel) as archive:
        assert "maesh_retry/proxy.py" in archive.namelist()


def build_plugin_wheel(folder):
    """Build a wheel where nothing is to be compiled; give its path, and what the build said of compiling."""
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", "wheels"]
    environment = os.environ | {compiled.PURE_VARIABLE: "1"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    (wheel,) = (folder / "wheels").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    return wheel, [line for line in ended.stderr.splitlines() if line.startswith("maesh")]


@needs_compiler
@pytest.mark.integration
@pytest.mark.timeout(600)
def test_a_wheel_of_this_tree_is_compiled_and_loads_what_was_compiled(tmp_path):
    kept = {name: value for name, value in os.environ.items() if name != compiled.PURE_VARIABLE}
    if engine.form != "compiled":  # the build of these sources is used again, if there is one
        kept["MYPYC_OPT_LEVEL"] = "0"  # most of the time is the C compiler's optimization
    former = ROOT / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / "maesh_core"
    former.mkdir(parents=True, exist_ok=True)
    (former / "removed_since.py").touch()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "--wheel-dir", tmp_path], cwd=ROOT, env=kept, check=True)
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    assert not (tmp_path / "installed" / "maesh_core" / "removed_since.py").exists()
    imports = "from maesh_core import engine; from maesh_core.proxy.network import clock"
    program = f"{imports}; print(engine.form, clock.__file__)"
    ended = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env=kept | {"PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    form, file = ended.stdout.split()
    assert form == "compiled"
    assert Path(file).is_relative_to(tmp_path / "installed" / "maesh_core" / compiled.FOLDER)
    assert not ended.stderr


@needs_compiler
@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(COMPILED))
def test_a_wheel_of_a_plugin_loads_what_was_compiled(tmp_path, name):
    kept = {name: value for name, value in os.environ.items() if name != compiled.PURE_VARIABLE}
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "--wheel-dir", tmp_path], cwd=ROOT / "plugins" / name, env=kept, check=True)
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    package = f"maesh_{name.replace('-', '_')}"
    (engine,) = [each for each in PROJECTS if each.package.name == package]
    modules = [path.removesuffix(".py").replace("/", ".") for path in engine.modules]
    program = f"from importlib import import_module as load; print(*(load(name).__file__ for name in {modules}))"
    ended = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env=kept | {"PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "installed" / package / compiled.FOLDER
    assert [Path(file).is_relative_to(folder) for file in ended.stdout.split()] == [True] * len(modules)
    assert not ended.stderr
