"""The kinds of findings of `maesh check` about servers outside of the mesh. The texts are the topology's."""

from collections.abc import Iterable, Sequence

from maesh_core.plugin import FindingKind, PolicyFinding, PolicyView

SERVICE = ("Service",)
REFUSED_NAME = FindingKind(
    code="MSH701",
    severity="error",
    title="an ExternalName Service is closed, because its name or its ports cannot be carried",
    hint="correct externalName and spec.ports, or add the name to the setting egress.allow",
    patterns=("externalName .*", "an ExternalName Service needs spec.ports: .*"),
    kinds=SERVICE,
)
REFUSED_ENDPOINT = FindingKind(
    code="MSH702",
    severity="warning",
    title="a name in an EndpointSlice is not carried, so it gets no traffic",
    hint="correct the name, or add it to the setting egress.allow",
    patterns=(r"EndpointSlice \S+: '\S*' is .*; it is skipped",),
    kinds=SERVICE,
)


class EgressPolicyChecker:
    """Names the kinds of findings; everything is found where services are built."""

    finding_kinds: Sequence[FindingKind] = (REFUSED_NAME, REFUSED_ENDPOINT)

    def check(self, view: PolicyView) -> Iterable[PolicyFinding]:
        """Find nothing else."""
        del view
        return ()
