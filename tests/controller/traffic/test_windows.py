"""What counts as failed, limited and denied."""

import pytest

from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.windows import count_failures, find_success
from maesh_core.model.traffic import Window

from .measured import DB, WEB, count, measure, observe, since_start


@pytest.mark.parametrize(
    ("codes", "grpc", "failed"),
    [
        ({"2xx": 5, "4xx": 3, "5xx": 2}, {}, 2),
        ({"200": 5, "499": 1, "500": 2, "503": 1}, {}, 3),
        ({"2xx": 8}, {"0": 2, "1": 1, "5": 1, "7": 1, "2": 1, "14": 2}, 3),
        ({"2xx": 6}, {"4": 1, "12": 1, "13": 1, "15": 1, "8": 1, "16": 1}, 4),
        ({"2xx": 1, "5xx": 4}, {"14": 4, "0": 1}, 4),  # a call with a 5xx is not counted twice
        ({"2xx": 1, "5xx": 4}, {"14": 2, "0": 1}, 4),  # two calls and two requests failed
        ({}, {"14": 1}, 1),
    ],
)
def test_a_request_fails_by_5xx_or_by_a_status_that_blames_the_server(
    codes: dict[str, int], grpc: dict[str, int], failed: int
) -> None:
    assert count_failures(codes, grpc) == failed


def test_success_is_a_share_and_unknown_without_requests() -> None:
    assert find_success(0, 0) is None
    assert find_success(4, 1) == 0.75
    assert find_success(4, 9) == 0.0


def test_a_window_of_http_has_everything() -> None:
    window = measure(
        since_start(
            count(metrics.REQUESTS, {(WEB, "2xx"): 6.0, (WEB, "4xx"): 3.0, (WEB, "5xx"): 1.0}, "service", "code"),
            count(metrics.CALLS, {(WEB, "0"): 1.0}, "service", "grpc_status"),
            count(
                metrics.ANSWERS,
                {(WEB, "429", "limited"): 2.0, (WEB, "403", "access denied"): 1.0, (WEB, "503", "no server"): 1.0},
                "service",
                "code",
                "reason",
            ),
            count(metrics.CUTS, {(WEB, "the upstream was lost"): 2.0, (WEB, "limited"): 1.0}, "service", "reason"),
            count(metrics.RETRIES, {(WEB,): 4.0}),
            count(metrics.RECEIVED_BYTES, {(WEB,): 100.0}),
            count(metrics.SENT_BYTES, {(WEB,): 200.0}),
            count(metrics.DURATIONS, {(WEB,): observe(*[0.2] * 10)}),
            count(metrics.UPSTREAM_DURATIONS, {(WEB,): observe(*[0.004] * 10)}),
            count(metrics.DENIED, {(WEB, "client"): 1.0}, "service", "reason"),
        )
    )(WEB).last
    assert (window.requests, window.success, window.rate) == (10, 0.9, 10 / 30)
    assert (window.limited, window.denied, window.retries) == (2, 1, 4)
    assert window.reasons == {"access denied": 1, "limited": 3, "no server": 1, "the upstream was lost": 2}
    assert window.grpc == {"0": 1}
    assert (window.received_bytes, window.sent_bytes) == (100, 200)
    assert window.total.p50 == pytest.approx(0.2)
    assert window.upstream.p99 == pytest.approx(0.0025 + 0.0025 * 0.99)


def test_a_window_of_tcp_counts_connections_and_denials_of_access_control() -> None:
    window = measure(
        since_start(
            count(metrics.TCP_CONNECTIONS, {(DB,): 15.0}),
            count(metrics.TCP_RECEIVED, {(DB,): 10.0}),
            count(metrics.TCP_SENT, {(DB,): 20.0}),
            count(metrics.TCP_REFUSED, {(DB,): 2.0}),
            count(metrics.DENIED, {(DB, "client"): 3.0}, "service", "reason"),
        )
    )(DB).total
    assert (window.connections, window.rate, window.denied) == (15, 0.5, 3)
    assert (window.requests, window.success) == (0, None)
    assert window.reasons == {"client": 3, "no server accepted it": 2}
    assert (window.received_bytes, window.sent_bytes) == (10, 20)


def test_a_service_without_traffic_has_an_empty_window() -> None:
    assert measure(since_start())(WEB).last == Window(seconds=30.0)
