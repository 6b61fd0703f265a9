"""Chooses the rule of a request, among up to some hundred, in the order that the controller has decided.

Takes the rules of a router; returns the position of the rule of a request's head. Few matches are tried one by one.
For more, dicts of exact paths and of prefixes find those whose path fits, and only these are tried. A request with a
long target or a large head, or whose path fits many matches, is parsed once instead of searched for each condition.
"""

from collections.abc import Sequence
from time import thread_time
from typing import ClassVar, Final, final

from maesh_core.model.configuration import HttpOrder, HttpRules
from maesh_core.model.matching import CompiledMatch, has_paths, is_ambiguous
from maesh_core.model.target_matching import parse_parameters
from maesh_core.proxy.http.messages.headers import split_field, split_fields
from maesh_core.proxy.http.messages.request_head import RequestHead

TRIED_LIMIT: Final = 8
"""Limit of the matches that are tried one by one: for so few, the dicts and parsing the request would be slower."""
SEARCHED_TARGET_BYTES: Final = 1024
SEARCHED_HEAD_BYTES: Final = 4096
"""Longer targets and larger heads are parsed once, instead of searched for each condition."""
PATTERNS_LIMIT: Final = 1 << 20
"""Limit of the bytes of a text times the sizes of the patterns that may read it (`CompiledMatch.pattern_size`). At the
limit, matching blocks the worker for some 5 ms, at worst for a few times that."""


@final
class CompiledOrder:
    """The matches of a router's rules, in order. It is reused as long as they do not change."""

    __slots__ = (
        "_depth",
        "_exact",
        "_has_patterns",
        "_header_names",
        "_is_parsed",
        "_matches",
        "_others",
        "_parameter_names",
        "_prefixes",
        "is_path_read",
        "order",
        "rules",
    )

    no_match: ClassVar[int] = -1
    ambiguous: ClassVar[int] = -2
    """In place of a rule's index: the path can be read in two ways, and some rule has conditions on the path."""
    too_large: ClassVar[int] = -3
    """In place of a rule's index: the patterns of the rules would take too long for this request."""

    def __init__(self, order: Sequence[HttpOrder]) -> None:
        self.order = tuple(order)
        self.rules = tuple(each.rule for each in order)
        self.is_path_read = has_paths([each.match for each in order])
        self._matches = tuple(CompiledMatch(each.match) for each in order)
        pattern_size = sum(each.pattern_size for each in self._matches)
        self._has_patterns = pattern_size > 0
        self._is_parsed = pattern_size * SEARCHED_HEAD_BYTES > PATTERNS_LIMIT
        """Whether every request is parsed, because only then the limit of patterns is checked."""
        self._exact: dict[bytes, list[int]] = {}
        self._prefixes: dict[bytes, list[int]] = {}
        self._others: list[int] = []
        """The positions of matches that no dict finds."""
        for position, each in enumerate(order):
            match = each.match
            if match.exact_path:
                self._exact.setdefault(match.exact_path.encode(), []).append(position)
            elif match.path_prefix:
                self._prefixes.setdefault(match.path_prefix.encode(), []).append(position)
            else:
                self._others.append(position)
        self._depth = max((prefix.count(b"/") for prefix in self._prefixes), default=0)
        self._header_names = frozenset(each.name for match in self._matches for each in match.headers)
        self._parameter_names = frozenset(
            name for match in self._matches if match.target is not None for name in match.target.names
        )

    def __repr__(self) -> str:
        return f"<CompiledOrder of {len(self._matches)} matches>"

    def find(self, head: RequestHead) -> int:
        """Return the index of the rule of a request, `no_match`, `ambiguous` or `too_large`."""
        if head.chosen_by is self:
            return head.chosen
        head.chosen_by, head.chosen = self, self._find(head)
        return head.chosen

    def _find(self, head: RequestHead) -> int:
        target = head.target
        if self.is_path_read and is_ambiguous(target):
            return self.ambiguous
        if self._is_parsed or len(target) > SEARCHED_TARGET_BYTES or len(head.head) > SEARCHED_HEAD_BYTES:
            return self._find_parsed(head)
        if len(self._matches) <= TRIED_LIMIT:
            for position, match in enumerate(self._matches):
                if match.is_always or match.holds(head):
                    return self.rules[position]
            return self.no_match
        candidates = self._list_candidates(target.partition(b"?")[0])
        if len(candidates) > TRIED_LIMIT:
            return self._find_parsed(head)
        for position in candidates:
            match = self._matches[position]
            if match.is_always or match.holds(head):
                return self.rules[position]
        return self.no_match

    def _find_parsed(self, head: RequestHead) -> int:
        """Parse a request, and find its rule. Measure the CPU time of this thread, because that may take long.

        Elapsed time would also count pauses of the whole process, for which no client must rest.
        """
        started = thread_time()
        found = self._match_parsed(head)
        head.matching_s = thread_time() - started
        return found

    def _match_parsed(self, head: RequestHead) -> int:
        path, _, query = head.target.partition(b"?")
        parameters = parse_parameters(query, self._parameter_names) if self._parameter_names else {}
        headers = self._parse_headers(head) if self._header_names else {}
        candidates = self._list_candidates(path)
        if self._has_patterns and self._is_too_large(head, candidates, headers):
            return self.too_large
        for position in candidates:
            if self._matches[position].holds_parsed(head.method, path, parameters, headers):
                return self.rules[position]
        return self.no_match

    def _is_too_large(self, head: RequestHead, candidates: list[int], headers: dict[bytes, list[bytes]]) -> bool:
        """Whether the patterns of the candidates would take too long for the longest text that they may read."""
        longest = max([len(head.target), *(sum(map(len, values)) for values in headers.values())])
        return longest * sum(self._matches[position].pattern_size for position in candidates) > PATTERNS_LIMIT

    def _list_candidates(self, path: bytes) -> list[int]:
        """List the positions of the matches whose exact path or prefix fits, and of all others, in order."""
        found = self._exact.get(path, []) + self._others
        end = 0
        for _ in range(self._depth):
            end = path.find(b"/", end + 1)
            found += self._prefixes.get(path if end < 0 else path[:end], [])
            if end < 0:
                break
        return sorted(found)

    def _parse_headers(self, head: RequestHead) -> dict[bytes, list[bytes]]:
        """Read the values of all fields that rules read, in one pass over the head."""
        found: dict[bytes, list[bytes]] = {}
        for line in split_fields(head.head, without=()):
            name, value = split_field(line)
            name = name.lower()
            if name in self._header_names and name not in head.dropped:
                found.setdefault(name, []).append(value)
        client_headers = head.client_headers
        for name in self._header_names & head.dropped:
            found[name] = client_headers.get_all(name)
        return found


def compile_order(rules: HttpRules, former: CompiledOrder | None) -> CompiledOrder:
    """Compile the matches of rules, or return the former ones if they are equal: compiling takes up to 15 ms."""
    return former if former is not None and former.order == rules.order else CompiledOrder(rules.order)
