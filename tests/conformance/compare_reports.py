"""Compares the conformance report of a run with the committed one: `python tests/conformance/compare_reports.py FILE`.

Prints what differs, except for the date; ends with 1 if something does.
"""

import difflib
import sys
from pathlib import Path

import yaml

COMMITTED = Path(__file__).resolve().parents[2] / "plugins" / "gateway" / "conformance-report.yaml"


def compare_reports(committed: Path, found: Path) -> list[str]:
    """Return the lines of a diff; empty if both reports say the same."""
    return list(difflib.unified_diff(_read(committed), _read(found), str(committed), str(found), lineterm=""))


def _read(path: Path) -> list[str]:
    report = yaml.safe_load(path.read_text())
    del report["date"]
    return str(yaml.safe_dump(report, sort_keys=False)).splitlines()


if __name__ == "__main__":
    differences = compare_reports(COMMITTED, Path(sys.argv[1]))
    text = "\n".join(differences) or "The committed conformance report is that of this run."
    sys.stdout.write(f"{text}\n")
    sys.exit(bool(differences))
