"""Path templates: the grammar of google/api/http.proto, "Path template syntax".

    Template = "/" Segments [ Verb ] ;
    Segments = Segment { "/" Segment } ;
    Segment  = "*" | "**" | LITERAL | Variable ;
    Variable = "{" FieldPath [ "=" Segments ] "}" ;
    FieldPath = IDENT { "." IDENT } ;
    Verb     = ":" LITERAL ;

A template without any segment, "/", is taken as well: the root of a server has no other name.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from saxgw.transcoding.errors import InvalidInput, InvalidRule, quote
from saxgw.transcoding.url import escape, unescape

_FIELD_PATH = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
# What RFC 3986 allows in a path segment, but for the asterisk, and what IRIs add to that.
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=:@]|[^\x00-\x7f]|%[0-9A-Fa-f]{2})+")
_VARIABLE = re.compile(rf"\{{(?P<field>{_FIELD_PATH})(?:=(?P<segments>[^{{}}]+))?\}}")
_SLASH = re.compile(r"/(?![^{}]*\})")
"""A slash outside of braces."""


class Wildcard(Enum):
    """`*` or `**` as a segment."""

    ONE = "*"
    """Matches one segment."""

    REST = "**"
    """Matches zero or more segments. Stands last."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A field that is bound to a part of the path."""

    field_path: str
    """The field's name, with dots where it is nested."""

    start: int
    """The index of the first segment that belongs to it."""

    end: int | None
    """The index after its last segment; None where `**` takes all that are left."""

    @property
    def is_multi_segment(self) -> bool:
        """Whether its value may contain slashes, so that an encoded slash must stay encoded to be told apart."""
        return self.end is None or self.end - self.start > 1


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed path template. `str()` is its normal form, in which `{x=*}` is `{x}`."""

    segments: tuple[str | Wildcard, ...]
    """Wildcards, and literals with nothing percent-encoded."""

    variables: tuple[Variable, ...]
    """In the order of their segments, which do not overlap."""

    verb: str
    """What follows the colon after the last segment; empty if there is none."""

    def __str__(self) -> str:
        printed = [part.value if isinstance(part, Wildcard) else escape(part) for part in self.segments]
        for variable in reversed(self.variables):
            pattern = "/".join(printed[variable.start : variable.end])
            end = len(printed) if variable.end is None else variable.end
            equals = "" if pattern == "*" else f"={pattern}"
            printed[variable.start : end] = [f"{{{variable.field_path}{equals}}}"]
        return f"/{'/'.join(printed)}{f':{escape(self.verb)}' if self.verb else ''}"


def parse_template(text: str) -> Template:
    """The template in `text`; raises InvalidRule that says what is wrong with it."""
    if not text.startswith("/"):
        raise _invalid(text, "it does not start with a slash")
    if text == "/":
        return Template((), (), "")
    *parts, last = _SLASH.split(text[1:])
    last, colon, verb = _split_verb(last)
    if colon:
        verb = _literal(text, verb, "verb")
    segments: list[str | Wildcard] = []
    variables: list[Variable] = []
    for part in [*parts, last]:
        if not part.startswith("{"):
            segments.append(_segment(text, part))
            continue
        found = _VARIABLE.fullmatch(part)
        if found is None:
            raise _invalid(text, f"{quote(part)} is no variable such as {{name}} or {{name=shelves/*}}")
        start = len(segments)
        segments += [_segment(text, inner) for inner in (found["segments"] or "*").split("/")]
        end = None if segments[-1] is Wildcard.REST else len(segments)
        variables.append(Variable(found["field"], start, end))
    if Wildcard.REST in segments[:-1]:
        raise _invalid(text, "** stands where it is not the last segment")
    names = [variable.field_path for variable in variables]
    if len(set(names)) != len(names):
        raise _invalid(text, "it binds one field twice")
    return Template(tuple(segments), tuple(variables), verb)


def _split_verb(last: str) -> tuple[str, str, str]:
    """The last segment, the colon and the verb; a colon inside of a variable does not count."""
    variable, brace, rest = last.rpartition("}")
    segment, colon, verb = rest.partition(":")
    return variable + brace + segment, colon, verb


def _segment(template: str, text: str) -> str | Wildcard:
    if text in ("*", "**"):
        return Wildcard(text)
    if not text:
        raise _invalid(template, "a segment is empty")
    return _literal(template, text, "segment")


def _literal(template: str, text: str, what: str) -> str:
    if _LITERAL.fullmatch(text):
        with suppress(InvalidInput):  # percent-encoded bytes that are not UTF-8
            return unescape(text)
    raise _invalid(template, f"{quote(text)} is no {what}")


def _invalid(template: str, reason: str) -> InvalidRule:
    return InvalidRule(f"the path template {quote(template)} is invalid: {reason}")
