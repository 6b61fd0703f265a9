"""Pods of several accounts, and a middleware that lets in the pods of one account."""

from maesh_core.plugin_system.interfaces import Verdict

from .test_pod_lookup import build_pod

PODS = (
    build_pod("client", "10.0.0.1", "fd00::1"),
    build_pod("other", "10.0.0.2", account="other"),
    build_pod("third", "fd00::1", account="third"),
)


class Guard:
    """Lets in pods of one account alone, and keeps what it was asked."""

    kind = "guard"

    def __init__(self):
        self.asked = []

    def explain(self, settings, question):
        self.asked.append(question)
        is_admitted = {pod.account for pod in question.client_pods} == {settings["account"]}
        return Verdict(is_admitted=is_admitted, reasons=("judged",))
