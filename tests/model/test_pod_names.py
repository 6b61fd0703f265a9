"""Names of pods, as the configuration has them."""

import pytest

from maesh_core.model.pod_names import is_pod_name


@pytest.mark.parametrize("name", ["n/p", "kube-system/coredns-5d78c9869d-x2x9z", "a/my.pod", f"{'a' * 63}/{'b' * 253}"])
def test_a_namespace_and_a_name_are_the_name_of_a_pod(name):
    assert is_pod_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "p", "/p", "n/", "n/p/q", "N/p", "n/P", "n/p\n", "n/-p", "n./p", 'n/p"', "a" * 64 + "/p", "n/" + "b" * 254],
)
def test_text_that_is_no_namespace_and_name_is_no_name_of_a_pod(name):
    assert not is_pod_name(name)
