"""The fields of a settings class as flags, variables and file keys.

Takes the classes of settings/__init__.py. values/parsing.py converts raw values to the types of fields.
"""

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from maesh_core.values.parsing import is_duration, is_networks, is_sequence, render_value, split_annotation

ENVIRONMENT_PREFIX = "MAESH_"
SOURCE_NAME = "source_name"
"""The key in the `extra` of a field's Meta with its name in the environment and in files, if that is another one."""


class SettingField(msgspec.Struct, frozen=True, kw_only=True):
    """One field that users can set. `type` is the whole annotation, with its rules.

    `source_name` is its name in the environment and in files, which all commands share. It differs from `name` if the
    flag has another meaning in another command.
    """

    name: str
    source_name: str
    type: Any
    default: Any
    description: str

    @property
    def flag(self) -> str:
        """The flag in its canonical spelling: `--api-port`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def key(self) -> str:
        """The key in the settings file: `api-port`."""
        return self.source_name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable: `MAESH_API_PORT`."""
        return ENVIRONMENT_PREFIX + self.source_name.upper()

    @property
    def is_switch(self) -> bool:
        """Whether the flag has no value: `--json`, `--no-json`."""
        return split_annotation(self.type)[0] is bool

    @property
    def is_list(self) -> bool:
        """Whether the value is a list, separated by commas."""
        return is_sequence(split_annotation(self.type)[0])

    @property
    def placeholder(self) -> str:
        """The placeholder of the value in the help text; empty for a switch."""
        base, metas = split_annotation(self.type)
        if base is bool:
            return ""
        if is_duration(metas):
            return "DURATION"
        if is_networks(metas):
            return "NETWORK,..."
        if get_origin(base) is Literal:
            return "|".join(str(choice) for choice in get_args(base))
        if is_sequence(base):
            return "NAME,..."
        return "NUMBER" if base in (int, float) else "TEXT"

    @property
    def default_text(self) -> str:
        """The default as a user would write it; empty if there is none."""
        return render_value(self.default, self.type)


def normalise_name(name: str) -> str:
    """Normalise a name: remove dashes and underscores, and convert it to lower case."""
    return name.replace("-", "").replace("_", "").lower()


def list_fields(settings_class: type) -> tuple[SettingField, ...]:
    """List the fields of a settings class that users can set: those with a description."""
    hints = get_type_hints(settings_class, include_extras=True)
    found = []
    for declared in dataclasses.fields(settings_class):
        annotation = hints[declared.name]
        metas = split_annotation(annotation)[1]
        texts = [meta.description for meta in metas if meta.description]
        if texts:
            names = [meta.extra[SOURCE_NAME] for meta in metas if meta.extra and SOURCE_NAME in meta.extra]
            field = SettingField(
                name=declared.name,
                source_name=names[-1] if names else declared.name,
                type=annotation,
                default=declared.default,
                description=texts[-1],
            )
            found.append(field)
    return tuple(found)
