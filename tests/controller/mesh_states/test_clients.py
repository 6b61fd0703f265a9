"""Each service account has a client pod: its own, or an added one that no service selects."""

from maesh_core.controller.mesh_states.clients import (
    CLIENT_POD,
    Account,
    add_clients,
    find_client_pod,
    list_accounts,
    list_named_accounts,
)
from maesh_core.model.keys import ObjectKey

from .states import build_pod, build_shop, build_state, build_target


def test_the_pod_of_an_account_is_found_if_its_address_identifies_it():
    engine = build_state(build_shop(build_pod("shared", "10.0.0.2", "other"))).engine
    assert find_client_pod(engine, Account("shop", "web")) == ObjectKey("shop", "web-0")
    assert find_client_pod(engine, Account("shop", "batch")) is None
    assert find_client_pod(engine, Account("shop", "nobody")) is None


def test_ended_pods_and_those_on_the_network_of_a_node_identify_nobody():
    pods = [build_pod("ended", "10.0.0.1", "one", phase="Failed"), build_pod("node", "10.0.0.2", "two")]
    pods[1]["spec"]["hostNetwork"] = True
    engine = build_state(pods).engine
    assert list_accounts(engine) == {Account("shop", "two")}
    assert find_client_pod(engine, Account("shop", "one")) is None
    assert find_client_pod(engine, Account("shop", "two")) is None


def test_a_pod_is_added_for_an_account_without_one_and_rules_apply_to_it():
    state = build_state(build_shop(build_target("one", "app", ["new"])))
    account = Account("shop", "new")
    assert list_named_accounts(state.topology) == {account}
    add_clients(state.engine, [account, Account("shop", "web")])
    assert find_client_pod(state.engine, account) == ObjectKey("shop", f"{CLIENT_POD}-new")
    assert find_client_pod(state.engine, Account("shop", "web")) == ObjectKey("shop", "web-0")
    add_clients(state.engine, [account])
    assert len([each for each in list_accounts(state.engine) if each == account]) == 1


def test_added_pods_have_addresses_that_no_other_pod_has():
    state = build_state(build_shop())
    add_clients(state.engine, [Account("shop", "one")])
    add_clients(state.engine, [Account("shop", "two")])
    found = {find_client_pod(state.engine, Account("shop", each)) for each in ("one", "two")}
    assert None not in found
    assert len(found) == 2
