import json
import signal

import msgspec
import pytest

from maesh_core.cli.status import LINES_SHOWN, TRANSPORT_PROBLEMS_SHOWN, UNENCRYPTED_SHOWN, is_well, render_status
from maesh_core.controller.api_clients.encryption_status import EncryptionStatus, ServiceMode
from maesh_core.controller.api_clients.status import ControllerStatus, FailingService, MeshStatus, UnservedPort
from maesh_core.model.messages import ControllerReport, NodeReport, ObjectReport, TransportReport
from maesh_core.plugin_system.conditions import MeshCondition
from maesh_testing.api_server import FaultKind


def build_report(**changes):
    said = {"name": "one", "ready": True, "leads": True, "leader": "one", "revision": "e.7", **changes}
    return ControllerStatus(name=said["name"], report=ControllerReport(**said))


PROXY = NodeReport(name="node-1", ip="10.0.0.1", ready=True, revision="e.7", last_seen="2026-01-01T00:00:00.000Z")
UNSERVED = UnservedPort(namespace="n", name="a", port=80, reason="not ready: a-1")
WELL = MeshStatus(controllers=(build_report(),), proxies=(PROXY,), service_count=3)


def test_a_mesh_that_is_well_takes_a_glance():
    assert render_status(WELL).splitlines() == [
        "CONTROLLER  STATE  ROLE    REVISION",
        "one         ready  leader  e.7",
        "",
        "PROXY   STATE  ADDRESS   REVISION  LAST SEEN",
        "node-1  ready  10.0.0.1  e.7       2026-01-01T00:00:00.000Z",
        "",
        "3 services, 0 with errors",
    ]


def test_what_plugins_say_about_the_mesh_is_shown_and_does_not_make_it_unready():
    problems = ("access control denies nothing", "a store is away")
    audited = MeshCondition(id="access-enforced", title="it denies", hint="Enforce it.", problems=problems)
    well = MeshCondition(id="limit-stores", title="they answer", hint="Look.")
    status = msgspec.structs.replace(WELL, conditions=(audited, well))
    assert render_status(status).split("\n\n")[2].splitlines() == [
        "mesh",
        "  warning: access control denies nothing",
        "    Enforce it.",
        "  warning: a store is away",
        "    Enforce it.",
    ]
    assert is_well(status)


def test_what_proxies_report_of_their_transport_is_shown():
    valid = msgspec.structs.replace(PROXY, transport=TransportReport(facts={"state": "valid"}, summary="20h left"))
    late = TransportReport(summary="2h left", problem="the certificate ends in 2h and was not renewed")
    ill = msgspec.structs.replace(PROXY, name="node-2", transport=late)
    old = msgspec.structs.replace(PROXY, name="node-3")
    lines = render_status(msgspec.structs.replace(WELL, proxies=(valid, ill, old))).splitlines()[3:8]
    assert lines == [
        "PROXY   STATE  ADDRESS   REVISION  TRANSPORT  LAST SEEN",
        "node-1  ready  10.0.0.1  e.7       20h left   2026-01-01T00:00:00.000Z",
        "node-2  ready  10.0.0.1  e.7       2h left    2026-01-01T00:00:00.000Z",
        "node-3  ready  10.0.0.1  e.7                  2026-01-01T00:00:00.000Z",
        "node-2: the certificate ends in 2h and was not renewed",
    ]


def test_of_many_transport_problems_the_first_are_shown():
    report = TransportReport(summary="none", problem="the proxy has no certificate")
    proxies = tuple(msgspec.structs.replace(PROXY, name=f"n{number:02}", transport=report) for number in range(12))
    text = render_status(msgspec.structs.replace(WELL, proxies=proxies))
    assert text.count("the proxy has no certificate") == TRANSPORT_PROBLEMS_SHOWN
    assert "and 2 more" in text


def test_what_is_wrong_is_named():
    ill = MeshStatus(
        controllers=(ControllerStatus(name="two", error="no answer"), build_report(problems={"pods": "forbidden"})),
        service_count=1,
        failing_services=(FailingService(namespace="n", name="a", errors=("1", "2", "3", "4")),),
    )
    text = render_status(ill)
    for said in ("two: no answer", "one: pods: forbidden", "no proxy has pulled", "a.n: 3", "a.n: and 1 more"):
        assert said in text
    assert "a.n: 4" not in text


def test_without_any_answer_proxies_and_services_are_unknown():
    text = render_status(MeshStatus(controllers=(ControllerStatus(name="a", error="gone"),)))
    assert text.splitlines()[-3:] == ["proxies: unknown", "", "services: unknown"]


def test_services_without_a_server_and_objects_without_effect_are_named():
    lost = UnservedPort(namespace="n", name="b", port=80, reason="its selector app=b matches no pod")
    ill = MeshStatus(
        controllers=(build_report(problems={"a.yaml document 2": "no YAML"}),),
        proxies=(PROXY,),
        service_count=2,
        failing_services=(FailingService(namespace="n", name="a", errors=("bad",)),),
        unserved_ports=(lost, UnservedPort(namespace="n", name="b", port=81, reason="r")),
        objects=(
            ObjectReport(kind="Service", namespace="n", name="a", errors=("bad",), notices=("odd",)),
            ObjectReport(kind="TrafficSplit", namespace="n", name="s", errors=("there is no service wep",)),
            ObjectReport(origin="a.yaml document 2", errors=("no YAML",)),
            ObjectReport(origin="sub", notices=("no file in it",)),
        ),
    )
    assert render_status(ill).split("\n\n")[2:] == [
        "2 services, 1 with errors, 1 without a ready server\n"
        "  a.n: bad\n"
        "  b.n: port 80 has no ready server: its selector app=b matches no pod\n"
        "  b.n: port 81 has no ready server: r",
        "objects\n"
        "  error: TrafficSplit n/s: there is no service wep\n"
        "  notice: Service n/a: odd\n"
        "  notice: sub: no file in it",
    ]


