"""What an API server does to a Service: defaults, addresses from its ranges, and everything it refuses.

Takes a Service and what it was, fills in the new one and lists what is wrong with it. Keeps the addresses that are
given out.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maesh_testing.kubernetes.statuses import Cause

Object = dict[str, Any]

NODE_PORTS = range(30000, 32768)
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=[^a-z]*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_TEXT_1035 = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_TEXT_1123 = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


class ServiceRules:
    """The rules of one cluster.

    `ranges` are those of cluster IPs, one, or two of different families. `distributions` are the values of
    `trafficDistribution`; None: the server is older than the field, and drops it.
    """

    def __init__(self, ranges: Sequence[str], distributions: Sequence[str] | None) -> None:
        self._ranges = {_get_family(text): ipaddress.ip_network(text) for text in ranges}
        self._distributions = distributions
        self._taken: set[str] = set()
        self._next = {family: iter(network.hosts()) for family, network in self._ranges.items()}
        self._next_node_port = iter(NODE_PORTS)

    def __repr__(self) -> str:
        return f"<ServiceRules {' '.join(map(str, self._ranges.values()))} {len(self._taken)} taken>"

    def prepare(self, fresh: Object, old: Object | None) -> list[Cause]:
        """Fill in a Service and list what is wrong; addresses are taken only when nothing is."""
        spec = fresh.setdefault("spec", {})
        _fill(spec)
        fresh.setdefault("status", {"loadBalancer": {}})
        if self._distributions is None:
            spec.pop("trafficDistribution", None)
        causes = [
            *_list_name_causes(fresh["metadata"]["name"]),
            *self._list_spec_causes(spec),
            *_list_port_causes(spec),
        ]
        if old is not None:
            _keep_allocated(spec, old["spec"])
            causes += _list_change_causes(spec, old["spec"])
        if spec["type"] != "ExternalName":
            causes += self._choose_families(spec)
        return causes or self._allocate(spec, old["spec"] if old else {})

    def forget(self, old: Object) -> None:
        """Free the addresses of a Service that is gone."""
        self._taken.difference_update(old["spec"].get("clusterIPs", ()))

    def _list_spec_causes(self, spec: Object) -> Iterator[Cause]:
        if spec["type"] not in _TYPES:
            yield _refuse_value("spec.type", spec["type"], _TYPES)
        if spec["type"] == "ExternalName" and not spec.get("externalName"):
            yield Cause("FieldValueRequired", "spec.externalName", "Required value")
        if spec["sessionAffinity"] not in ("ClientIP", "None"):
            yield _refuse_value("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
        wanted = spec.get("trafficDistribution")
        if wanted is not None and wanted not in (self._distributions or ()):
            yield _refuse_value("spec.trafficDistribution", wanted, self._distributions or ())

    def _choose_families(self, spec: Object) -> list[Cause]:
        """Settle on families and policy, as the server does for what is not said."""
        known = list(self._ranges)
        given = spec.get("ipFamilies") or [_get_family(each) for each in spec.get("clusterIPs", ()) if each != "None"]
        for number, family in enumerate(given):
            if family not in known:
                text = "not configured on this cluster"
                return [_refuse(f"spec.ipFamilies[{number}]", family, text)]
        policy = spec.get("ipFamilyPolicy") or ("RequireDualStack" if len(given) == 2 else "SingleStack")
        if policy == "RequireDualStack" and len(known) == 1:
            text = "Cluster is not configured for dual-stack services"
            return [_refuse("spec.ipFamilyPolicy", policy, text)]
        families = [*given, *(family for family in known if family not in given)]
        spec["ipFamilies"] = families[:1] if policy == "SingleStack" else families[:2]
        spec["ipFamilyPolicy"] = policy
        return []

    def _allocate(self, spec: Object, old: Mapping[str, Any]) -> list[Cause]:
        if spec["type"] in ("NodePort", "LoadBalancer"):
            for port in spec["ports"]:
                port.setdefault("nodePort", next(self._next_node_port))
        if spec["type"] == "ExternalName" or spec.get("clusterIP") == "None":
            spec |= {"clusterIPs": ["None"]} if spec["type"] != "ExternalName" else {}
            return []
        asked = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        fresh = [address for address in asked if address not in old.get("clusterIPs", ())]
        for address in fresh:
            if cause := self._check_address(address):
                return [cause]
        self._taken.update(fresh)
        for family in spec["ipFamilies"][len(asked) :]:
            address = next(found for found in map(str, self._next[family]) if found not in self._taken)
            self._taken.add(address)
            asked.append(address)
        spec |= {"clusterIP": asked[0], "clusterIPs": asked}
        return []

    def _check_address(self, address: str) -> Cause | None:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return _refuse("spec.clusterIPs[0]", address, "must be a valid IP address")
        network = self._ranges.get(_get_family(address))
        if network is None or parsed not in network:
            text = f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}"
            return _refuse("spec.clusterIPs", [address], f"failed to allocate IP {address}: {text}")
        if address in self._taken:
            return _refuse(
                "spec.clusterIPs", [address], f"failed to allocate IP {address}: provided IP is already allocated"
            )
        return None


def _fill(spec: Object) -> None:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]


def _keep_allocated(spec: Object, old: Mapping[str, Any]) -> None:
    """Fill in what an update leaves out, as the server does so that clients need not know it."""
    if spec["type"] == "ExternalName" or old["type"] == "ExternalName":
        return
    if not spec.get("clusterIP"):
        spec |= {key: old[key] for key in ("clusterIP", "clusterIPs") if key in old}
    if not spec.get("ipFamilies"):
        spec |= {key: old[key] for key in ("ipFamilies",) if key in old}
    spec.setdefault("ipFamilyPolicy", old.get("ipFamilyPolicy"))
    node_ports = {(port["protocol"], port["port"]): port.get("nodePort") for port in old.get("ports", ())}
    for port in spec.get("ports") or ():
        kept = node_ports.get((port["protocol"], port.get("port")))
        if kept and spec["type"] in ("NodePort", "LoadBalancer"):
            port.setdefault("nodePort", kept)


def _list_change_causes(spec: Object, old: Mapping[str, Any]) -> Iterator[Cause]:
    if spec["type"] == "ExternalName" or old["type"] == "ExternalName":
        return
    was, now = old.get("clusterIPs", [""]), spec.get("clusterIPs", [""])
    if was[0] != now[0]:
        yield _refuse("spec.clusterIPs[0]", list(now), "may not change once set")
    if (old.get("ipFamilies") or [""])[0] != (spec.get("ipFamilies") or [""])[0]:
        yield _refuse("spec.ipFamilies[0]", (spec.get("ipFamilies") or [""])[0], "may not change once set")


def _list_name_causes(name: str) -> Iterator[Cause]:
    if len(name) > 63:
        yield _refuse("metadata.name", name, "must be no more than 63 bytes")
    if not _LABEL_1035.fullmatch(name):
        yield _refuse("metadata.name", name, _TEXT_1035)


def _list_port_causes(spec: Object) -> Iterator[Cause]:
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        yield Cause("FieldValueRequired", "spec.ports", "Required value")
    names: set[str] = set()
    numbers: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        field, name, number = f"spec.ports[{index}]", port.get("name", ""), port.get("port", 0)
        yield from _list_number_causes(field, port)
        if not name and len(ports) > 1:
            yield Cause("FieldValueRequired", f"{field}.name", "Required value")
        if name and (len(name) > 63 or not _LABEL_1123.fullmatch(name)):
            yield _refuse(f"{field}.name", name, _TEXT_1123 if len(name) <= 63 else "must be no more than 63 bytes")
        if name and name in names:
            yield Cause("FieldValueDuplicate", f"{field}.name", f'Duplicate value: "{name}"')
        if (port["protocol"], number) in numbers:
            text = f'Duplicate value: {{"protocol":"{port["protocol"]}","port":{number}}}'
            yield Cause("FieldValueDuplicate", field, text)
        names.add(name)
        numbers.add((port["protocol"], number))


def _list_number_causes(field: str, port: Mapping[str, Any]) -> Iterator[Cause]:
    range_text = "must be between 1 and 65535, inclusive"
    number, target = port.get("port", 0), port["targetPort"]
    if not (isinstance(number, int) and 1 <= number <= 65535):
        yield _refuse(f"{field}.port", number, range_text)
    if port["protocol"] not in ("TCP", "UDP", "SCTP"):
        yield _refuse_value(f"{field}.protocol", port["protocol"], ("SCTP", "TCP", "UDP"))
    if isinstance(target, int) and not 1 <= target <= 65535:
        yield _refuse(f"{field}.targetPort", target, range_text)
    if isinstance(target, str) and (len(target) > 15 or not _PORT_NAME.fullmatch(target)):
        text = (
            "must be no more than 15 characters" if len(target) > 15 else "must contain only alpha-numeric characters"
        )
        yield _refuse(f"{field}.targetPort", target, text)


def _get_family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _refuse(field: str, value: Any, text: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {text}")


def _refuse_value(field: str, value: Any, known: Sequence[str]) -> Cause:
    names = ", ".join(f'"{each}"' for each in sorted(known))
    return Cause("FieldValueNotSupported", field, f'Unsupported value: "{value}": supported values: {names}')
