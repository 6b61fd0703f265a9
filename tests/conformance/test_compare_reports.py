"""Two reports are compared without their dates."""

import yaml

from .compare_reports import COMMITTED, compare_reports


def write_changed(path, **fields):
    path.write_text(yaml.safe_dump({**yaml.safe_load(COMMITTED.read_text()), **fields}, sort_keys=False))
    return path


def test_another_date_is_no_difference(tmp_path):
    assert compare_reports(COMMITTED, write_changed(tmp_path / "report.yaml", date="2020-01-01T00:00:00Z")) == []


def test_a_changed_result_is_shown_as_a_difference(tmp_path):
    found = compare_reports(COMMITTED, write_changed(tmp_path / "report.yaml", succeededProvisionalTests=["One"]))
    assert "+- One" in found
    assert "-- MeshHTTPRoute303Redirect" in found
