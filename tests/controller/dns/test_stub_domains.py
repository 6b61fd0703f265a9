"""Stub domains are put into a ConfigMap and taken out of it exactly."""

import json

import pytest

from maesh_core.controller.dns.corefile import ZONES
from maesh_core.controller.dns.stub_domains import has_stub_domains, plan_stub_domain_removal, plan_stub_domains
from maesh_core.model.keys import ObjectKey

KEY = ObjectKey("kube-system", "kube-dns")


def build(data=None):
    metadata = {"name": KEY.name, "namespace": KEY.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata} | ({} if data is None else {"data": data})


def put(found, zones=ZONES):
    (change,) = plan_stub_domains(found, KEY, ["10.0.0.2", "10.0.0.3"], zones=zones)
    return change.after


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"upstreamNameservers": "[]"},
        {"stubDomains": ""},
        {"stubDomains": " \n"},
        {"stubDomains": "{\n}\n"},
        {"stubDomains": '{"acme.local": ["1.2.3.4"]}'},
    ],
)
@pytest.mark.parametrize("zones", [ZONES, ZONES[:1], ZONES[1:]])
def test_what_is_put_in_is_taken_out_byte_for_byte(data, zones):
    before = build(data)
    after = put(before, zones)
    stubs = json.loads(after["data"]["stubDomains"])
    assert {zone for zone in ZONES if zone in stubs} == set(zones)
    assert stubs[zones[0]] == ["10.0.0.2", "10.0.0.3"]
    assert plan_stub_domains(after, KEY, ["10.0.0.2", "10.0.0.3"], zones=zones) == []
    assert has_stub_domains(after)
    assert not has_stub_domains(before)
    (removal,) = plan_stub_domain_removal(after)
    assert removal.after == before
    assert plan_stub_domain_removal(before) == []


def test_a_zone_that_is_wanted_no_more_is_taken_out():
    assert json.loads(put(put(build()), ZONES[1:])["data"]["stubDomains"]) == {"traefik.mesh": ["10.0.0.2", "10.0.0.3"]}


def test_a_config_map_that_is_missing_is_made_and_goes_again():
    (removal,) = plan_stub_domain_removal(put(None))
    assert removal.after is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"maesh": ["10.0.0.2"]}', True), ('{"a": ["10.0.0.2"]}', False), ("no json", False), ("", False)],
)
def test_zones_of_older_versions_count_and_what_is_no_json_does_not(text, expected):
    assert has_stub_domains(build({"stubDomains": text})) is expected
