"""Every counter, histogram and record equals what a script sent through three workers, one of which is killed."""

import socket
import threading
from collections import Counter

import pytest

from .scripted_counts import FIELDS, Request
from .scripted_mesh import DATAGRAM_RULE, LOAD_CLIENTS, LOST_RULE, ROUNDS, ROUTE, STREAM_RULE, open_traffic

pytestmark = pytest.mark.integration

REQUESTS = 10_000
"""The script sends more, in two runs."""
DATAGRAMS = "test/splitdatagrams:53"


@pytest.fixture
def traffic(start_mesh, tmp_path):
    with open_traffic(start_mesh, tmp_path) as traffic:
        yield traffic


def test_every_counter_and_record_equals_the_script_s_own_also_after_a_worker_was_killed(traffic):
    traffic.run()
    assert traffic.check() > REQUESTS / 2
    traffic.kill_worker()
    traffic.check()
    traffic.run()
    assert traffic.check() > REQUESTS
    codes = {dict(labels)["code"] for name, labels in traffic.script.counters if name == "maesh_service_requests"}
    assert codes == {"101", "200", "304", "403", "404", "429", "499", "500", "502", "503"}
    wanted = 2 * ROUNDS, {"no connection": 2 * ROUNDS}
    assert traffic.mesh.wait_until(lambda: find_parts(traffic, wanted), "a report of the streams and rules")


def find_parts(traffic, wanted):
    """Return whether the controller's report has what was counted of branches, servers and rules, and left out none."""
    services, left_out = traffic.read_report()
    connections, reasons = wanted
    stream, lost, datagrams = (services[key] for key in ("test/splitstream:80", "test/lostsplit:80", DATAGRAMS))
    rules = {each["rule"]: each["total"]["codes"] for each in services["test/routed:80"]["rules"]}
    return (
        list_branches(stream, "connections") == {"test/splitstream:80": 0, "test/stream:80": connections}
        and list_branches(datagrams, "connections") == {DATAGRAMS: 0, "test/datagrams:53": connections}
        and list_branches(lost, "reasons") == {"test/lostsplit:80": {}, "test/deadstream:80": reasons}
        and stream["servers"][0]["total"]["connections"] == 3 * connections  # of `stream` and `routedstream`, too
        and stream["servers"][0]["total"]["receivedBytes"] == 3 * connections * 1000
        and datagrams["servers"][0]["total"]["connections"] == 3 * connections
        and list_stream_rules(services)
        == [
            (STREAM_RULE, connections, connections * 1000, {}),
            (LOST_RULE, 0, 0, {**reasons, "no server accepted it": connections}),
            (DATAGRAM_RULE, connections, connections * 24, {}),
        ]
        and rules == {f"{ROUTE}/0": {"200": 2 * connections, "403": connections}, f"{ROUTE}/1": {"502": connections}}
        and not left_out
    )


def list_stream_rules(services):
    found = [services[key]["rules"] for key in ("test/routedstream:80", "test/lostroute:80", "test/routeddatagrams:53")]
    totals = [(rule["rule"], rule["total"]) for rules in found for rule in rules]
    return [(name, total["connections"], total["receivedBytes"], total["reasons"]) for name, total in totals]


def list_branches(service, name):
    return {each["destination"]: each["total"][name] for each in service["branches"]}


class Load:
    """Clients of different addresses, each of which sends requests over one connection until it breaks or is stopped.

    `answered` is the number of answers by client, `broken` are the clients whose connection broke.
    """

    def __init__(self, port):
        self.port, self.is_stopped = port, threading.Event()
        self.answered = dict.fromkeys(LOAD_CLIENTS, 0)
        self.broken = set()
        self._threads = [threading.Thread(target=self._send, args=(client,)) for client in self.answered]
        for thread in self._threads:
            thread.start()

    def _send(self, client):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 60, source_address=(client, 0)) as sock:
                while not self.is_stopped.is_set():
                    sock.sendall(Request("/ok").render())
                    if not sock.recv(65536).endswith(b"hello"):
                        raise ConnectionError("the response was cut")
                    self.answered[client] += 1
        except OSError:
            self.broken.add(client)

    def stop(self):
        self.is_stopped.set()
        for thread in self._threads:
            thread.join(60)


def test_a_worker_that_is_killed_under_load_loses_only_what_it_did_since_its_last_report(traffic):
    def count_calls():
        return {
            dict(labels)["client"]: value
            for (name, labels), value in traffic.read().items()
            if name == "maesh_edge_requests"
        }

    def count_lines():
        lines = Counter()
        for record, count in traffic.log.read().items():
            lines[record[FIELDS.index("ClientHost")]] += count
        return lines

    load = Load(traffic.mesh.http_port)
    traffic.mesh.wait_until(lambda: min(load.answered.values()) > 100, "some requests of each client")
    before = dict(load.answered)
    scraped = count_calls()  # what workers have counted until now, and no less
    assert all(scraped[client] >= count for client, count in before.items())
    traffic.mesh.wait_until(lambda: count_lines() >= Counter(before), "the lines of these requests")
    traffic.kill_worker()
    load.stop()
    wanted = {client: count for client, count in load.answered.items() if client not in load.broken}
    for read in (count_calls, count_lines):
        traffic.mesh.wait_until(lambda read=read: read().items() >= wanted.items(), "exact counts of the others")
        found = read()
        for client in load.broken:
            assert before[client] <= found[client] <= load.answered[client]
