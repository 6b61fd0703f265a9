"""Labels of untrusted proxies."""

import pytest

from maesh_core.controller.traffic.wanted_metrics import LABELS_BY_TYPE, REASON_LIMIT, LabelCheck, Scope
from maesh_core.model.traffic import TRAFFIC_PREFIXES

SCOPE = Scope(
    frozenset({"shop/web:80"}),
    {"[::1]:80": "[::1]:80", "::1:80": "[::1]:80"},
    {"shop/web:80/split/canary/v2": "shop/v2:80"},
    frozenset({"shop/web:80/rule/r"}),
)


@pytest.mark.parametrize(
    ("label", "value", "expected"),
    [
        ("service", "shop/web:80", "shop/web:80"),
        ("service", "shop/web:80/split/canary", "shop/web:80"),
        ("service", "shop/other:80", None),
        ("service", "", None),
        ("server", "::1:80", "[::1]:80"),
        ("server", "10.0.0.9:80", None),
        ("destination", "shop/web:80/split/canary/v2", "shop/v2:80"),
        ("destination", "shop/v3:80", None),
        ("rule", "shop/web:80/rule/r", "shop/web:80/rule/r"),
        ("rule", "shop/web:80/rule/x", None),
        ("client", "10.0.0.1", "10.0.0.1"),
        ("client", "::ffff:10.0.0.1", "10.0.0.1"),
        ("client", "other", "other"),
        ("client", "localhost", None),
        ("code", "2xx", "2xx"),
        ("code", "503", "503"),
        ("code", "99", None),
        ("code", "5xx\n", None),
        ("code", "٢xx", None),
        ("grpc_status", "14", "14"),
        ("grpc_status", "17", None),
        ("outcome", "failure", "failure"),
        ("outcome", "other", None),
        ("side", "client", "client"),
        ("side", "x", None),
        ("reason", "no server is ready", "no server is ready"),
        ("reason", "\x1b[31mred\n", "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"),
        ("reason", "x" * 1000, "x" * REASON_LIMIT),
    ],
)
def test_a_label_counts_only_with_a_valid_value(label: str, value: str, expected: str | None) -> None:
    assert LabelCheck(SCOPE).find(label)(value) == expected


def test_every_wanted_metric_is_one_that_proxies_send_and_each_of_its_labels_is_checked() -> None:
    check = LabelCheck(SCOPE)
    for wanted in LABELS_BY_TYPE.values():
        for name, labels in wanted.items():
            assert name.startswith(TRAFFIC_PREFIXES)
            assert all(map(check.find, labels))
