"""Writes the parts of the documentation that the code decides: the flags, and the hooks.

`python -m maesh_core.cli.reference FOLDER` rewrites, in the documents of FOLDER, what stands between the markers
`<!-- begin: NAME -->` and `<!-- end: NAME -->`. A test holds that nothing is out of date.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from maesh_core.cli.flag_groups import group_fields
from maesh_core.hookspecs import SPEC_FAMILIES
from maesh_core.settings import CommonSettings, ControllerSettings, PluginsSettings, ProxySettings, UpSettings
from maesh_core.settings_fields import SettingField, list_fields

_COMMANDS = {"up": UpSettings, "controller": ControllerSettings, "proxy": ProxySettings, "plugins": PluginsSettings}
_FAMILIES = {
    "DiscoverySpecs": "Discovery",
    "TopologySpecs": "Topology",
    "ProtocolSpecs": "Protocol",
    "BalancingSpecs": "Balancing",
    "MiddlewareSpecs": "Middleware",
}


def render_flags(settings_class: type[CommonSettings]) -> str:
    """Render the flags of one command as a table."""
    rows = [_render_row(field) for fields in group_fields(list_fields(settings_class)).values() for field in fields]
    return "\n".join(["| flag | variable | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _render_row(field: SettingField) -> str:
    value = f" {field.placeholder}" if field.placeholder else f"`, `--no-{field.key}"
    flag = f"`{field.flag}{value}`".replace("|", "\\|")
    default = f"`{field.default_text}`" if field.default_text else ""
    return f"| {flag} | `{field.variable}` | {default} | {field.description} |"


def render_hooks() -> str:
    """Render every hook with its exact signature and its rules, by family."""
    return "\n\n".join(_render_family(family) for family in SPEC_FAMILIES)


def _render_family(family: type) -> str:
    blocks = [f"### {_FAMILIES[family.__name__]}"]
    for name, function in vars(family).items():
        if name.startswith("maesh_"):
            text = " ".join((inspect.getdoc(function) or "").split())
            blocks.append(f"```python\n{render_signature(name, function)}\n```\n\n{text}")
    return "\n\n".join(blocks)


def render_signature(name: str, function: object) -> str:
    """Render a hook's signature as its declaration has it."""
    if not inspect.isfunction(function):
        raise TypeError(f"{name} is not a function")
    signature = str(inspect.signature(function)).replace("collections.abc.", "")
    return f"def {name}{re.sub(r'maesh_core(?:[.][a-z_]+)+[.]', '', signature)}"


def build_sections() -> dict[str, str]:
    """Build every generated section, by the name of its markers."""
    flags = {f"flags of {command}": render_flags(class_) for command, class_ in _COMMANDS.items()}
    return {**flags, "hooks": render_hooks()}


def replace_sections(document: str, sections: dict[str, str]) -> str:
    """Put the sections between their markers; a document need not have them all."""
    for name, text in sections.items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        before, found, rest = document.partition(begin)
        if found:
            document = f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"
    return document


def write_documents(paths: Iterable[Path]) -> None:
    """Bring the generated sections of documents up to date."""
    sections = build_sections()
    for path in paths:
        path.write_text(replace_sections(path.read_text(encoding="utf-8"), sections), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Rewrite the documents of a folder."""
    write_documents(sorted(Path(arguments[0] if arguments else "docs").glob("*.md")))


if __name__ == "__main__":
    main(sys.argv[1:])
