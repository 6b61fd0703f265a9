"""The list of metrics that may be queried: complete, and without an entry that the documentation has made needless."""

import importlib.util
from pathlib import Path


def load_known_metrics():
    path = Path(__file__).with_name("known_metrics.py")
    spec = importlib.util.spec_from_file_location("maesh_chart_known_metrics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KNOWN = load_known_metrics()


def test_labels_are_read_from_the_tables(known_metrics):
    labels = {name: found - KNOWN.TARGET_LABELS for name, found in known_metrics.items()}
    assert labels["maesh_http_connections"] == {"side"}
    assert labels["maesh_proxy_workers"] == set()
    assert labels["maesh_proxy_blocking_calls_total"] == {"call", "service"}
    assert labels["maesh_service_request_duration_seconds_bucket"] == {"service", "le"}
    assert labels["maesh_service_request_duration_seconds_count"] == {"service"}
    assert labels["maesh_tcp_connections_total"] == {"service"}
    assert labels["maesh_tcp_excess_connections_total"] == {"reason"}
    assert labels["maesh_tcp_server_connections_total"] == labels["maesh_udp_server_aside"] == {"server"}
    assert labels["maesh_udp_branch_sessions_total"] == {"service", "destination"}
    assert labels["maesh_tcp_rule_connections_total"] == {"service", "rule"}
    assert labels["maesh_tcp_failed_handshakes_total"] == {"service", "reason"}
    assert labels["maesh_udp_unrouted_datagrams_total"] == set()
    assert "process_max_fds" in labels


def test_no_metric_is_awaited_that_the_documentation_has():
    pages = KNOWN.read_pages()
    assert [name for name, labels in KNOWN.AWAITED.items() if name in pages and labels <= pages[name]] == [], (
        "remove it from AWAITED"
    )
