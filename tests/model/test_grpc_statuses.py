"""Names and errors of gRPC's status codes."""

from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS, GRPC_STATUS_NAMES


def test_statuses_have_the_numbers_of_grpc():
    numbers = {name: number for number, name in enumerate(GRPC_STATUS_NAMES)}
    assert len(numbers) == 17
    assert (numbers["OK"], numbers["PERMISSION_DENIED"], numbers["UNAVAILABLE"], numbers["UNAUTHENTICATED"]) == (
        0,
        7,
        14,
        16,
    )


def test_errors_of_a_server_are_not_those_of_its_client():
    names = {GRPC_STATUS_NAMES[number] for number in GRPC_SERVER_ERRORS}
    assert names == {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
