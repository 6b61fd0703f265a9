"""Finds texts that a pattern matches: short ones, one for each alternative, with and without each optional part.

Takes a pattern in the syntax of RE2. Python's parser reads it; a sample counts only if RE2 matches it, so that a
difference between the two syntaxes loses samples, and never yields wrong ones. The number of samples is limited.
"""

import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from maesh_core.model.patterns import compile_pattern, is_literal

SAMPLES_LIMIT = 24
REPEATED_LIMIT = 64
"""The longest repetition that is written out."""
_CANDIDATES = "a1A-_.0zZ9/x~"
"""Candidates for the sample of a character class: its sample is the first of them that is in the class."""
_parser: Any = importlib.import_module("re._parser")
_constants: Any = importlib.import_module("re._constants")


def sample_pattern(pattern: str) -> list[str]:
    """Find texts that begin with a match of a pattern; none if the pattern is invalid, or too unusual."""
    if is_literal(pattern):
        return [pattern]
    try:
        matches: Callable[[bytes], object] = compile_pattern(pattern).match
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of classes that RE2 reads in another way
            tree = _parser.parse(pattern)
        found = list(islice(dict.fromkeys(_sample_sequence(list(tree))), SAMPLES_LIMIT))
    except (ValueError, RecursionError, OverflowError, _constants.error):
        return []
    return [text for text in found if matches(text.encode())]


def _sample_sequence(items: Sequence[Any]) -> list[str]:
    """Sample a sequence: its items' first samples, and each other sample of one item beside the first ones."""
    samples = [_sample_item(item) for item in items]
    if not all(samples):
        return []
    firsts = [each[0] for each in samples]
    found = ["".join(firsts)]
    for place, each in enumerate(samples):
        before, after = "".join(firsts[:place]), "".join(firsts[place + 1 :])
        found += [before + other + after for other in each[1:]]
    return list(dict.fromkeys(found))[:SAMPLES_LIMIT]


def _sample_item(item: tuple[Any, Any]) -> list[str]:
    kind, value = str(item[0]), item[1]
    if kind == "LITERAL":
        return [chr(value)]
    if kind == "ANY":
        return ["x"]
    if kind == "AT":
        return [""]
    if kind in ("IN", "NOT_LITERAL"):
        return _sample_class(value if kind == "IN" else [(_constants.NEGATE, None), (_constants.LITERAL, value)])
    if kind == "SUBPATTERN":
        return _sample_sequence(list(value[3]))
    if kind == "BRANCH":
        return _interleave([_sample_sequence(list(branch)) for branch in value[1]])
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        return _sample_repeat(int(value[0]), int(value[1]), list(value[2]))
    return []  # look-around and back references, which RE2 does not have


def _sample_repeat(least: int, most: int, items: Sequence[Any]) -> list[str]:
    inner = _sample_sequence(items)
    if least > REPEATED_LIMIT:
        return []
    if not inner:
        return [""] if least == 0 else []
    longest = most if most <= REPEATED_LIMIT else least + 1
    counts = [count for count in dict.fromkeys((max(least, 1), least, least + 1, longest)) if count <= most]
    found = [inner[0] * count for count in counts]
    found += [other * max(least, 1) for other in inner[1:] if most >= 1]
    return list(dict.fromkeys(found))[:SAMPLES_LIMIT]


def _sample_class(members: Sequence[tuple[Any, Any]]) -> list[str]:
    """Sample a class by characters of each member, and a negated one by the simplest character that is in it."""
    kinds = [(str(kind), value) for kind, value in members]
    if kinds and kinds[0][0] == "NEGATE":
        return [each for each in _CANDIDATES if not any(_is_in(each, kind, value) for kind, value in kinds[1:])][:1]
    found = []
    for kind, value in kinds:
        candidates = (
            [chr(value)] if kind == "LITERAL" else [*_CANDIDATES, *([chr(value[0])] if kind == "RANGE" else [])]
        )
        found += [each for each in candidates if _is_in(each, kind, value)][:1]
        found += [chr(end) for end in value if 0x21 <= end <= 0x7E] if kind == "RANGE" else []
    return list(dict.fromkeys(found))[:SAMPLES_LIMIT]


def _is_in(character: str, kind: str, value: Any) -> bool:
    if kind == "LITERAL":
        return bool(ord(character) == value)
    if kind == "RANGE":
        return bool(value[0] <= ord(character) <= value[1])
    if kind == "CATEGORY":
        name = str(value).removeprefix("CATEGORY_")
        tests = {"DIGIT": character.isdigit(), "WORD": character.isalnum() or character == "_", "SPACE": False}
        is_in = tests.get(name.removeprefix("NOT_"), False)
        return is_in is not name.startswith("NOT_")
    return False


def _interleave(lists: Iterable[Sequence[str]]) -> list[str]:
    """Join lists so that the first sample of each comes before the second ones."""
    return list(islice(_take_turns([each for each in lists if each]), SAMPLES_LIMIT))


def _take_turns(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    for place in range(max(map(len, lists), default=0)):
        yield from (each[place] for each in lists if place < len(each))