@pytest.mark.parametrize(
    ("changes", "state"),
    [({}, "ready"), ({"ready": False}, "not ready"), ({"ready": False, "refused": True}, "pulls refused")],
)
def test_the_state_of_a_proxy_says_whether_it_runs_without_a_controller(changes, state):
    status = msgspec.structs.replace(WELL, proxies=(msgspec.structs.replace(PROXY, **changes),))
    assert f"node-1  {state}  " in render_status(status)


def test_a_long_list_of_objects_is_cut():
    objects = tuple(ObjectReport(origin=f"{number}.yaml", notices=("odd",)) for number in range(LINES_SHOWN + 5))
    text = render_status(msgspec.structs.replace(WELL, objects=objects))
    assert text.endswith("\n  and 5 more, see --json")
    assert text.count("odd") == LINES_SHOWN


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (WELL, True),
        (MeshStatus(controllers=(build_report(leads=False),)), False),
        (MeshStatus(controllers=(build_report(), build_report(name="two", leads=False, ready=False))), False),
        (MeshStatus(controllers=(build_report(), ControllerStatus(name="two", error="gone"))), False),
        (MeshStatus(controllers=()), False),
        (MeshStatus(controllers=(build_report(problems={"a.yaml": "no YAML"}),)), False),
        (msgspec.structs.replace(WELL, failing_services=(FailingService(namespace="n", name="a"),)), False),
        (msgspec.structs.replace(WELL, unserved_ports=(UNSERVED,)), False),
        (msgspec.structs.replace(WELL, objects=(ObjectReport(origin="sub", notices=("odd",)),)), True),
    ],
)
def test_a_mesh_is_well_when_all_answer_and_are_ready_and_one_leads(status, expected):
    assert is_well(status) is expected


def test_the_command_asks_a_running_mesh(start_mesh, run_maesh):
    mesh = start_mesh()
    endpoint = f"http://127.0.0.1:{mesh.api_port}"
    shown = run_maesh("status", "--endpoint", endpoint)
    assert shown.status == 0, shown.stderr
    assert "1 service, 0 with errors" in shown.stdout
    document = json.loads(run_maesh("status", "--endpoint", endpoint, "--json").stdout)
    assert [each["report"]["leads"] for each in document["controllers"]] == [True]
    assert len(document["proxies"]) == 1
    assert (document["serviceCount"], document["failingServices"]) == (1, [])


def test_a_service_without_a_server_has_status_3_and_its_reason(start_mesh, run_maesh):
    lonely = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "lonely", "namespace": "demo"},
        "spec": {"selector": {"app": "lonely"}, "ports": [{"port": 80}]},
    }
    mesh = start_mesh(objects=[lonely])
    shown = run_maesh("status", "--endpoint", f"http://127.0.0.1:{mesh.api_port}")
    assert shown.status == 3
    assert "lonely.demo: port 80 has no ready server: its selector app=lonely matches no pod" in shown.stdout


def test_an_endpoint_without_a_listener_has_status_3_and_an_error(run_maesh):
    shown = run_maesh("status", "--endpoint", "http://127.0.0.1:1")
    assert shown.status == 3
    assert "no controller answers at http://127.0.0.1:1: Connection refused\n" in shown.stdout
    assert shown.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_is_not_taken_for_a_mesh_that_is_well(number, api_server, start_maesh, tmp_path):
    fault = api_server.add_fault(FaultKind.HANG)
    command = start_maesh("status", "--kubeconfig", api_server.write_kubeconfig(tmp_path / "kubeconfig"))
    command.wait_until(lambda: fault.hits, "a request is under way")
    command.stop(number)
    assert (command.status, command.stdout) == (1, "")
    assert command.stderr == "maesh: error: stopped before all controllers had answered\n"


def test_what_a_controller_says_of_a_problem_is_on_one_line():
    report = build_report(problems={"a.yaml": "not YAML:\n1 service, 0 with errors"})
    text = render_status(msgspec.structs.replace(WELL, controllers=(report,)))
    assert "one: a.yaml: not YAML: 1 service, 0 with errors" in text.splitlines()


def test_the_modes_of_services_are_counted_and_those_without_encryption_named():
    modes = [("a", "strict"), ("b", "off"), ("c", "permissive"), ("d", "strict")]
    mesh = msgspec.structs.replace(
        WELL, modes=tuple(ServiceMode(namespace="n", name=name, encryption=mode) for name, mode in modes)
    )
    assert render_status(mesh).splitlines()[-2:] == ["encryption: 2 strict, 1 permissive, 1 off", "  b.n: off"]
    many = tuple(ServiceMode(namespace="n", name=f"s{n}", encryption="off") for n in range(UNENCRYPTED_SHOWN + 2))
    lines = render_status(msgspec.structs.replace(WELL, modes=many)).splitlines()
    assert lines[-UNENCRYPTED_SHOWN - 2 :] == [
        f"encryption: {len(many)} off",
        *(f"  s{n}.n: off" for n in range(UNENCRYPTED_SHOWN)),
        "  and 2 more",
    ]


def test_without_a_transport_no_modes_are_in_the_json():
    assert b"modes" not in msgspec.json.encode(WELL)


def test_what_was_sent_in_clear_follows_the_modes():
    modes = (ServiceMode(namespace="n", name="web", encryption="permissive"),)
    status = msgspec.structs.replace(WELL, modes=modes, encryption=EncryptionStatus(error="403"))
    assert render_status(status).splitlines()[-2:] == [
        "encryption: 1 permissive",
        "what services send in clear is unknown: 403",
    ]
