"""The commands `maesh acl COMMAND`."""

from typing import Final

from maesh_acl.denials.command import ReportCommand
from maesh_acl.suggesting.command import SuggestCommand

COMMANDS: Final = (ReportCommand(), SuggestCommand())
