"""A file of tokens, and which node each token proves."""

import pytest
from maesh_mtls.controller.proofs.node_tokens import NodeTokens, ProofRefusedError, parse_tokens

from maesh_core.plugin import ConfigurationError

A, B, C = "token-of-node-a-1", "token-of-node-b-1", "token-of-node-a-2"


@pytest.fixture
def write(tmp_path):
    def write_tokens(text, mode=0o600):
        path = tmp_path / "tokens"
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return write_tokens


async def refuse(tokens, token, node):
    with pytest.raises(ProofRefusedError) as caught:
        await tokens.check(token, node)
    assert token not in str(caught.value)
    return caught.value.status, caught.value.reason


async def test_a_token_proves_its_node(write):
    tokens = NodeTokens(write(f"# nodes\n\na {A}\n  b\t{B}\na {C}\n"))
    await tokens.check(A, "a")
    await tokens.check(C, "a")
    await tokens.check(B, "b")


async def test_a_token_of_another_node_is_refused(write):
    assert await refuse(NodeTokens(write(f"a {A}\nb {B}\n")), B, "a") == (403, "node")


@pytest.mark.parametrize("token", ["", "x", A[:-1], f"{A} ", A.upper(), "\ud800"])
async def test_an_unknown_token_is_refused(write, token):
    tokens = NodeTokens(write(f"a {A}\n"))
    with pytest.raises(ProofRefusedError) as caught:
        await tokens.check(token, "a")
    assert (caught.value.status, caught.value.reason) == (401, "token")


async def test_a_removed_token_is_refused_at_once(write):
    tokens = NodeTokens(write(f"a {A}\n"))
    await tokens.check(A, "a")
    write(f"a {C}\n")
    assert await refuse(tokens, A, "a") == (401, "token")
    await tokens.check(C, "a")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
async def test_a_file_that_others_can_use_proves_nothing(write, mode):
    tokens = NodeTokens(write(f"a {A}\n"))
    await tokens.check(A, "a")
    path = write(f"a {A}\n", mode)
    assert await refuse(tokens, A, "a") == (503, "tokens")
    with pytest.raises(ConfigurationError, match="chmod 600"):
        tokens.load()
    path.chmod(0o600)
    await tokens.check(A, "a")


async def test_a_missing_file_proves_nothing(write):
    path = write(f"a {A}\n")
    tokens = NodeTokens(path)
    await tokens.check(A, "a")
    path.unlink()
    assert await refuse(tokens, A, "a") == (503, "tokens")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"a {A}\nb\n", "line 2 is not NODE TOKEN"),
        (f"a {A} x\n", "line 1 is not NODE TOKEN"),
        (f"A {A}\n", "line 1 is not NODE TOKEN"),
        ("a short\n", "line 1 does not have 16 to 8192"),
        (f"a {A}\nb {A}\n", "line 2 is already that of another node"),
    ],
)
async def test_a_wrong_line_is_named_without_its_token(write, text, problem):
    tokens = NodeTokens(write(text))
    with pytest.raises(ConfigurationError, match=problem) as caught:
        tokens.load()
    assert A not in str(caught.value)
    assert await refuse(tokens, A, "a") == (503, "tokens")


def test_a_file_without_lines_proves_nothing():
    assert parse_tokens(b"\n# a token\n") == {}
