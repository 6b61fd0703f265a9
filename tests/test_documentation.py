"""The documentation as a whole: every page has its place in the site, and every list of names is that of the code."""

import importlib.util
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mkdocs.utils.yaml import yaml_load

from maesh_core.controller.configuration.annotation_values import CORE_ANNOTATIONS
from maesh_core.model.schemes import SCHEME_BY_APP_PROTOCOL
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import SHIPPED, list_installed
from maesh_core.proxy.node.admin import AdminPages

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SITE = yaml_load((ROOT / "mkdocs.yml").read_text())
LINK = re.compile(r"\]\(([^()\s#]+)")


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "documenting" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages, wrapping = load("repository_pages"), load("wrap_lines")


def list_nav(entries=SITE["nav"]):
    """List the pages of the navigation, whatever they are nested in."""
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from [value] if isinstance(value, str) else list_nav(value)


def list_tree():
    """List the tree's own folders and files of Python."""
    for name in ("maesh_core", "plugins", "tests", "compiling", "benchmarks", "documenting", "examples", "testing"):
        yield from (path for path in (ROOT / name, *(ROOT / name).rglob("*")) if path.is_dir() or path.suffix == ".py")


def list_paths(place):
    """List the folders and the files of Python, below a folder, that a page names as parts of the tree."""
    return re.findall(r"`((?:\w+/)+(?:\w+\.py)?)(?:::\w+)?`", read_page(place))


def read_page(place):
    return (ROOT / pages.find_source(place)).read_text()


def find_links(place):
    """Find the pages of the site that a page links to."""
    folder = posixpath.dirname(pages.find_source(place))
    targets = [posixpath.normpath(posixpath.join(folder, path)) for path in LINK.findall(read_page(place))]
    return {found for target in targets if (found := pages.find_place(target)) is not None}


# --- the tree --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["architecture.md", "development.md", "proxy-behaviour.md", "http2.md"])
def test_a_page_about_the_code_names_files_and_folders_that_exist(place):
    tree = [f"/{path.relative_to(ROOT)}{'/' * path.is_dir()}" for path in list_tree()]
    named = set(list_paths(place)) - {"maesh_core/a/b.py", "tests/a/test_b.py"}
    assert named
    assert [path for path in named if not any(each.endswith(f"/{path}") for each in tree)] == []


# --- the site --------------------------------------------------------------------------------------------------------


def test_every_page_is_once_in_the_navigation():
    assert sorted(list_nav()) == sorted(pages.list_places())


def test_the_navigation_has_the_sections_that_a_reader_looks_for():
    assert [next(iter(section)) for section in SITE["nav"]] == [
        "Start here",
        "Concepts",
        "Tasks",
        "Reference",
        "Plugin author's guide",
        "Operations",
        "Architecture",
    ]


def test_the_index_links_to_every_page():
    assert set(pages.list_places()) - find_links("index.md") == {"index.md"}


def test_the_build_fails_for_what_is_not_found():
    assert SITE["strict"] is True
    assert {value for checks in SITE["validation"].values() for value in checks.values()} == {"warn"}
    assert SITE["validation"]["links"].keys() >= {"not_found", "anchors"}


@pytest.mark.parametrize(
    ("place", "link", "expected"),
    [
        ("index.md", "[a](smi.md)", "[a](smi.md)"),
        ("index.md", "[a](smi.md#x)", "[a](smi.md#x)"),
        ("smi.md", "[a](../charts/README.md#upgrading)", "[a](helm-chart.md#upgrading)"),
        ("helm-chart.md", "[a](../docs/smi.md)", "[a](smi.md)"),
        ("plugins/acl.md", "[a](../../docs/smi.md#x)", "[a](../smi.md#x)"),
        ("plugins/acl.md", "[a](../smi/README.md)", "[a](smi.md)"),
        ("smi.md", "[the file](../examples/acl/acl.yaml)", "the file (`examples/acl/acl.yaml`)"),
        ("smi.md", "[`examples/acl/acl.yaml`](../examples/acl/acl.yaml)", "`examples/acl/acl.yaml`"),
        ("smi.md", "[a](nothing.md)", "[a](nothing.md)"),
        ("smi.md", "[a](../../outside.md)", "[a](../../outside.md)"),
        ("smi.md", "[a](https://example.org/x)", "[a](https://example.org/x)"),
        ("smi.md", "[a](#here)", "[a](#here)"),
        ("smi.md", "text\n```md\n[a](../charts/README.md)\n```\n", "text\n```md\n[a](../charts/README.md)\n```\n"),
    ],
)
def test_a_link_leads_within_the_site_or_becomes_a_path(place, link, expected):
    assert pages.adapt_links(link, place) == expected


