"""Writes the parts of the documentation that come from the code: the flags and the hooks.

`python -m maesh_core.cli.reference FOLDER` rewrites, in the documents of FOLDER, the text between the markers
`<!-- begin: NAME -->` and `<!-- end: NAME -->`. A test checks that the documents are up to date.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maesh_core import plugin
from maesh_core.cli.flag_groups import group_fields
from maesh_core.controller.checking.catalogue import FindingCatalogue
from maesh_core.plugin_system import (
    commands,
    controllers,
    converters,
    describing,
    middleware,
    node,
    pages,
    policy_checks,
    protocols,
    request_sources,
    transports,
)
from maesh_core.plugin_system.hookspecs import SPEC_FAMILIES
from maesh_core.plugin_system.interfaces import bodies, connection, exchange, explaining, messages, servers, views
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import SHIPPED, list_installed
from maesh_core.plugin_system.policy_checks import FindingKind
from maesh_core.settings import (
    CleanupSettings,
    CommonSettings,
    ControllerSettings,
    DashboardSettings,
    ExplainSettings,
    PluginsSettings,
    PrepareSettings,
    ProxySettings,
    StatusSettings,
    UpSettings,
)
from maesh_core.settings.check import CheckSettings
from maesh_core.settings.fields import SettingField, list_fields
from maesh_core.settings.states import DiffSettings, SimulateSettings
from maesh_core.settings.traffic import TapSettings, TopSettings

_COMMANDS = {
    "up": UpSettings,
    "controller": ControllerSettings,
    "proxy": ProxySettings,
    "check": CheckSettings,
    "explain": ExplainSettings,
    "diff": DiffSettings,
    "simulate": SimulateSettings,
    "status": StatusSettings,
    "top": TopSettings,
    "tap": TapSettings,
    "dashboard": DashboardSettings,
    "plugins": PluginsSettings,
    "prepare": PrepareSettings,
    "cleanup": CleanupSettings,
}
_FAMILIES = {
    "DiscoverySpecs": "Discovery",
    "TopologySpecs": "Topology",
    "PolicySpecs": "Policy",
    "StatusSpecs": "Status",
    "PageSpecs": "Pages",
    "ConditionSpecs": "Mesh conditions",
    "ServiceSpecs": "Controller services",
    "ProtocolSpecs": "Protocol",
    "BalancingSpecs": "Balancing",
    "MiddlewareSpecs": "Middleware",
    "ObservationSpecs": "Observation",
    "TransportSpecs": "Transports",
}

_COMMANDS_TITLE = "Commands"
_CONVERTERS_TITLE = "Converters"
"""Commands and converters come from the package metadata, not from a hook."""


def render_flags(settings_class: type[CommonSettings]) -> str:
    """Render the flags of one command as a table."""
    rows = [_render_row(field) for fields in group_fields(list_fields(settings_class)).values() for field in fields]
    return "\n".join(["| flag | variable | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _render_row(field: SettingField) -> str:
    value = f" {field.placeholder}" if field.placeholder else f"`, `--no-{field.flag[2:]}"
    flag = f"`{field.flag}{value}`".replace("|", "\\|")
    default = f"`{field.default_text}`" if field.default_text else ""
    return f"| {flag} | `{field.variable}` | {default} | {field.description} |"


def render_hooks() -> str:
    """Render every hook with its exact signature and its rules, by family, and the interfaces of its objects."""
    known = list_interfaces()
    families = [_render_family(family, known) for family in SPEC_FAMILIES]
    rest = [_render_interface(found) for found in known if not found.family]
    of_commands = [_render_interface(found) for found in known if found.family == _COMMANDS_TITLE]
    of_converters = [_render_interface(found) for found in known if found.family == _CONVERTERS_TITLE]
    others = ["### Commands", *of_commands, "### Converters", *of_converters]
    return "\n\n".join([*families, *others, "### What the halves in a proxy receive", *rest])


def render_hook_table() -> str:
    """Render a row for each hook: its name, with a link to its signature and interfaces, and its description."""
    rows = ["| hook | what it returns | when it runs |", "| --- | --- | --- |"]
    for family in SPEC_FAMILIES:
        anchor = _FAMILIES[family.__name__].lower().replace(" ", "-")
        for name, function in vars(family).items():
            if name.startswith("maesh_"):
                purpose, _, rest = " ".join((inspect.getdoc(function) or "").split()).partition(". ")
                result = purpose.removeprefix("Return ")
                rows.append(f"| [`{name}`](plugins.md#{anchor}) | {result} | {rest.rstrip('.')} |")
    return "\n".join(rows)


def _render_family(family: type, known: Sequence["Interface"]) -> str:
    title = _FAMILIES[family.__name__]
    blocks = [f"### {title}"]
    for name, function in vars(family).items():
        if name.startswith("maesh_"):
            text = " ".join((inspect.getdoc(function) or "").split())
            blocks.append(f"```python\n{render_signature(name, function)}\n```\n\n{text}")
    blocks += [_render_interface(found) for found in known if found.family == title]
    return "\n\n".join(blocks)


def render_signature(name: str, function: object) -> str:
    """Render the signature of a hook as declared."""
    if not inspect.isfunction(function):
        raise TypeError(f"{name} is not a function")
    return f"def {name}{_render_arguments(function)}"


def _render_arguments(function: Callable[..., Any]) -> str:
    signature = str(inspect.signature(function)).replace("collections.abc.", "")
    signature = re.sub(r"-> '(.+)'$", r"-> \1", signature)  # types that are imported only for type checkers
    return re.sub(r"maesh_core(?:[.][a-z_]+)+[.]", "", signature)


class Member(NamedTuple):
    """An attribute or a method: its declaration and its description."""

    declaration: str
    text: str


class Interface(NamedTuple):
    """A class of a module that declares; `family` titles its part of the module, empty for none."""

    name: str
    family: str
    text: str
    members: tuple[Member, ...]


def list_interfaces() -> list[Interface]:
    """Read from their sources the members of the objects that hooks return, then of those that hooks receive."""
    families = {
        transports: _FAMILIES["TransportSpecs"],
        controllers: _FAMILIES["ServiceSpecs"],
        commands: _COMMANDS_TITLE,
        converters: _CONVERTERS_TITLE,
        policy_checks: _FAMILIES["PolicySpecs"],
        request_sources: _FAMILIES["MiddlewareSpecs"],
    }
    return [
        found
        for module in (
            *dict.fromkeys(sys.modules[family.__module__] for family in SPEC_FAMILIES),
            describing,
            protocols,
            middleware,
            request_sources,
            pages,
            controllers,
            commands,
            converters,
            policy_checks,
            views,
            servers,
            messages,
            explaining,
            exchange,
            bodies,
            connection,
            node,
            transports,
        )
        for found in _read_interfaces(inspect.getsource(module), family=families.get(module, ""))
    ]


def _read_interfaces(source: str, *, family: str = "") -> Iterable[Interface]:
    """Read the classes of a module of one family, or whose parts have the names of the families as titles."""
    titles = {
        number: match[1].strip().capitalize()
        for number, line in enumerate(source.splitlines(), 1)
        if (match := re.fullmatch(r"# -+ (.+?) -+", line))
    }
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.ClassDef) and not statement.name.endswith("Specs"):
            title = titles[max(number for number in titles if number < statement.lineno)]
            found = family or (title if title in _FAMILIES.values() else "")
            yield Interface(statement.name, found, _read_docstring(statement), tuple(_list_members(statement.body)))


def _list_members(body: Sequence[ast.stmt]) -> Iterable[Member]:
    """List the members of a class; a text after an attribute describes it."""
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign | ast.Assign):
            is_about = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            yield Member(ast.unparse(statement), " ".join(str(after.value.value).split()) if is_about else "")  # type: ignore[union-attr]
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            result = f" -> {ast.unparse(statement.returns)}" if statement.returns else ""
            if any(isinstance(each, ast.Name) and each.id == "property" for each in statement.decorator_list):
                yield Member(
                    f"{statement.name}: {ast.unparse(statement.returns) if statement.returns else ''}",
                    _read_docstring(statement),
                )
            else:
                arguments = ast.unparse(statement.args).removeprefix("self").removeprefix(", ")
                declaration = f"{statement.name}({arguments}){result}".replace("'", "")  # names that are defined later
                yield Member(declaration, _read_docstring(statement))


def _read_docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return " ".join((ast.get_docstring(node) or "").split())


def _render_interface(found: Interface) -> str:
    members = [f"* `{each.declaration}`{f': {each.text}' if each.text else ''}" for each in found.members]
    return "\n".join([f"#### {found.name}", "", found.text, "", *members])


def render_values() -> str:
    """Render the rest of the plugin module: the values that pass through hooks, and helper functions."""
    rows = []
    declared = {found.name for found in list_interfaces()}
    for name in sorted(plugin.__all__):
        value = getattr(plugin, name)
        if name in declared or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        text = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
        fields = ", ".join(f"`{each}`" for each in getattr(value, "__struct_fields__", ()) if each != "revision")
        shown = f"`{name}{_render_arguments(value)}`" if inspect.isfunction(value) else f"`{name}`"
        rows.append(f"| {shown} | {text}{f' Fields: {fields}.' if fields else ''} |")
    return "\n".join(["| name | what it is |", "| --- | --- |", *rows])


def render_findings() -> str:
    """Render every kind of finding of `maesh check`, of the core and of Maesh's own plugins, by code."""
    own = tuple(each for each in list_installed() if each.name in SHIPPED)
    plugins = load_plugins("controller", own, {})
    catalogue = FindingCatalogue(plugins.collect("maesh_policy_checkers"), plugins.describe)
    return "\n\n".join(map(_render_finding_kind, catalogue.kinds))


def _render_finding_kind(kind: FindingKind) -> str:
    return f"### {kind.code}\n\n{kind.severity.capitalize()}: {kind.title}.\n\nHint: {kind.hint}."


def build_sections() -> dict[str, str]:
    """Build every generated section, by the name of its markers."""
    flags = {f"flags of {command}": render_flags(class_) for command, class_ in _COMMANDS.items()}
    return {
        **flags,
        "hooks": render_hooks(),
        "hook table": render_hook_table(),
        "values": render_values(),
        "findings": render_findings(),
    }


def replace_sections(document: str, sections: dict[str, str]) -> str:
    """Replace the text between the markers; a document need not have all sections."""
    for name, text in sections.items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        before, found, rest = document.partition(begin)
        if found:
            document = f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"
    return document


def write_documents(paths: Iterable[Path]) -> None:
    """Update the generated sections of documents."""
    sections = build_sections()
    for path in paths:
        path.write_text(replace_sections(path.read_text(encoding="utf-8"), sections), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Rewrite the documents of a folder."""
    write_documents(sorted(Path(arguments[0] if arguments else "docs").glob("*.md")))


if __name__ == "__main__":
    main(sys.argv[1:])
