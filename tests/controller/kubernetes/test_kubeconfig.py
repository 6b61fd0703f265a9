"""Several kubeconfigs make one, as kubectl reads them."""

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.kubernetes.kubeconfig import Cluster, User, find_files, load_login
from maesh_core.errors import StartupError

VERSION = "client.authentication.k8s.io/v1"


@pytest.fixture
def write(tmp_path):
    def write_document(name, document):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(yaml.safe_dump(document))
        return path

    return write_document


def build(*, cluster=None, user=None, current="c"):
    """Build a kubeconfig; what is None has null for its list."""
    return {
        "clusters": None if cluster is None else [{"name": "k", "cluster": cluster}],
        "users": None if user is None else [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "current-context": current,
    }


def join(*paths):
    return ":".join(str(path) for path in paths)


def test_files_that_do_not_exist_are_skipped_while_one_does(tmp_path):
    (tmp_path / "a").touch()
    assert find_files(f":{tmp_path}/x::{tmp_path}/a:") == [tmp_path / "a"]
    for paths in (f"{tmp_path}/x", f"{tmp_path}/x:{tmp_path}/y", "", ":"):
        with pytest.raises(StartupError, match="no such file"):
            find_files(paths)


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "k").touch()
    assert find_files("~/k") == [tmp_path / "k"]


def test_paths_are_relative_to_the_file_that_has_them(write, tmp_path):
    cluster = {"server": "https://a", "certificate-authority": "ca.crt"}
    user = {"client-certificate": "../c.pem", "client-key": "/etc/c.key", "tokenFile": "t"}
    first = write("one/k", build(cluster=cluster))
    second = write("two/k", build(user=user))
    login = load_login(join(first, second))
    assert login.cluster.certificate_authority == f"{tmp_path}/one/ca.crt"
    assert login.user.client_certificate == f"{tmp_path}/two/../c.pem"
    assert login.user.client_key == "/etc/c.key"
    assert login.user.token_file == f"{tmp_path}/two/t"


@pytest.mark.parametrize(
    ("command", "expected"),
    [("login", "login"), ("./login", "{}/./login"), ("bin/login", "{}/bin/login"), ("/bin/login", "/bin/login")],
)
def test_a_command_with_a_slash_is_relative_to_the_file_and_a_bare_name_is_not(write, tmp_path, command, expected):
    plugin = {"apiVersion": VERSION, "command": command}
    path = write("folder/k", build(cluster={}, user={"exec": plugin}))
    assert load_login(str(path)).user.exec.command == expected.format(tmp_path / "folder")


def test_a_kubeconfig_with_a_relative_path_has_absolute_ones(write, tmp_path, monkeypatch):
    write("folder/k", build(cluster={"certificate-authority": "ca.crt"}))
    monkeypatch.chdir(tmp_path)
    assert load_login("folder/k").cluster.certificate_authority == f"{tmp_path}/folder/ca.crt"


def test_the_first_file_to_set_a_name_counts(write):
    first = write("a", build(cluster={"server": "https://first"}, user={"token": "first"}, current=""))
    second = write("b", build(cluster={"server": "https://second"}, user={"token": "second"}))
    login = load_login(join(first, second))
    assert (login.cluster.server, login.user.token) == ("https://first", "first")


def test_the_first_current_context_with_text_counts(write):
    document = build(cluster={"server": "https://a"})
    document["contexts"].append({"name": "other", "context": {"cluster": "k"}})
    files = [write("a", {"current-context": None}), write("b", document), write("c", {"current-context": "other"})]
    files.append(write("d", build(user={"token": "t"})))
    assert load_login(join(*files)).user.token == "t"


@pytest.mark.parametrize("empty", [None, {}, {"clusters": None, "users": None, "contexts": None}])
def test_empty_files_and_null_lists_count_as_missing(write, empty):
    login = load_login(join(write("a", empty), write("b", build(cluster={"server": "https://a"}))))
    assert login.cluster == Cluster(server="https://a")
    assert login.user == User()


def test_a_user_that_is_not_there_is_no_login(write):
    document = build(cluster={"server": "https://a"}, user=None)
    assert load_login(str(write("a", document))).user == User()
    document["users"] = [{"name": "u", "user": None}]
    assert load_login(str(write("a", document))).user == User()


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (build(cluster={}, current="d"), "its current-context 'd' is not a context"),
        (build(cluster={}, current=""), "it has no current-context"),
        (build(), "context 'c' names the cluster 'k', which does not exist"),
        (build(cluster={"server": 5}), "it is not a kubeconfig: Expected `str"),
        (build(cluster={"insecure-skip-tls-verify": "true"}), "insecure-skip-tls-verify"),
        (build(cluster={}, user={"exec": {"command": "x"}}), "apiVersion"),
        (build(cluster={}, user={"exec": {"apiVersion": VERSION}}), "command"),
    ],
)
def test_what_cannot_be_used_is_reported_with_the_file(write, document, text):
    path = write("a", document)
    with pytest.raises(StartupError) as caught:
        load_login(str(path))
    assert str(caught.value).startswith(f"kubeconfig {path} cannot be used: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


KEYS = ["clusters", "users", "contexts", "current-context", "name", "cluster", "user", "exec", "server", "args"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(KEYS), values, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_a_file_has_it_is_read_or_refused_in_one_line(document):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "k"
        path.write_text(yaml.safe_dump(document))
        try:
            found: Cluster | str = load_login(str(path)).cluster
        except StartupError as error:
            found = str(error)
    assert isinstance(found, Cluster) or "\n" not in found


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "a: !!bool maybe",
        "a: !!timestamp soon",
        "a: !!int ''",
        "a: !!float x",
        "a: 2020-99-99",
        "? [a]\n: b",
    ],
)
def test_what_is_no_yaml_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "k"
    path.write_text(text)
    with pytest.raises(StartupError, match=r"^kubeconfig [^\n]* cannot be used: [^\n]+$"):
        load_login(str(path))
