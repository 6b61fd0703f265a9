"""The commands `maesh acl COMMAND`."""

from typing import Final

from maesh_acl.report_command import ReportCommand
from maesh_acl.suggest_command import SuggestCommand

COMMANDS: Final = (ReportCommand(), SuggestCommand())
