"""Explains in text lines why access control allows or denies a client, for `maesh explain`.

Decides as the proxy does, by addresses and modes. Reads targets that grant nothing from the topology. Suggests a new
target only if no target names the client, and only for a client that a target can name.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from maesh_acl import AclSettings, Grant, LeafGrants
from maesh_acl.granting.destinations import OUTSIDE_ACCOUNT
from maesh_core.plugin import Question, Verdict, compile_matches, is_ambiguous, parse_annotations

SHOWN_GRANTS = 10
SHOWN_ACCOUNTS = 3

_OPENED_BY = {"tcp": "TCPRoute", "udp": "UDPRoute"}
"""The kind of route that a service needs which is not HTTP, by its traffic type."""


def explain_access(settings: AclSettings, question: Question) -> Verdict:
    """Decide as the proxy does, with the reasons: every leaf must allow the client."""
    leaves = settings.destinations.get(question.destination, ())
    if not leaves:
        return Verdict(is_admitted=False, reasons=("it has no service with weight, so no client is allowed",))
    verdicts = [_explain_leaf(leaf, question) for leaf in leaves]
    if len(leaves) > 1:
        verdicts = [
            msgspec.structs.replace(verdict, reasons=tuple(f"{leaf.service}: {reason}" for reason in verdict.reasons))
            for leaf, verdict in zip(leaves, verdicts, strict=True)
        ]
    reasons = tuple(dict.fromkeys(reason for verdict in verdicts for reason in verdict.reasons))
    if not all(verdict.is_admitted for verdict in verdicts):
        denied = tuple(
            dict.fromkeys(reason for verdict in verdicts if not verdict.is_admitted for reason in verdict.reasons)
        )
        return Verdict(is_admitted=False, reasons=denied)
    would_deny = tuple(dict.fromkeys(reason for verdict in verdicts for reason in verdict.would_deny))
    servers: tuple[tuple[str, int], ...] | None = None
    if any(verdict.servers is not None for verdict in verdicts):
        found = [
            server
            for verdict, leaf in zip(verdicts, leaves, strict=True)
            for server in (leaf.servers if verdict.servers is None else verdict.servers)
        ]
        servers = tuple(dict.fromkeys(found))
    return Verdict(is_admitted=True, reasons=reasons, servers=servers, would_deny=would_deny)


def _explain_leaf(leaf: LeafGrants, question: Question) -> Verdict:
    """Explain what the grants of a leaf say, and what its mode, or that of a target, makes of it."""
    verdict = _explain_grants(leaf, question)
    if leaf.is_audited:
        if verdict.is_admitted:  # in audit mode, it may go to all servers
            return Verdict(is_admitted=True, reasons=verdict.reasons)
        reason = f"service {leaf.service} is in audit mode: it passes, and is recorded"
        return Verdict(is_admitted=True, reasons=(reason,), would_deny=verdict.reasons)
    audited = [
        grant
        for grant in leaf.grants
        if grant.is_audited and question.is_http and question.client_address in grant.sources
    ]
    if verdict.is_admitted or not audited:
        return verdict
    reasons = tuple(
        f"TrafficTarget {grant.target} is in audit mode: it passes, and is recorded" for grant in audited[:SHOWN_GRANTS]
    )
    return Verdict(is_admitted=True, reasons=reasons, servers=_join_servers(audited), would_deny=verdict.reasons)


def _join_servers(grants: Sequence[Grant]) -> tuple[tuple[str, int], ...] | None:
    """Join the servers of several grants; None means all servers."""
    if any(grant.servers is None for grant in grants):
        return None
    return tuple(dict.fromkeys(each for grant in grants for each in grant.servers or ()))


def _explain_grants(leaf: LeafGrants, question: Question) -> Verdict:
    mine = [grant for grant in leaf.grants if question.client_address in grant.sources]
    if not mine:
        return Verdict(is_admitted=False, reasons=tuple(_describe_stranger(leaf, question)))
    held = [grant for grant in mine if _holds(grant, question)]
    if not held:
        names = ", ".join(grant.target for grant in mine[:SHOWN_GRANTS])
        why = "the path is ambiguous" if _is_blurred(mine, question) else "no match applies to it"
        return Verdict(
            is_admitted=False,
            reasons=(f"TrafficTarget {names} allows the client, but not this request: {why}",),
        )
    return Verdict(
        is_admitted=True,
        reasons=tuple(f"TrafficTarget {grant.target} allows it" for grant in held[:SHOWN_GRANTS]),
        servers=_join_servers(held),
    )


def _holds(grant: Grant, question: Question) -> bool:
    if not grant.matches:
        return True
    if not question.is_http:
        return False
    if any(match.paths for match in grant.matches) and is_ambiguous(question.target):
        return False
    return compile_matches(grant.matches)(question)


def _is_blurred(grants: Iterable[Grant], question: Question) -> bool:
    has_paths = any(match.paths for grant in grants for match in grant.matches)
    return question.is_http and has_paths and is_ambiguous(question.target)


# --- clients without a grant


def _describe_stranger(leaf: LeafGrants, question: Question) -> Iterable[str]:
    """Explain why the client has no grant: because of the client, the service, or its targets."""
    if (unusable := _describe_unusable(question)) is not None:
        yield unusable
        yield from _describe_targets_of(leaf, question)
        return
    if (unreachable := _describe_unreachable(leaf, question)) is not None:
        yield unreachable
        return
    found = list(_describe_targets_of(leaf, question))
    yield from found or _advise(leaf, question)


def _describe_unusable(question: Question) -> str | None:
    """Explain why no rule can apply to the client: it has no identity, or shares its address."""
    address, pods = question.client_address, question.client_pods
    if not address:
        return "the client has no address to identify it"
    if not pods:
        return (
            f"the mesh knows no pod with address {address};"
            " TrafficTargets identify clients by the service account of their pod"
        )
    at_node = next((pod for pod in pods if pod.host_network), None)
    if at_node is not None and all(pod.host_network for pod in pods):
        return f"{at_node.namespace}/{at_node.name} has its node's address, {address}, which identifies no client"
    accounts = sorted({pod.account for pod in pods})
    if len(accounts) < 2:
        return None
    shown = accounts if len(accounts) <= SHOWN_ACCOUNTS else [*accounts[:SHOWN_ACCOUNTS], "others"]
    named = f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"pods of {named} share address {address}, so it identifies none of them unless one target names all"


def _describe_unreachable(leaf: LeafGrants, question: Question) -> str | None:
    """Explain why no target can apply to the service now: access is granted to the accounts of pods."""
    service = question.topology.get("services", {}).get(_name_leaf(leaf, question), {})
    if not service or service.get("pods"):
        return None
    if any(server.get("isName") for port in service.get("ports", ()) for server in port.get("servers", ())):
        if OUTSIDE_ACCOUNT in parse_annotations(service.get("annotations", {})):
            return None
        return (
            f"the servers of service {leaf.service} are outside of the mesh, and no annotation {OUTSIDE_ACCOUNT} names"
            " the account that a TrafficTarget can have as destination"
        )
    return f"service {leaf.service} has no ready pod, and a TrafficTarget grants access only to pods"


def _describe_targets_of(leaf: LeafGrants, question: Question) -> Iterable[str]:
    """Explain for each target that names the client, or nearly does, why it grants nothing here."""
    accounts = {(pod.service_account, pod.namespace) for pod in question.client_pods}
    for target in _find_targets(leaf, question):
        label = f"TrafficTarget {target.get('name')}@{target.get('namespace')}"
        named = {(each.get("serviceAccount"), each.get("namespace")) for each in target.get("sources", ())}
        if mine := sorted(named & accounts):
            sources = " and ".join(f"{name}@{namespace}" for name, namespace in mine)
            for why in target.get("errors") or (_guess_reason(target, question),):
                yield f"{label} names {sources} among its sources, but grants nothing here: {why}"
            continue
        for name in sorted(
            name for name, namespace in named if not namespace and name in {each[0] for each in accounts}
        ):
            yield f"{label} names {name} among its sources without a namespace, which matches no client"


def _guess_reason(target: Mapping[str, Any], question: Question) -> str:
    """Explain why a target without errors grants nothing: other traffic, or a client without identity."""
    if _describe_unusable(question) is not None:
        return "the client's address does not identify that account"
    opener = _OPENED_BY.get(question.traffic_type)
    kinds = {rule.get("kind") for rule in target.get("rules", ())}
    if opener is not None and opener not in kinds:
        return f"it has no {opener} in its rules, which a {question.traffic_type} service needs"
    if opener is None and kinds == {_OPENED_BY["udp"]}:
        return "its rules allow only UDP"
    return "its rules or its destination do not apply to this port"


def _advise(leaf: LeafGrants, question: Question) -> Iterable[str]:
    """Suggest a target that would allow the client. Called only if a target can name it and none does."""
    account = question.client_account
    names = [f"{target.get('name')}@{target.get('namespace')}" for target in _find_targets(leaf, question)]
    names = names or [grant.target for grant in leaf.grants]
    if names:
        shown = ", ".join(names[:SHOWN_GRANTS])
        rest = f" and {len(names) - SHOWN_GRANTS} more" if len(names) > SHOWN_GRANTS else ""
        yield f"no TrafficTarget names {account} among its sources; existing targets: {shown}{rest}"
    elif any("TrafficTarget" in f"{origin} {text}" for origin, text in question.problems.items()):
        yield "no readable TrafficTarget allows any client, and some could not be read"
    else:
        yield f"no TrafficTarget allows any client; create one with {account} among its sources"


def _find_targets(leaf: LeafGrants, question: Question) -> Sequence[Mapping[str, Any]]:
    """Find the targets of the topology that concern the leaf, sorted by name."""
    service = _name_leaf(leaf, question)
    shown = question.topology.get("serviceTrafficTargets", {})
    return [shown[key] for key in sorted(shown) if shown[key].get("service") == service]


def _name_leaf(leaf: LeafGrants, question: Question) -> str:
    """Return a leaf's service as named in the topology; without namespace, it is in that of the called service."""
    return leaf.service if "@" in leaf.service else f"{leaf.service}@{question.destination.partition('/')[0]}"
