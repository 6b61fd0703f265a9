from typing import Any

import msgspec
import pytest
import trustme

from maesh_core.controller.cluster_check import catalogue
from maesh_core.controller.cluster_check.certificates import NEAR_END_S, check_authority, check_proxies, list_ends
from maesh_core.controller.cluster_check.controllers import Answer, MeshAnswers
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.errors import KubernetesError
from maesh_core.model.messages import ControllerReport, NodeReport, TransportReport


@pytest.fixture(scope="module")
def bundle():
    return trustme.CA().cert_pem.bytes().decode()


class FakeReader:
    def __init__(self, found):
        self._found = found

    async def find(self, path, type_):
        if isinstance(self._found, Exception):
            raise self._found
        return None if self._found is None else msgspec.convert(self._found, type_)


def build_section():
    return SectionBuilder(catalogue.CERTIFICATES, catalogue.CATALOGUE[catalogue.CERTIFICATES])


async def check(found, now):
    section = build_section()
    reader: Any = FakeReader(found)
    await check_authority(section, reader, namespace="maesh", config_map="maesh-trust", now=now)
    (outcome,) = section.build().checks
    return outcome


async def test_an_authority_is_well_until_it_nears_its_end(bundle):
    (end,) = list_ends(bundle)
    found = {"data": {"bundle.pem": bundle}}
    assert (await check(found, end - 2 * NEAR_END_S)).result == "success"
    assert (await check(found, end - 60)).result == "warning"
    assert (await check(found, end + 60)).result == "error"


async def test_an_old_authority_beside_a_new_one_is_no_problem(bundle):
    assert len(list_ends(bundle + trustme.CA().cert_pem.bytes().decode())) == 2


@pytest.mark.parametrize(
    ("found", "result", "detail"),
    [
        (None, "error", "there is no ConfigMap maesh/maesh-trust"),
        ({}, "error", "ConfigMap maesh/maesh-trust has no certificates in bundle.pem"),
        ({"data": {"bundle.pem": "x"}}, "error", "ConfigMap maesh/maesh-trust has no certificates in bundle.pem"),
        ({"data": {"bundle.pem": "ü"}}, "error", "ConfigMap maesh/maesh-trust has no certificates in bundle.pem"),
        (KubernetesError("403", status=403), "warning", "this could not be checked: 403"),
    ],
)
async def test_what_has_no_certificates_is_named(found, result, detail):
    outcome = await check(found, 0.0)
    assert (outcome.result, outcome.details) == (result, (detail,))


def build_proxy(name, transport):
    return NodeReport(name=name, ip="10.0.0.1", ready=True, revision="e.1", last_seen="", transport=transport)


@pytest.mark.parametrize(
    ("transport", "result"),
    [
        (TransportReport(facts={"ends": "2000"}), "success"),
        (TransportReport(facts={"ends": "2000"}, problem="it was not renewed"), "warning"),
        (TransportReport(facts={"ends": "500"}, problem="it has ended"), "error"),
        (TransportReport(facts={"ends": "odd"}, problem="it has none"), "error"),
        (msgspec.UNSET, "skipped"),
    ],
)
def test_a_certificate_that_was_not_renewed_is_a_warning_and_one_that_has_ended_a_failure(transport, result):
    report = ControllerReport(name="c", ready=True, leads=True, leader="c", revision="e.1")
    mesh = MeshAnswers(answers=(Answer(name="c", report=report, proxies=(build_proxy("n1", transport),)),))
    section = build_section()
    check_proxies(section, mesh, now=1000.0)
    assert [each.result for each in section.build().checks] == [result]