class Loaded(HTMLParser):
    """Collects what a page loads when it is read: scripts, styles, images, frames."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        wanted = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}.get(tag)
        self.found += [value for name, value in attributes if name == wanted and value]


def test_the_site_builds_without_a_warning_and_loads_nothing_from_other_hosts(tmp_path, monkeypatch):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    built = sorted((tmp_path / "site").rglob("*.html"))
    assert len(built) == len(pages.list_places()) + 1, "all pages and that of an error"
    for path in built:
        loaded = Loaded()
        loaded.feed(path.read_text())
        assert loaded.found
        assert [value for value in loaded.found if re.match(r"([a-z]+:)?//", value)] == [], path.name
    styles = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*|@import[^;]*", styles) == []


# --- how the pages are written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", wrapping.list_pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_prose_fits_120_columns(page):
    assert wrapping.find_long_lines(page.read_text()) == [], "make format wraps it"


LONG = " ".join(["word"] * 40)


@pytest.mark.parametrize(
    "text",
    [
        f"| a | {LONG} |\n",
        f"# {LONG}\n",
        f"    {LONG}\n",
        f"```sh\n{LONG}\n```\n",
        f"~~~\n```\n{LONG}\n~~~\n",
        f"<!-- begin: x -->\n\n* {LONG}\n\n<!-- end: x -->\n",
        f"{'a' * 130}\n",
        "short\nlines stay\nas they are\n",
    ],
)
def test_what_is_no_prose_or_cannot_be_wrapped_stays(text):
    assert wrapping.wrap_page(text) == text


@given(
    st.lists(st.sampled_from(["word", "`a span`", "[a link](b.md#c)", "1.", "*", "-", "#", "x" * 30]), max_size=60),
    st.sampled_from(["", "* ", "1. ", "  ", "  * "]),
)
def test_wrapping_changes_line_ends_only_and_begins_no_line_with_a_mark(words, head):
    text = f"{head}text {' '.join(words)}".rstrip() + "\n"
    wrapped = wrapping.wrap_page(text)
    lines = wrapped.splitlines()
    assert wrapped.split() == text.split()
    assert wrapping.wrap_page(wrapped) == wrapped
    assert all(not re.match(r" *([*+-]|\d+[.)]|#+|>)( |$)", line) for line in lines[1:])
    assert all(line.count("`") % 2 == 0 for line in lines), "no code span is broken"


# --- what the pages say ----------------------------------------------------------------------------------------------


def read_rows(place):
    """Read the names in the first columns of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", read_page(place), re.MULTILINE))


def test_every_annotation_of_the_core_and_of_shipped_plugins_has_a_row():
    loaded = load_plugins("controller", [plugin for plugin in list_installed() if plugin.name in SHIPPED], {})
    hooks = ("maesh_middleware_builders", "maesh_balancer_builders", "maesh_transport_rules")
    claimed = {name for hook in hooks for builder in loaded.collect(hook) for name in builder.annotations}
    assert read_rows("annotations.md") == CORE_ANNOTATIONS | claimed


def test_every_app_protocol_has_a_row_with_its_scheme():
    _, _, table = read_page("annotations.md").partition("| `appProtocol` of the port |")
    rows = re.findall(r"^\| (`.+`) \| `(\w+)` \|$", table.partition("\n\n")[0], re.MULTILINE)
    assert {
        name: scheme for names, scheme in rows for name in re.findall(r"`([^`]+)`", names)
    } == SCHEME_BY_APP_PROTOCOL


def test_every_path_of_both_apis_has_a_row():
    admin = AdminPages(
        is_ready=bool,
        read_status=None,
        render_metrics=None,
        render_traffic=None,
        render_report=None,
        render_configuration=None,
        open_tap=None,
    )
    rows = {row for row in read_rows("api.md") if row.startswith("/")}
    assert {row for row in rows if not row.startswith("/api/")} == {
        "/reports/NAME",
        *(path.decode() for path in admin._pages),
    }
    assert {row for row in rows if row.startswith("/api/")} == {
        row for row in read_rows("controller-api.md") if row.startswith("/api/")
    }
