"""Compares the conformance reports of a run with the committed ones.

`python tests/conformance/compare_reports.py FILE`: the file is the report of own entrypoints; those of other modes are
beside it. Prints what differs, except for the dates; ends with 1 if something does.
"""

import difflib
import sys
from pathlib import Path

import yaml

COMMITTED = Path(__file__).resolve().parents[2] / "plugins" / "gateway" / "conformance-report.yaml"
"""The report of own entrypoints."""


def compare_reports(committed: Path, found: Path) -> list[str]:
    """Return the lines of a diff; empty if both reports say the same."""
    return list(difflib.unified_diff(_read(committed), _read(found), str(committed), str(found), lineterm=""))


def _read(path: Path) -> list[str]:
    report = yaml.safe_load(path.read_text())
    del report["date"]
    return str(yaml.safe_dump(report, sort_keys=False)).splitlines()


if __name__ == "__main__":
    path = Path(sys.argv[1])
    reports = [(each, path.with_name(each.name)) for each in sorted(COMMITTED.parent.glob(f"{COMMITTED.stem}*.yaml"))]
    differences = [line for committed, found in reports for line in compare_reports(committed, found)]
    text = "\n".join(differences) or "The committed conformance reports are those of this run."
    sys.stdout.write(f"{text}\n")
    sys.exit(bool(differences))
