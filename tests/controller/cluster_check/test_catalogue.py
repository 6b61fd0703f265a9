from pathlib import Path

from maesh_core.controller.cluster_check.catalogue import CATALOGUE
from maesh_core.controller.cluster_check.outcomes import PAGE

ROOT = Path(__file__).resolve().parents[3]
CONDITIONS = ["access-enforced", "conditions-checked", "limit-stores", "proxy-names"]
"""What the plugins of this project and the core say about the mesh (`MeshCondition`)."""
CHECKS = [check for checks in CATALOGUE.values() for check in checks]


def test_every_check_has_an_id_of_its_own_and_a_hint_in_sentences():
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert all(check.hint.endswith(".") and check.title[0].islower() for check in CHECKS)


def test_the_page_describes_exactly_these_checks():
    text = (ROOT / PAGE).read_text()
    anchors = [part.partition('"')[0] for part in text.split('<a id="')[1:]]
    assert sorted(anchors) == sorted([*CONDITIONS, *(check.id for check in CHECKS)])
    assert [name for name in CATALOGUE if f"## {name[0].upper()}{name[1:]}\n" not in text] == []
