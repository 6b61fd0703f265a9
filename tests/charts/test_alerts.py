"""Prometheus' alerts: accepted by promtool, made of metrics that exist, fire when they should, shipped by the chart."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts" / "maesh" / "rules" / "maesh.yaml"
CASES = yaml.load(Path(__file__).with_name("alerts.yaml").read_text(), yaml.BaseLoader)
"""With texts only: `0x30` is thirty-one samples of 0, and no number."""
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
LISTED = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in LISTED if "alert" in rule}
RECORDS = {rule["record"]: rule for rule in LISTED if "record" in rule}
SEVERITIES = {"info", "warning", "critical"}


def read_anchors():
    """Read the anchors of the sections of the operations page."""
    titles = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("rule", LISTED, ids=lambda rule: rule.get("alert", rule.get("record")))
def test_every_metric_and_label_of_a_rule_exists(rule, read_usage, known_metrics):
    made = {name: read_usage(record["expr"]).made for name, record in RECORDS.items()}
    labels_of_records = {
        name: made[name].union(*(known_metrics[metric] for metric in read_usage(record["expr"]).selected))
        for name, record in RECORDS.items()
    }
    known = known_metrics | labels_of_records
    usage = read_usage(rule["expr"])
    assert [metric for metric in usage.selected if metric not in known] == []
    for metric, labels in usage.selected.items():
        assert labels <= known[metric], metric
    labels = usage.made.union(*(known[metric] for metric in usage.selected))
    assert usage.listed <= labels
    texts = " ".join(rule.get("annotations", {}).values())
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels


@pytest.mark.parametrize("rule", LISTED, ids=lambda rule: rule.get("alert", rule.get("record")))
def test_a_reason_that_a_rule_selects_is_one_that_the_mesh_gives(rule):
    answers, paths = ((ROOT / "docs" / name).read_text() for name in ("proxy-behaviour.md", "encryption.md"))
    for reason in re.findall(r'reason!?="([^"]+)"', rule["expr"]):
        assert f"| {reason} |" in answers or f"| `{reason}` |" in paths


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_an_alert_has_a_severity_texts_and_a_section_of_the_operations_page(alert):
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in SEVERITIES
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, anchor = alert["annotations"]["runbook_url"].split("#")
    assert page == "docs/operations.md"
    assert anchor in read_anchors()


def test_the_operations_page_lists_every_alert():
    page = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"^\| `(Maesh\w+)` \|", page, re.MULTILINE)) == ALERTS.keys()


def test_prometheus_accepts_the_rules(promtool):
    status, output = promtool("check", "rules", str(RULES))
    assert status == 0, output
    assert f"SUCCESS: {len(LISTED)} rules found" in output


def build_test(case):
    """Build promtool's form of a case."""
    expected = []
    if "labels" in case:
        alert = ALERTS[case["alert"]]
        texts = {name: case[name] for name in ("summary", "description")}
        texts["runbook_url"] = alert["annotations"]["runbook_url"]
        fired = {"exp_labels": alert["labels"] | case["labels"], "exp_annotations": texts}
        expected.append({"eval_time": case["at"], "alertname": case["alert"], "exp_alerts": [fired]})
    names, times = ([case["alert"]], [case["notAt"]]) if "alert" in case else (ALERTS, [f"{m}m" for m in range(40)])
    expected += [{"eval_time": time, "alertname": name, "exp_alerts": []} for name in names for time in times]
    series = [{"series": name, "values": values} for name, values in case["series"].items()]
    return {"interval": "1m", "input_series": series, "alert_rule_test": expected}


def test_every_alert_fires_when_it_should_and_only_then(tmp_path, promtool):
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [build_test(case) for case in CASES]}))
    status, output = promtool("test", "rules", str(path))
    assert status == 0, output


def test_every_alert_has_a_case_in_which_it_fires():
    assert {case["alert"] for case in CASES if "labels" in case} == ALERTS.keys()


def find_rules(objects):
    return [each for each in objects if each["kind"] == "PrometheusRule"]


def test_the_chart_ships_the_rules_with_the_labels_that_prometheus_looks_for(render):
    labels = {"release": "prometheus-of-all"}
    given = {"prometheusRule": {"enabled": True, "labels": labels}}
    (found,) = find_rules(render({"metrics": given}, namespace="traffic"))
    assert found["apiVersion"] == "monitoring.coreos.com/v1"
    assert found["metadata"]["namespace"] == "traffic"
    assert found["metadata"]["labels"].items() >= labels.items()
    assert found["spec"] == {"groups": GROUPS}


def test_the_address_of_the_operations_page_can_be_set(render):
    given = {"prometheusRule": {"enabled": True, "runbookUrl": "https://docs.example/operations.html"}}
    (found,) = find_rules(render({"metrics": given}))
    links = {
        rule["alert"]: rule["annotations"]["runbook_url"]
        for group in found["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert links["MaeshProxyBehind"] == "https://docs.example/operations.html#a-proxy-is-behind"
    assert all(link.startswith("https://docs.example/operations.html#") for link in links.values())


def test_the_chart_ships_no_rules_unless_they_are_enabled(render):
    assert find_rules(render()) == []
