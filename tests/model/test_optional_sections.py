"""Whatever a section's form says is accepted by a node's parent, merged, sent on, and removed again."""

import json

import pytest

from maesh_core.controller.configuration.revisions import ObjectPath, RevisionStore
from maesh_core.errors import UpdateRejectedError
from maesh_core.model.optional_sections import SECTION_FORMS, TRANSPORT
from maesh_core.proxy.node.encoded_configuration import EncodedConfiguration
from maesh_core.proxy.routing.checks import parse_wire_path

PLACES = [(form.name, noun) for form in SECTION_FORMS.values() for noun in form.nouns]


@pytest.mark.parametrize(("name", "noun"), PLACES)
def test_an_entry_travels_from_the_store_of_revisions_to_the_configuration_of_a_node(name, noun):
    store, path = RevisionStore("e", ()), ObjectPath(name, noun, "10.0.0.1")
    assert store.apply({}, entries={path: "value"})
    first = store.render(None)
    assert first is not None
    configuration = EncodedConfiguration().merge(first, None)
    assert json.loads(configuration.render())[name][noun] == {"10.0.0.1": "value"}
    since = store.revision
    assert store.apply({}, entries={path: None})
    change = store.render(since)
    assert change is not None
    merged = configuration.merge(change, since)
    assert json.loads(merged.render()).get(name, {}).get(noun, {}) == {}


@pytest.mark.parametrize(("name", "noun"), PLACES)
def test_the_path_of_an_entry_has_a_noun_of_its_section(name, noun):
    assert parse_wire_path(f"{name}/{noun}/10.0.0.1") == (name, noun, "10.0.0.1")
    with pytest.raises(UpdateRejectedError):
        parse_wire_path(f"{name}/routers/10.0.0.1")
    with pytest.raises(UpdateRejectedError):
        parse_wire_path(f"http/{noun}/10.0.0.1")


def test_a_rare_noun_is_in_the_document_only_with_an_entry():
    store = RevisionStore("e", ())
    store.apply({}, entries={ObjectPath(TRANSPORT, "nodes", "n1"): "value"})
    assert json.loads(store.render(None) or b"")[TRANSPORT] == {"nodes": {"n1": "value"}, "clients": {}}
