"""What holds for every plugin holds for this one."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from maesh_testing import PluginContract, find_free_port

_CRYPTOGRAPHY = re.compile(r"^\s*(from|import) cryptography\b", re.MULTILINE)
_LIST = "import sys; from importlib import import_module; import_module(sys.argv[1]); print(*sys.modules)"


def list_modules(module):
    command = (sys.executable, "-P", "-c", _LIST, module)
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())


@pytest.fixture(scope="class", autouse=True)
def _files(request, tmp_path_factory):
    """Make the files that the settings name."""
    folder = tmp_path_factory.mktemp("mtls")
    tokens, token = folder / "tokens", folder / "token"
    tokens.write_text(f"{socket.gethostname()} token-of-this-node\n")
    tokens.chmod(0o600)
    token.write_text("token-of-this-node\n")
    if request.cls is not None:
        files = {"ca": folder / "ca", "tokens": tokens, "token": token, "trust": folder / "ca" / "tls.crt"}
        request.cls.settings = {**request.cls.settings, **{key: str(path) for key, path in files.items()}}


class TestContract(PluginContract):
    name = "mtls"
    settings = {
        "mode": "permissive",
        "domain": "mesh.example",
        "certificate-lifetime": "2h",
        "rotation-step": "30s",
        "revoked": "n1/0a1b,n1/0c",
        "ca-secret": "our-ca",
        "trust-config-map": "our-trust",
        "proxy-account": "infra/proxies",
        "allow-clear": "true",
        "port": "15009",
        "check-source": "true",
    }
    annotations = {"encryption": "permissive"}
    bad_annotations = ({"encryption": "on"},)

    @property
    def _on(self):
        """Give each mesh a port of its own: tests run side by side."""
        return (*super()._on, "--set", f"mtls.port={find_free_port()}")


@pytest.mark.parametrize("module", ["maesh_mtls.parent", "maesh_mtls.proxy.hooks"])
def test_the_proxy_never_imports_cryptography(module):
    found = list_modules(module)
    assert "cryptography" not in found
    assert "maesh_mtls.proxy.enrolment" not in found


def test_the_parent_imports_neither_the_transport_nor_a_half_of_the_controller():
    found = list_modules("maesh_mtls.parent")
    assert not any(name.startswith("maesh_mtls.controller") for name in found)
    assert {"maesh_mtls.proxy.transport", "maesh_mtls.proxy.contexts"} & found == set()


def list_users(package):
    """List the modules outside of the controller's half that import `cryptography` anywhere."""
    paths = (path.relative_to(package) for path in package.rglob("*.py") if _CRYPTOGRAPHY.search(path.read_text()))
    return {str(path) for path in paths if path.parts[0] != "controller"}


def test_only_the_controller_and_the_enrolment_process_mention_cryptography():
    assert list_users(Path(__file__).parents[1] / "maesh_mtls") == {"proxy/enrolment.py"}


def test_a_module_with_the_name_of_one_of_the_controller_is_found(tmp_path):
    for half in ("controller", "proxy"):
        (tmp_path / half).mkdir()
        (tmp_path / half / "hooks.py").write_text("def f():\n    import cryptography\n")
    assert list_users(tmp_path) == {"proxy/hooks.py"}
