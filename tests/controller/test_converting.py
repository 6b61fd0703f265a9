"""Manifests through a converter: what it gets to read."""

from typing import Any

import pytest

from maesh_core.controller.converting import run_conversion
from maesh_core.errors import ManifestError
from maesh_core.plugin_system.converters import Conversion


class FakeConverter:
    """Keeps what it is called with."""

    kinds = ()

    def convert(self, view, resources):
        self.view, self.resources = view, resources
        return Conversion()


SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: %d}]}\n"


def run(*paths, **options):
    converter: Any = FakeConverter()
    report = run_conversion(converter, [str(path) for path in paths], is_recursive=False, default_mode="tcp", **options)
    return converter, report


def test_an_object_that_is_written_twice_counts_once(tmp_path):
    for number in (80, 81):
        tmp_path.joinpath(f"{number}.yaml").write_text(SERVICE % number)
    converter, report = run(tmp_path)
    (service,) = converter.resources
    node = converter.view.build_service(service.key)
    assert ([port.number for port in node.ports], node.traffic_type) == ([81], "tcp")
    assert not report.errors


def test_a_manifest_with_an_error_does_not_keep_others_out(tmp_path):
    tmp_path.joinpath("a.yaml").write_text("kind: [")
    tmp_path.joinpath("b.yaml").write_text(SERVICE % 80)
    converter, report = run(tmp_path)
    assert len(converter.resources) == len(report.errors) == 1


@pytest.mark.parametrize("name", ["gone.yaml", "empty"])
def test_a_path_without_manifests_is_an_error(tmp_path, name):
    tmp_path.joinpath("empty").mkdir()
    with pytest.raises(ManifestError):
        run(tmp_path / name)
