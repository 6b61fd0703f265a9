"""Families become Prometheus text, read back with its own parser."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.proxy.node.configuration import NodeConfiguration
from maesh_core.proxy.node.entrypoints import Entrypoints
from maesh_core.proxy.node.metrics import MetricsPage, collect_node_metrics
from maesh_core.proxy.node.poller import Poller
from maesh_core.proxy.workers.pool import WorkerPool


def scrape(*families: MetricFamily) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    body, _ = MetricsPage([lambda: families]).render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("name", ["maesh_x", "maesh_x_total"])
def test_a_counter_ends_in_total_once(name: str) -> None:
    samples = scrape(MetricFamily(name=name, type="counter", help="h", labels=("a",), samples=((("b",), 3),)))
    assert samples["maesh_x_total", (("a", "b"),)] == 3


def test_a_gauge_without_labels_is_one_sample() -> None:
    assert scrape(MetricFamily(name="g", type="gauge", help="h", samples=(((), 1.5),)))["g", ()] == 1.5


def test_a_histogram_is_cumulative() -> None:
    value = Histogram((0.1, 1.0), (2, 3, 4), 9.5)
    samples = scrape(MetricFamily(name="t", type="histogram", help="h", samples=(((), value),)))
    assert [samples["t_bucket", (("le", bound),)] for bound in ("0.1", "1.0", "+Inf")] == [2, 5, 9]
    assert (samples["t_count", ()], samples["t_sum", ()]) == (9, 9.5)


def test_label_values_may_be_anything() -> None:
    value = 'a"b\\c\nd'
    samples = scrape(MetricFamily(name="g", type="gauge", help="h", labels=("l",), samples=(((value,), 1),)))
    assert samples["g", (("l", value),)] == 1


def test_families_of_one_name_become_one() -> None:
    one = MetricFamily(name="g", type="gauge", help="h", labels=("p",), samples=((("http",), 1),))
    two = MetricFamily(name="g", type="gauge", help="h", labels=("p",), samples=((("tcp",), 2),))
    body, _ = MetricsPage([lambda: [one], lambda: [two]]).render()
    assert body.count(b"# TYPE g gauge") == 1
    assert b'g{p="http"} 1.0' in body
    assert b'g{p="tcp"} 2.0' in body


def test_the_sources_are_read_at_each_scrape() -> None:
    values = iter((1, 2))
    page = MetricsPage([lambda: [MetricFamily(name="g", type="gauge", help="h", samples=(((), next(values)),))]])
    assert b"g 1.0" in page.render()[0]
    assert b"g 2.0" in page.render()[0]


async def test_the_nodes_own_figures_and_those_of_its_process_are_there() -> None:
    async def do_nothing(*_: Any) -> Any:
        """Never called."""

    pool = WorkerPool(do_nothing, do_nothing, size=2)
    entrypoints = Entrypoints(pool, bind="")
    poller = Poller(None, do_nothing, node="n", find_admin_port=lambda: None)
    samples = scrape(*collect_node_metrics(NodeConfiguration(pool, entrypoints), poller, entrypoints, pool))
    assert samples["maesh_proxy_configuration_reloads_total", ()] == 0
    assert samples["maesh_proxy_configuration_info", (("revision", ""),)] == 1
    assert samples["maesh_proxy_entrypoints", (("state", "open"),)] == 0
    assert samples["maesh_proxy_workers", ()] == 0
    assert samples["maesh_proxy_worker_restarts_total", ()] == 0
    assert samples["process_resident_memory_bytes", ()] > 0
