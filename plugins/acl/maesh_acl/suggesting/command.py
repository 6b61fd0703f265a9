"""The command `maesh acl suggest`: from observed traffic to TrafficTargets.

Takes the API of a controller, or manifests, and what was observed: the report of denials that the controller gathers,
or files with a report or an access log. Prints YAML or JSON, and changes nothing. Raises MaeshError.
"""

import sys
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from maesh_acl.denials.report import REPORT_PATH, DenialReport
from maesh_acl.suggesting import Observation, PathOptions, suggest
from maesh_acl.suggesting.paths import EVIDENCE, parse_template
from maesh_acl.suggesting.reading import (
    AccessLog,
    AccessLogReader,
    build_observations,
    find_accounts,
    is_report,
    list_pods,
    parse_report,
    read_report,
)
from maesh_acl.suggesting.rendering import render_document, render_yaml
from maesh_core.plugin import (
    CommandApi,
    CommandArgument,
    CommandOption,
    CommandResult,
    CommandSwitch,
    CommandValues,
    ConfigurationError,
    ControllerUnreachableError,
    ObjectKey,
)

LEFT_OUT_STATUS: Final = 3
"""The exit status if some of the traffic has no suggestion."""
TOPOLOGY_PATH: Final = "/api/topology/current"
POD_LIMIT: Final = 1000
"""Pods of an access log that are not in the topology and are asked for one by one."""
REPORT_LIMIT_BYTES: Final = 256 * 1024 * 1024
HEAD_BYTES: Final = 65536


class SuggestCommand:
    """`maesh acl suggest`."""

    name = "suggest"
    text = "Print TrafficTargets that allow what was observed, and nothing else. It changes nothing."
    arguments: Sequence[CommandArgument] = ()
    switches: Sequence[CommandSwitch] = (
        CommandSwitch(name="exact", text="Write each path as it was observed, without variables."),
        CommandSwitch(name="denied", text="Also allow what was denied, and not only what passed in audit mode."),
    )
    options: Sequence[CommandOption] = (
        CommandOption(
            name="from",
            metavar="FILE",
            text="Read a report of denials, or an access log in JSON, instead of the report of the controller; -:"
            " standard input; repeatable.",
            is_repeatable=True,
        ),
        CommandOption(
            name="template",
            metavar="PATH",
            text="Path with variables, such as /users/{id}, for all paths like it; repeatable.",
            is_repeatable=True,
        ),
        CommandOption(
            name="service",
            metavar="SERVICE",
            text="Only for calls of this service, written as name.namespace; repeatable.",
            is_repeatable=True,
        ),
    )
    reads_manifests = True

    async def run(self, apis: Sequence[CommandApi], values: CommandValues) -> CommandResult:
        """Read what was observed, and suggest."""
        options = PathOptions(
            evidence=0 if values["exact"] else EVIDENCE, templates=tuple(map(parse_template, _list(values, "template")))
        )
        services = frozenset(map(parse_service, _list(values, "service")))
        api, body = await fetch_first(apis, TOPOLOGY_PATH)
        topology = decode_topology(body)
        observations, remarks = await self._observe(api, topology, values)
        if services:
            observations = [each for each in observations if each.service.partition(":")[0] in services]
        found = suggest(topology, observations, options)
        return CommandResult(
            text=render_yaml(found, remarks),
            document={**render_document(found), "remarks": list(remarks)},
            status=LEFT_OUT_STATUS if found.left_out else 0,
        )

    async def _observe(
        self, api: CommandApi, topology: Mapping[str, Any], values: CommandValues
    ) -> tuple[Sequence[Observation], Sequence[str]]:
        """Read observations, and remarks about them for the reader."""
        with_denied = bool(values["denied"])
        files = _list(values, "from")
        if not files:
            if api.name == "manifests":
                raise ConfigurationError("with --manifests, --from must name what was observed")
            report = parse_report(await api.fetch(REPORT_PATH))
            return _read_reports([report], with_denied=with_denied)
        reader = AccessLogReader(with_denied=with_denied)
        reports = [report for file in files for report in _read_file(file, reader)]
        observations, remarks = _read_reports(reports, with_denied=with_denied)
        log = reader.build()
        accounts = await _find_accounts(api, topology, log)
        return [*observations, *build_observations(log, accounts)], [*remarks, *_describe_log(log)]


def _list(values: CommandValues, name: str) -> tuple[str, ...]:
    found = values[name]
    return found if isinstance(found, tuple) else ()


async def fetch_first(apis: Sequence[CommandApi], path: str) -> tuple[CommandApi, bytes]:
    """Fetch a path of the first controller that can be reached, and return that controller, too."""
    for api in apis[:-1]:
        try:
            return api, await api.fetch(path)
        except ControllerUnreachableError:
            continue
    return apis[-1], await apis[-1].fetch(path)


