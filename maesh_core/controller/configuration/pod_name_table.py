"""The section `pods` of the configuration: the names of pods by address, with their changes."""

from maesh_core.controller.configuration.address_entries import AddressEntries
from maesh_core.model.optional_sections import ADDRESSES, PODS
from maesh_core.model.pod_names import ADDRESSES_LIMIT, is_pod_name


def build_pod_names(limit: int = ADDRESSES_LIMIT) -> AddressEntries:
    """Build the entries, without any: their values are `namespace/name`, and one that no pod can have is not sent."""
    return AddressEntries(PODS, ADDRESSES, is_valid=is_pod_name, what="names", limit=limit)
