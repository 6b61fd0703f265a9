"""Failures of middlewares are counted by type, and the first of each type is logged."""

from maesh_core.proxy.middleware.failures import MiddlewareFailures


class Broken:
    """A middleware whose methods raise."""

    def on_request(self, exchange):
        raise ValueError("broken")


def test_a_method_and_its_middleware_count_as_one_type_and_only_the_first_failure_is_logged(caplog):
    failures, middleware = MiddlewareFailures(), Broken()
    failures.note(middleware.on_request, ValueError("first"), "access is denied")
    failures.note(middleware, ValueError("second"), "a delivery is denied")
    assert failures.collect().samples == [((f"{__name__}.Broken",), 2)]
    (record,) = caplog.records
    assert record.getMessage() == "middleware Broken failed; access is denied"
    assert "ValueError: first" in caplog.text
