"""What holds for every plugin holds for this one."""

import pytest

from maesh_testing import PluginContract, find_free_port


@pytest.fixture(scope="class", autouse=True)
def _secret(request, tmp_path_factory):
    """Make the file that the settings name."""
    file = tmp_path_factory.mktemp("relay") / "secret"
    file.write_text("s" * 32)
    if request.cls is not None:
        request.cls.required_settings = {"secret-file": str(file)}


class TestContract(PluginContract):
    name = "relay"
    settings = {"mode": "off", "port": "15011"}
    annotations = {"relay": "permissive"}
    bad_annotations = ({"relay": "on"},)

    @property
    def _on(self):
        """Give each mesh a port of its own: tests run side by side."""
        return (*super()._on, "--set", f"relay.port={find_free_port()}")
