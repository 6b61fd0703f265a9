"""The half in the controller: which names the configuration may have."""

from collections.abc import Sequence

from maesh_core.plugin import ObjectKey, OutsideRules, PolicyChecker, hookimpl
from maesh_egress import EgressSettings
from maesh_egress.allowed_names import AllowedNames


class ControllerHalf:
    """The hooks of the controller."""

    def __init__(self, settings: EgressSettings) -> None:
        self._rules = EgressRules(settings)

    @hookimpl
    def maesh_outside_rules(self) -> Sequence[OutsideRules]:
        """Return the rules of the settings."""
        return [self._rules]

    @hookimpl
    def maesh_policy_checkers(self) -> Sequence[PolicyChecker]:
        """Return the kinds of findings of `maesh check`."""
        from maesh_egress.policy import EgressPolicyChecker  # only for this command

        return [EgressPolicyChecker()]


class EgressRules:
    """Allows the names of the setting `allow`: who can write a Service must not make proxies connect anywhere."""

    name = "egress"

    def __init__(self, settings: EgressSettings) -> None:
        self._allowed = AllowedNames(settings.allow)

    def __repr__(self) -> str:
        """Show the allowed names."""
        return f"<EgressRules {self._allowed!r}>"

    def find_problem(self, service: ObjectKey, host: str) -> str | None:
        """Explain why a service must not send to a name; None if it may."""
        del service
        return None if host in self._allowed else "is not allowed by the setting egress.allow"
