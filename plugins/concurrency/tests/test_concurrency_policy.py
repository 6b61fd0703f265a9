"""Which code of `maesh check` each error of a concurrency limit has."""

import pytest
from maesh_concurrency.policy import ConcurrencyPolicyChecker

from maesh_core.controller.checking.catalogue import FindingCatalogue


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("annotation limit-concurrency: 'many' is not a whole number", "MSH811"),
        ("port 80: annotation limit-concurrency-min: '5' is above limit-concurrency", "MSH811"),
        ("annotation limit-concurrency-source: 'claim:a' has a source of plugin jwt, which is off; --jwt", "MSH812"),
        ("annotation limit-concurrency-source: 'account' needs the accounts of clients: --set x=true", "MSH812"),
        ("annotation limit-concurrency: no enabled plugin reads it", "MSH202"),
        ("annotation ratelimit-average: 'many' is not a whole number", "MSH201"),
    ],
)
def test_an_error_has_the_code_of_its_cause(text: str, code: str) -> None:
    catalogue = FindingCatalogue([ConcurrencyPolicyChecker()])
    assert catalogue.classify("Service", text, is_error=True).code == code
