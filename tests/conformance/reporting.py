"""Builds the conformance report of the Gateway API project from the results of the cases.

Takes results; returns a ConformanceReport (gateway.networking.k8s.io/v1) as plain values. Pure. A case counts for a
profile if each of its features is the profile's core or one of the extended ones; the others run all the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .cases import Case, Suite
from .meshes import OWN

CORE_PROFILES = ("MESH-HTTP", "MESH-GRPC")
GATEWAY_VERSION = "v1.6.1"
"""The last release before the commit of the suite."""
EXTENDED = "extended of both"


def name_report(path: Path, mode: str) -> Path:
    """Name the report of a mode; `path` is that of the mode with own entrypoints."""
    return path if mode == OWN.mode else path.with_stem(f"{path.stem}-{mode}")


def build_report(suite: Suite, results: Mapping[str, str], *, mode: str, version: str, date: str) -> dict[str, Any]:
    """Build a report; `results` has the error of each case that ran, which is empty if it has passed."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "ConformanceReport",
        "date": date,
        "gatewayAPIChannel": "experimental",
        "gatewayAPIVersion": GATEWAY_VERSION,
        "implementation": {
            "organization": "maesh",
            "project": "maesh",
            "url": "",  # where nothing is published, there is no address
            "version": version,
            "contact": [],
        },
        "mode": mode,
        "profiles": [_build_profile(suite, profile, results) for profile in CORE_PROFILES],
        "succeededProvisionalTests": sorted(
            case.name for case in suite.cases if case.provisional and results.get(case.name) == ""
        ),
    }


def list_counted(suite: Suite, profile: str, level: str) -> list[Case]:
    """List the cases that count for a profile, at a level."""
    core, extended = set(suite.profiles[profile]["core"]), set(suite.profiles[EXTENDED])
    known = core if level == "core" else core | extended
    return [
        case
        for case in suite.cases
        if set(case.features) <= known and (level == "core" or not set(case.features) <= core)
    ]


def _build_profile(suite: Suite, profile: str, results: Mapping[str, str]) -> dict[str, Any]:
    extended: Sequence[str] = suite.profiles[EXTENDED]
    failed = {
        feature
        for case in suite.cases
        for feature in case.features
        if feature in extended and results.get(case.name, "did not run")
    }
    parts = {level: _count(list_counted(suite, profile, level), results) for level in ("core", "extended")}
    unsupported = {"unsupportedFeatures": sorted(failed)} if failed else {}
    return {
        "name": profile,
        "core": parts["core"],
        "extended": {**parts["extended"], "supportedFeatures": sorted(set(extended) - failed), **unsupported},
        "summary": " ".join(f"{level.capitalize()} tests: {part['result']}." for level, part in parts.items()),
    }


def _count(cases: Iterable[Case], results: Mapping[str, str]) -> dict[str, Any]:
    found = list(cases)
    failed = sorted(case.name for case in found if results.get(case.name))
    skipped = sorted(case.name for case in found if case.name not in results)
    passed = len(found) - len(failed) - len(skipped)
    result = "failure" if failed else "partial" if skipped else "success"
    return {
        "result": result,
        "statistics": {"Failed": len(failed), "Passed": passed, "Skipped": len(skipped)},
        **({"failedTests": failed} if failed else {}),
        **({"skippedTests": skipped} if skipped else {}),
    }
