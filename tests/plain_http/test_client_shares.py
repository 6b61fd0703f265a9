from maesh_core.plain_http.client_shares import ClientShares


def test_one_client_leaves_the_rest_to_others():
    shares = ClientShares(limit=3, client_limit=2)
    assert [shares.acquire("a") for _ in range(3)] == [True, True, False]
    assert shares.acquire("b")
    assert not shares.acquire("c")
    assert shares.total == 3


def test_what_ends_makes_room_again():
    shares = ClientShares(limit=2, client_limit=1)
    assert shares.acquire("a")
    assert not shares.acquire("a")
    shares.release("a")
    assert shares.total == 0
    assert shares.acquire("a")
    assert repr(shares) == "<ClientShares 1 of 2, 1 clients>"