def decode_topology(body: bytes) -> Mapping[str, Any]:
    """Decode the topology. Raises ConfigurationError if it is none, or access control is disabled."""
    try:
        topology = msgspec.json.decode(body, type=dict[str, Any])
        services = topology["services"]
        is_enabled = not services or any("acl" in each["additions"] for each in services.values())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError("the answer of the controller is not a topology") from error
    if not is_enabled:
        raise ConfigurationError(
            "access control is disabled in the controller: enable it in audit mode (--acl --set acl.mode=audit), or"
            " read manifests with --manifests"
        )
    return topology


def _read_reports(reports: Iterable[DenialReport], *, with_denied: bool) -> tuple[Sequence[Observation], Sequence[str]]:
    observations: list[Observation] = []
    remarks: list[str] = []
    for report in reports:
        observations += read_report(report, with_denied=with_denied)
        if not report.complete:
            remarks.append("the report is incomplete: proxies did not answer, or have recorded more than they keep")
        denied = sum(each.count for each in report.denials if each.mode != "audit")
        if denied and not with_denied:
            remarks.append(f"denied, and not considered: {denied}; --denied suggests rules for them, too")
    return observations, list(dict.fromkeys(remarks))


def _describe_log(log: AccessLog) -> Iterable[str]:
    if log.ignored:
        yield f"lines that are no records of an access log in JSON, and were ignored: {log.ignored}"
    if log.denied:
        yield f"denied, and not considered: {log.denied}; --denied suggests rules for them, too"


@contextmanager
def _open(file: str) -> Iterator[IO[bytes]]:
    """Open a file, or standard input. Raises ConfigurationError."""
    try:
        if file == "-":
            yield sys.stdin.buffer
        else:
            with Path(file).open("rb") as opened:
                yield opened
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error


def _read_file(file: str, reader: AccessLogReader) -> Iterator[DenialReport]:
    """Read a file: yield a report, or add the lines of a log. Raises ConfigurationError, which names the file."""
    with _open(file) as opened:
        head = opened.readline(HEAD_BYTES)
        while head.isspace():
            head = opened.readline(HEAD_BYTES)
        try:
            if head and not reader.is_record(head):
                content = head + opened.read(REPORT_LIMIT_BYTES)
                if is_report(content):
                    yield parse_report(content)
                    return
                reader.read_lines(content.splitlines())
            else:
                reader.read_lines([head])
            reader.read_lines(opened)
        except ConfigurationError as error:
            raise ConfigurationError(f"{file}: {error}") from error


async def _find_accounts(api: CommandApi, topology: Mapping[str, Any], log: AccessLog) -> Mapping[str, ObjectKey]:
    """Find the service accounts of the pods of a log: in the topology, or by asking for single pods."""
    known = {
        f"{pod['namespace']}/{pod['name']}": ObjectKey(pod["namespace"], pod["serviceAccount"])
        for pod in topology.get("pods", {}).values()
    }
    pods = list_pods(log)
    missing = [pod for pod in pods if pod not in known]
    for pod in missing[:POD_LIMIT]:
        known.update(await _ask_for_pod(api, pod))
    return find_accounts(pods, known)


async def _ask_for_pod(api: CommandApi, pod: str) -> Mapping[str, ObjectKey]:
    """Ask for a pod; if it has ended, also for those with the most similar names."""
    found = await _fetch_pods(api, pod)
    accounts = dict(found.pods)
    if not accounts:
        for name in found.nearest:
            accounts.update((await _fetch_pods(api, name)).pods)
    return accounts


class _Pods(msgspec.Struct):
    pods: Mapping[str, ObjectKey]
    nearest: tuple[str, ...]


class _Pod(msgspec.Struct, rename="camel"):
    namespace: str
    name: str
    service_account: str


class _PodsAnswer(msgspec.Struct):
    pods: tuple[_Pod, ...] = ()
    nearest: tuple[str, ...] = ()


async def _fetch_pods(api: CommandApi, pod: str) -> _Pods:
    namespace, _, name = pod.partition("/")
    query = urllib.parse.urlencode({"namespace": namespace, "name": name})
    try:
        answer = msgspec.json.decode(await api.fetch(f"/api/pods?{query}"), type=_PodsAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError("the answer of the controller is not a list of pods") from error
    return _Pods(
        pods={f"{each.namespace}/{each.name}": ObjectKey(each.namespace, each.service_account) for each in answer.pods},
        nearest=answer.nearest,
    )


def parse_service(text: str) -> str:
    """Parse `name.namespace` (a domain may follow), `namespace/name` or `name@namespace`. Raises ConfigurationError."""
    if "/" in text:
        namespace, _, name = text.partition("/")
    elif "@" in text:
        name, _, namespace = text.partition("@")
    else:
        name, _, domain = text.partition(".")
        namespace = domain.partition(".")[0]
    if not name or not namespace:
        raise ConfigurationError(f"--service: {text[:80]!r} is not name.namespace")
    return f"{namespace}/{name}"
