"""The interfaces of commands that plugins add to `maesh`: `maesh PLUGIN COMMAND`.

Values and interfaces only. The command line (`cli/plugin_commands.py`) builds the flags, finds the controllers and
opens their APIs as for `maesh status`, runs the command and prints its result.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

# --- commands --------------------------------------------------------------------------------------------------------


class CommandArgument(msgspec.Struct, frozen=True, kw_only=True):
    """A positional argument, which is a text; its value is empty if it is left out."""

    name: str
    text: str
    is_required: bool = True


class CommandSwitch(msgspec.Struct, frozen=True, kw_only=True):
    """A flag without a value, `--name`."""

    name: str
    text: str


class CommandOption(msgspec.Struct, frozen=True, kw_only=True):
    """A flag with a value, `--name METAVAR`, which is a text; empty if it is left out.

    A repeatable one is a tuple of texts.
    """

    name: str
    text: str
    metavar: str = "TEXT"
    is_repeatable: bool = False


CommandValues: TypeAlias = Mapping[str, str | bool | tuple[str, ...]]
"""What was typed: the values of a command's arguments, switches and options, by name."""


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a command prints: `text`, or `document` as JSON with `--json`. `status` is the exit status."""

    text: str
    document: Any = None
    status: int = 0


class CommandApi(Protocol):
    """The API of one controller."""

    name: str
    """Its pod, or its address."""

    async def fetch(self, path: str) -> bytes:
        """Fetch a path and return the body. Raises MaeshError."""

    async def post(self, path: str, body: bytes) -> bytes:
        """Send JSON to a path and return the body of the response. Raises MaeshError, with the reason of a refusal.

        It is ControllerUnreachableError only if nothing was sent, so that another controller may be asked.
        """


class Command(Protocol):
    """A command of a plugin. Its name must be unique among those of the plugin."""

    name: str
    text: str
    """What it does, in a line for the help."""

    @property
    def arguments(self) -> Sequence[CommandArgument]:
        """Its arguments; those that may be left out are last."""

    @property
    def switches(self) -> Sequence[CommandSwitch]:
        """Its switches."""

    async def run(self, apis: Sequence[CommandApi], values: CommandValues) -> CommandResult:
        """Run with the APIs of the controllers, at least one, and what was typed.

        Raising MaeshError prints its text, and the exit status is 1.
        """


class OptionsCommand(Command, Protocol):
    """A command that has flags with values."""

    @property
    def options(self) -> Sequence[CommandOption]:
        """Its flags with values."""


class ManifestsCommand(Command, Protocol):
    """A command that also runs without a controller, with `--manifests PATH`.

    It then gets one API, whose `fetch` answers what a controller with these manifests would answer at
    `/api/topology/current`, `/api/configuration/current`, `/api/objects` and `/api/pods`.
    """

    reads_manifests: bool
