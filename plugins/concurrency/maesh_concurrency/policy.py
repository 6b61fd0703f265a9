"""The kinds of findings of `maesh check` about concurrency limits."""

from collections.abc import Iterable, Sequence

from maesh_core.plugin import FindingKind, PolicyFinding, PolicyView

SERVICE = ("Service",)
_ANNOTATION = r"(?:port \S+: )?annotation \S*limit-concurrency(?:-[a-z]+)?: ['\"].*"
"""An error of one of the plugin's annotations, which shows the value."""

NEEDS_SWITCH = FindingKind(
    code="MSH812",
    severity="error",
    title="a concurrency limit needs a plugin or a setting that is off, so its Service is closed",
    hint="enable it for controllers and proxies, and for this command, or use another source",
    patterns=(rf"{_ANNOTATION} has a source of plugin .*", rf"{_ANNOTATION} needs the accounts of clients: .*"),
    kinds=SERVICE,
)
INVALID_LIMIT = FindingKind(
    code="MSH811",
    severity="error",
    title="an annotation of a concurrency limit cannot be used, so the Service is closed",
    hint="use a whole number from 1; an adaptive limit has no sources, and a minimum that is at most the limit",
    patterns=(_ANNOTATION,),
    kinds=SERVICE,
)


class ConcurrencyPolicyChecker:
    """Names the kinds of findings; everything is found where services are built."""

    finding_kinds: Sequence[FindingKind] = (NEEDS_SWITCH, INVALID_LIMIT)

    def check(self, view: PolicyView) -> Iterable[PolicyFinding]:
        """Find nothing else."""
        del view
        return ()
