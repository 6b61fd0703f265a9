"""A state answers many questions about its services, with and without access control."""

from maesh_core.controller.explaining.explanation import ExplainedRequest
from maesh_core.controller.mesh_states.clients import Account
from maesh_core.model.keys import ObjectKey

from .states import build_shop, build_split, build_state, build_target

STATE = build_state(
    build_shop(
        build_split("split", "app", app_v1=1, app_v2=3),
        build_target("one", "app-v1", ["web"]),
        build_target("two", "app-v2", ["web"]),
    )
)


def explain(client, service="shop/app", **options):
    explainer = STATE.build_explainer(ObjectKey(*service.split("/")), **options)
    return STATE.explain(ExplainedRequest(client=client, service=service), explainer)


def test_a_client_is_named_by_its_account():
    assert STATE.name_client(Account("shop", "web")) == "shop/web-0"
    assert STATE.name_client(Account("shop", "nobody")) == ""


def test_access_control_is_known_by_its_plugin():
    assert STATE.guards == {"acl"}


def test_a_question_is_answered_as_maesh_explain_does():
    assert explain("shop/web-0").outcome == "allowed"
    denied = explain("shop/batch-0")
    assert (denied.outcome, denied.status) == ("denied", 403)
    assert "existing targets: one@shop" in denied.decided_by[-2]


def test_without_access_control_the_route_is_known_all_the_same():
    found = explain("shop/batch-0", is_open=True)
    assert [(each.service, each.share) for each in found.destinations] == [("app-v1", 0.25), ("app-v2", 0.75)]
    assert found.limits == ()


def test_an_unknown_service_or_client_has_no_answer():
    assert explain("shop/nobody") is None
    assert explain("shop/web-0", "shop/nothing") is None
