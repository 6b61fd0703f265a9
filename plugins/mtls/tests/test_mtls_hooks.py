"""Settings in, the controller's parts out: which store, which proof, and what stops the start."""

from types import SimpleNamespace

import pytest
from maesh_mtls import MtlsSettings
from maesh_mtls.controller.authority.ca import make_authority, read_authority
from maesh_mtls.controller.authority.folder_store import FolderStore
from maesh_mtls.controller.authority.keeper import read_now
from maesh_mtls.controller.authority.secret_store import SecretStore
from maesh_mtls.controller.hooks import ControllerHalf

from maesh_core.plugin import ConfigurationError
from maesh_core.settings import ControllerSettings

from .clusters import FakeController


def build_controller(cluster=None):
    controller = FakeController(None, cluster)
    controller.settings = ControllerSettings(namespace="mesh")
    return controller


def build(settings, cluster=None):
    half, controller = ControllerHalf(MtlsSettings(**settings)), build_controller(cluster)
    return half.maesh_api_pages(controller)[0], half.maesh_controller_services(controller)


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("a token-of-node-a-1\n")
    path.chmod(0o600)
    return path


def test_a_folder_outside_of_a_cluster_gets_an_authority(tmp_path, tokens):
    _, (keeper, *_) = build({"ca": str(tmp_path / "ca"), "tokens": str(tokens)})
    assert keeper.current is not None
    assert (tmp_path / "ca" / "tls.key").exists()
    _, (other, *_) = build({"ca": str(tmp_path / "ca")})
    assert other.get().certificate == keeper.get().certificate


def test_a_folder_in_a_pod_is_never_filled(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ConfigurationError, match=r"^mtls\.ca: .*ca: .* does not exist$"):
        build({"ca": str(tmp_path / "ca")})
    assert not (tmp_path / "ca").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "tls.key").unlink(), "tls.key is missing"),
        (lambda folder: (folder / "tls.crt").unlink(), "tls.crt has no certificate"),
        (lambda folder: (folder / "tls.key").chmod(0o644), "other users can read"),
        (lambda folder: (folder / "tls.crt").write_text("damaged"), "tls.crt has no certificate"),
    ],
)
def test_a_folder_that_cannot_be_used_stops_the_start_and_is_left_alone(tmp_path, change, reason):
    folder = tmp_path / "ca"
    FolderStore(folder).write_now(make_authority(read_now()), "", version="")
    change(folder)
    before = sorted(path.read_bytes() for path in folder.iterdir())
    with pytest.raises(ConfigurationError, match=reason) as caught:
        build({"ca": str(folder)})
    assert "PRIVATE KEY" not in str(caught.value)
    assert sorted(path.read_bytes() for path in folder.iterdir()) == before


def test_in_a_cluster_the_secret_is_used_unless_a_folder_is_named(tmp_path):
    _, (keeper, _, trust) = build({"ca_secret": "our-ca", "trust_config_map": "our-trust"}, SimpleNamespace())
    assert isinstance(keeper.store, SecretStore)
    assert keeper.store.place == "Secret mesh/our-ca"
    assert repr(trust) == "<TrustConfigMap our-trust@mesh>"
    folder = tmp_path / "ca"
    files = make_authority(read_now())
    FolderStore(folder).write_now(files, "", version="")
    _, (keeper, *_) = build({"ca": str(folder)}, SimpleNamespace())
    assert keeper.store.place == str(folder)
    assert keeper.get().certificate == read_authority(FolderStore(folder).load_now(), read_now()).certificate


def test_without_a_store_or_a_proof_nothing_is_signed_and_the_log_says_why(caplog, tokens):
    assert build({})[1] == []
    assert "no setting mtls.ca" in caplog.text


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"proxy_account": "a/b/c"}, "proxy-account"),
        ({"proxy_account": "A"}, "proxy-account"),
        ({"proxy_account": "/b"}, "proxy-account"),
        ({"ca_secret": "../x"}, "ca-secret"),
        ({"trust_config_map": ""}, "trust-config-map"),
    ],
)
def test_a_name_that_no_object_can_have_is_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        MtlsSettings(**settings)
