"""Reads kubeconfigs like kubectl: several files are merged, and paths are relative to the file that contains them.

Takes the list of paths, returns the cluster and the user of the current context, or raises StartupError. The rules are
those of client-go (tools/clientcmd: loader.go, client_config.go). Must not run plugins and must not open connections.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from maesh_core.errors import StartupError

EXEC_EXTENSION = "client.authentication.k8s.io/exec"
"""The cluster extension whose content is passed to a credential plugin (client-go, clientcmd/api)."""

_CLUSTER_PATHS = ("certificate_authority",)
_OF_BAD_VALUES = (LookupError, AttributeError, TypeError, RecursionError)
"""The exceptions of PyYAML for a tag whose value does not match it (`!!bool maybe`), and for deep nesting."""
_USER_PATHS = ("client_certificate", "client_key", "token_file")


class Variable(msgspec.Struct, frozen=True):
    """One environment variable of a credential plugin."""

    name: str
    value: str | None = None


class ExecPlugin(msgspec.Struct, frozen=True, rename="camel"):
    """A command that prints credentials (client.authentication.k8s.io). `interactive_mode` None means IfAvailable."""

    api_version: str
    command: str
    args: list[str] | None = None
    env: list[Variable] | None = None
    install_hint: str | None = None
    provide_cluster_info: bool | None = None
    interactive_mode: str | None = None


class Extension(msgspec.Struct, frozen=True):
    """Third-party content in a cluster."""

    name: str
    extension: Any = None


class Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    """The address of an API server and how to verify it. An empty text counts as missing."""

    server: str | None = None
    tls_server_name: str | None = None
    insecure_skip_tls_verify: bool | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    proxy_url: str | None = None
    extensions: list[Extension] | None = None


class User(msgspec.Struct, frozen=True, rename="kebab"):
    """How to log in. `impersonated_…` name the impersonated user."""

    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(name="tokenFile", default=None)
    username: str | None = None
    password: str | None = None
    exec: ExecPlugin | None = None
    auth_provider: dict[str, Any] | None = None
    impersonated_user: str | None = msgspec.field(name="as", default=None)
    impersonated_uid: str | None = msgspec.field(name="as-uid", default=None)
    impersonated_groups: list[str] | None = msgspec.field(name="as-groups", default=None)
    impersonated_extra: dict[str, list[str] | None] | None = msgspec.field(name="as-user-extra", default=None)


class _Context(msgspec.Struct, frozen=True):
    cluster: str | None = None
    user: str | None = None


class _NamedCluster(msgspec.Struct, frozen=True):
    name: str
    cluster: Cluster | None = None


class _NamedUser(msgspec.Struct, frozen=True):
    name: str
    user: User | None = None


class _NamedContext(msgspec.Struct, frozen=True):
    name: str
    context: _Context | None = None


class _File(msgspec.Struct, frozen=True):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str | None = msgspec.field(name="current-context", default=None)


class Login(msgspec.Struct, frozen=True):
    """The cluster and the user of the current context. Their paths are absolute."""

    cluster: Cluster
    user: User


def find_files(paths: str) -> list[Path]:
    """Find the files of a list as in `KUBECONFIG`. Those that do not exist are ignored.

    Raises StartupError if none of them exists.
    """
    named = [Path(os.path.expanduser(path)) for path in paths.split(os.pathsep) if path]
    found = [path for path in named if path.exists()]
    if not found:
        raise StartupError(f"kubeconfig {paths}: no such file")
    return found


def load_login(paths: str) -> Login:
    """Read and merge a list of kubeconfigs. Raises StartupError.

    If clusters, users or contexts have the same name, the first one counts; so does the first non-empty
    `current-context`.
    """
    files = [_load_file(path) for path in find_files(paths)]
    try:
        return _choose(files)
    except LookupError as error:
        raise StartupError(f"kubeconfig {paths} cannot be used: {error.args[0]}") from error


def _choose(files: list[_File]) -> Login:
    current = next((file.current_context for file in files if file.current_context), None)
    if current is None:
        raise LookupError("it has no current-context")
    context = next((each.context for file in files for each in file.contexts or () if each.name == current), None)
    if context is None:
        raise LookupError(f"its current-context {current!r} is not a context")
    clusters = (each.cluster or Cluster() for each in _list_clusters(files) if each.name == context.cluster)
    users = (each.user or User() for each in _list_users(files) if each.name == context.user)
    cluster = next(clusters, None)
    if cluster is None:
        raise LookupError(f"context {current!r} names the cluster {context.cluster!r}, which does not exist")
    return Login(cluster, next(users, User()))  # kubectl also sends requests without a login then


def _list_clusters(files: list[_File]) -> Iterator[_NamedCluster]:
    return (each for file in files for each in file.clusters or ())


def _list_users(files: list[_File]) -> Iterator[_NamedUser]:
    return (each for file in files for each in file.users or ())


def _load_file(path: Path) -> _File:
    import yaml

    try:
        document = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StartupError(f"kubeconfig {path} cannot be used: {' '.join(str(error).split())}") from error
    except _OF_BAD_VALUES as error:
        raise StartupError(f"kubeconfig {path} cannot be used: it is not YAML that can be read") from error
    try:
        file = msgspec.convert({} if document is None else document, _File)
    except (msgspec.ValidationError, RecursionError) as error:
        raise StartupError(f"kubeconfig {path} cannot be used: it is not a kubeconfig: {error}") from error
    folder = Path(os.path.abspath(path)).parent
    return msgspec.structs.replace(
        file,
        clusters=[_resolve_cluster(each, folder) for each in file.clusters or ()],
        users=[_resolve_user(each, folder) for each in file.users or ()],
    )


def _resolve_cluster(named: _NamedCluster, folder: Path) -> _NamedCluster:
    cluster = named.cluster or Cluster()
    return _NamedCluster(named.name, msgspec.structs.replace(cluster, **_resolve(cluster, _CLUSTER_PATHS, folder)))


def _resolve_user(named: _NamedUser, folder: Path) -> _NamedUser:
    user = named.user or User()
    changes: dict[str, Any] = dict(_resolve(user, _USER_PATHS, folder))
    if user.exec is not None and "/" in user.exec.command:  # a name without a slash is looked up in PATH
        changes["exec"] = msgspec.structs.replace(user.exec, command=os.path.join(folder, user.exec.command))
    return _NamedUser(named.name, msgspec.structs.replace(user, **changes))


def _resolve(found: msgspec.Struct, names: tuple[str, ...], folder: Path) -> dict[str, str]:
    return {name: os.path.join(folder, path) for name in names if (path := getattr(found, name))}
