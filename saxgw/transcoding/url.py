"""Percent-encoding of paths and queries (RFC 3986), strictly: what is malformed is refused, not passed on."""

from __future__ import annotations

import re
from urllib.parse import quote as percent_encode

from saxgw.transcoding.errors import InvalidInput, Violation, quote

_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH = re.compile(r"(%2[Ff])")
_LITERAL_CHARACTERS = "-._~!$&'()+,;=:@"


def escape(text: str) -> str:
    """`text` as a literal segment of a template."""
    return percent_encode(text, safe=_LITERAL_CHARACTERS)


def unescape(text: str) -> str:
    """`text` with its percent-encoding undone; raises InvalidInput for bad escapes and for what is not UTF-8."""
    if "%" not in text:
        return text
    if bad := _BAD_ESCAPE.search(text):
        raise _invalid(f"the URL has a percent sign without two hex digits, in {quote(text[bad.start() :])}")
    try:
        return _ESCAPES.sub(_decode, text)
    except UnicodeDecodeError:
        raise _invalid(f"the URL has percent-encoded bytes that are not UTF-8, in {quote(text)}") from None


def unescape_but_slashes(text: str) -> str:
    """`unescape` for variables of many segments, where an encoded slash stays as it is (http.proto, "reserved")."""
    if "%" not in text:
        return text
    return "".join(part if at % 2 else unescape(part) for at, part in enumerate(_ENCODED_SLASH.split(text)))


def parse_query(query: str) -> list[tuple[str, str]]:
    """The names and values of a query, in their order. A plus is a space, a name without `=` has an empty value."""
    check_characters(query)
    pairs = []
    for part in query.split("&"):
        if part:
            name, _, value = part.replace("+", " ").partition("=")
            pairs.append((unescape(name), unescape(value)))
    return pairs


def check_characters(text: str) -> None:
    """Raises InvalidInput if the raw bytes of the URL, which `text` was made of, are not UTF-8."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _invalid(f"the URL is not UTF-8, in {quote(text)}") from None


def _decode(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("%", "")).decode()


def _invalid(description: str) -> InvalidInput:
    return InvalidInput(Violation("", description))
