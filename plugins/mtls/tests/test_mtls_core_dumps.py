"""Processes that hold keys write no core dump."""

import resource

import pytest
from maesh_mtls import MtlsSettings
from maesh_mtls.controller.hooks import ControllerHalf
from maesh_mtls.parent import ParentHalf
from maesh_mtls.proxy.hooks import ProxyHalf


@pytest.mark.parametrize("half", [ControllerHalf, ParentHalf, ProxyHalf])
def test_a_half_turns_core_dumps_off_in_its_process(half, monkeypatch):
    limits = []
    monkeypatch.setattr(resource, "setrlimit", lambda *limit: limits.append(limit))  # it cannot be raised again
    half(MtlsSettings())
    assert limits == [(resource.RLIMIT_CORE, (0, 0))]
