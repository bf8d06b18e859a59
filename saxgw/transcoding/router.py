"""From an HTTP method and a path to a rule, along a tree of segments.

A request goes to the most specific of the rules that have both its method and its path: the one with the longest verb,
then, segment by segment from the left, literals before `*` before `**`. What a lookup costs depends on the path and not
on the number of rules. Paths of nothing but literals are looked up as they are, before they are taken apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from saxgw.transcoding.template import Template, Wildcard
from saxgw.transcoding.url import check_characters, escape, unescape, unescape_but_slashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

T = TypeVar("T")

ANY_METHOD = "*"
"""The HTTP method of rules for all methods (google.api.HttpRule.custom)."""

_COMMON_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class Router(Generic[T]):
    """Rules of any kind `T`, found by the requests that they are for."""

    def __init__(self) -> None:
        self._root = _Node[T]()
        self._literal: dict[str, Mapping[str, T]] = {}
        """Rules by HTTP method, by raw paths for which nothing can be more specific."""
        self._longest_verb = 0
        """In characters of a raw path, all of them percent-encoded."""

    def add(self, http_method: str, template: Template, rule: T) -> T | None:
        """Adds a rule, or returns the one that is there already for just these requests."""
        node = self._root
        for segment in template.segments:
            node = node.child(segment)
        self._longest_verb = max(self._longest_verb, 3 * len(template.verb.encode()))
        rules = node.rules.setdefault(template.verb, {})
        path = _plain_path(template)
        if path is not None:
            self._literal[path] = rules
        there = rules.setdefault(http_method, rule)
        return None if there is rule else there

    def find(self, http_method: str, raw_path: str) -> tuple[T, Sequence[str]] | None:
        """The rule for a request and the path's raw segments without the verb; raises InvalidInput for bad escapes.

        Raw segments are as on the wire, and `capture` takes from them what variables are bound to.
        """
        literal = self._literal.get(raw_path)
        if literal is not None:
            rule = _for_method(literal, http_method)
            if rule is not None:
                return rule, raw_path[1:].split("/")
        for rules, segments in self._matches(raw_path):
            rule = _for_method(rules, http_method)
            if rule is not None:
                return rule, segments
        return None

    def methods(self, raw_path: str) -> tuple[str, ...]:
        """All HTTP methods that a path takes, sorted; HEAD is among them where GET is."""
        found: set[str] = set()
        for rules, _ in self._matches(raw_path):
            found.update(rules)
        if ANY_METHOD in found:
            found.remove(ANY_METHOD)
            found.update(_COMMON_METHODS)
        if "GET" in found:
            found.add("HEAD")
        return tuple(sorted(found))

    def _matches(self, raw_path: str) -> Iterator[tuple[Mapping[str, T], Sequence[str]]]:
        """The rules by HTTP method of all templates that match the path, most specific first."""
        if not raw_path.startswith("/"):
            return
        check_characters(raw_path)
        segments = raw_path[1:].split("/")
        last = segments[-1]
        # The leftmost colon starts the longest verb, but not one that is longer than all known ones, nor an empty one.
        colon, end = max(0, len(last) - 1 - self._longest_verb) - 1, len(last) - 1
        while (colon := last.find(":", colon + 1, end)) >= 0:
            yield from self._walk([*segments[:-1], last[:colon]], unescape(last[colon + 1 :]))
        yield from self._walk(segments, "")

    def _walk(self, segments: Sequence[str], verb: str) -> Iterator[tuple[Mapping[str, T], Sequence[str]]]:
        if segments == [""]:  # the path is "/"
            segments = []
        found: list[Mapping[str, T]] = []
        self._root.collect([unescape(segment) for segment in segments], 0, verb, found)
        for rules in found:
            yield rules, segments


class _Node(Generic[T]):
    """What may follow after the segments that lead here, and the rules that end here."""

    __slots__ = ("literals", "one", "rest", "rules")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.one: _Node[T] | None = None
        self.rest: _Node[T] | None = None
        self.rules: dict[str, dict[str, T]] = {}
        """By verb, then by HTTP method."""

    def child(self, segment: str | Wildcard) -> _Node[T]:
        """The node behind a segment of a template, which is made if it is not there."""
        if segment is Wildcard.ONE:
            self.one = self.one or _Node()
            return self.one
        if segment is Wildcard.REST:
            self.rest = self.rest or _Node()
            return self.rest
        return self.literals.setdefault(segment, _Node())

    def collect(self, segments: Sequence[str], at: int, verb: str, found: list[Mapping[str, T]]) -> None:
        """Appends the rules for the path `segments[at:]`, most specific first."""
        if at == len(segments):
            if verb in self.rules:
                found.append(self.rules[verb])
        elif segments[at]:
            literal = self.literals.get(segments[at])
            if literal is not None:
                literal.collect(segments, at + 1, verb, found)
            if self.one is not None:
                self.one.collect(segments, at + 1, verb, found)
        if self.rest is not None and verb in self.rest.rules and all(segments[at:]):
            found.append(self.rest.rules[verb])


def capture(template: Template, segments: Sequence[str]) -> dict[str, str]:
    """What the variables of a template are bound to in the raw segments of a path that it matches.

    A variable of one segment is decoded; one of more keeps encoded slashes (google/api/http.proto, "If a variable
    contains multiple path segments").
    """
    bound = {}
    for variable in template.variables:
        text = "/".join(segments[variable.start : variable.end])
        bound[variable.field_path] = unescape_but_slashes(text) if variable.is_multi_segment else unescape(text)
    return bound


def _plain_path(template: Template) -> str | None:
    """The path of a template of literals, if none of it is percent-encoded and no verb could start inside of it."""
    literals = [segment for segment in template.segments if isinstance(segment, str)]
    path = "/" + "/".join(map(escape, literals))
    is_plain = literals and len(literals) == len(template.segments) and not template.verb
    return path if is_plain and "%" not in path and ":" not in path else None


def _for_method(rules: Mapping[str, T], http_method: str) -> T | None:
    rule = rules.get(http_method)
    if rule is None and http_method == "HEAD":
        rule = rules.get("GET")
    return rules.get(ANY_METHOD) if rule is None else rule
