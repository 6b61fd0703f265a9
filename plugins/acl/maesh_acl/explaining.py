"""Why access control would let a client in or not, in lines for a person: the answer of `maesh explain`."""

import msgspec

from maesh_acl import AclSettings, Grant, LeafGrants
from maesh_core.plugin import Question, Verdict, compile_matches, is_ambiguous

SHOWN_GRANTS = 10


def explain_access(settings: AclSettings, question: Question) -> Verdict:
    """Judge as the proxy does, and say what decided: every leaf must let the client in."""
    leaves = settings.destinations.get(question.destination, ())
    if not leaves:
        return Verdict(is_admitted=False, reasons=("no service with weight stands behind it, so nobody is let in",))
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
    servers: tuple[tuple[str, int], ...] | None = None
    if any(verdict.servers is not None for verdict in verdicts):
        found = [
            server
            for verdict, leaf in zip(verdicts, leaves, strict=True)
            for server in (leaf.servers if verdict.servers is None else verdict.servers)
        ]
        servers = tuple(dict.fromkeys(found))
    return Verdict(is_admitted=True, reasons=reasons, servers=servers)


def _explain_leaf(leaf: LeafGrants, question: Question) -> Verdict:
    mine = [grant for grant in leaf.grants if question.client_address in grant.sources]
    if not mine:
        return Verdict(is_admitted=False, reasons=_describe_strangers(leaf, question))
    held = [grant for grant in mine if _holds(grant, question)]
    if not held:
        names = ", ".join(grant.target for grant in mine[:SHOWN_GRANTS])
        return Verdict(
            is_admitted=False,
            reasons=(f"TrafficTarget {names} lets the client in, but not with this request: no match is about it",),
        )
    servers = (
        None
        if any(grant.servers is None for grant in held)
        else [each for grant in held for each in grant.servers or ()]
    )
    return Verdict(
        is_admitted=True,
        reasons=tuple(f"TrafficTarget {grant.target} lets it in" for grant in held[:SHOWN_GRANTS]),
        servers=None if servers is None else tuple(dict.fromkeys(servers)),
    )


def _describe_strangers(leaf: LeafGrants, question: Question) -> tuple[str, ...]:
    who = question.client_account or question.client_address or "a client that the mesh does not know"
    if not leaf.grants:
        return (f"no TrafficTarget lets anybody in; one with {who} among its sources would have to be written",)
    names = ", ".join(grant.target for grant in leaf.grants[:SHOWN_GRANTS])
    return (f"no TrafficTarget names {who} among its sources; those there are: {names}",)


def _holds(grant: Grant, question: Question) -> bool:
    if not grant.matches:
        return True
    if not question.is_http:
        return False
    if any(match.paths for match in grant.matches) and is_ambiguous(question.target):
        return False
    return compile_matches(grant.matches)(question)
