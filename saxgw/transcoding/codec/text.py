"""From the bytes of a body to a JSON value, and no further: RFC 8259, without what it leaves to the reader's taste.

orjson reads; it refuses NaN and infinities, lone surrogates, invalid UTF-8, a byte order mark and numbers beyond the
range of a double by itself. Of several members with one name it silently keeps the last, so that is looked for here.
"""

from __future__ import annotations

import json
from math import isinf
from typing import Any

import orjson

from saxgw.transcoding.codec.scalars import NUMBER
from saxgw.transcoding.errors import Refusal, quote, shorten, too_deep

_BACKSLASH = ord("\\")
_EXCERPT_CHARACTERS = 20


def load(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value in `data`; raises `Refusal` for anything but one JSON value with unique names in its objects."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _not_json(data, error) from None
    try:
        written = orjson.dumps(value)
    except TypeError:  # orjson writes 254 levels, though it reads 1024
        raise too_deep() from None
    # A text that comes out as it went in has lost nothing. In others each member of an object has one colon, and every
    # other colon is inside of a string: there are as many, unless a member was dropped or a colon was an escape.
    if written != data and (data.count(b":") != written.count(b":") or (_BACKSLASH in data and b"\\u003" in data)):
        _refuse_duplicates(data)
    return value


def _refuse_duplicates(data: bytes) -> None:
    def check(members: list[tuple[str, Any]]) -> None:
        names: set[str] = set()
        for name, _ in members:
            if name in names:
                raise Refusal(f"the name {quote(name)} is there twice in one object")
            names.add(name)

    # Numbers are no matter here, and Python refuses to make integers of very many digits.
    json.loads(data, object_pairs_hook=check, parse_int=str, parse_float=str)


def _not_json(data: bytes, error: orjson.JSONDecodeError) -> Refusal:
    if error.msg.startswith("depth limit"):  # 1024, as orjson reads
        return too_deep()
    try:
        text = data.decode()
    except UnicodeDecodeError as invalid:
        return Refusal(f"expected JSON, got bytes that are not UTF-8, from byte {invalid.start}")
    rest = text[error.pos :]
    where = f"at line {error.lineno}, column {error.colno}"
    if not text.strip():
        reason = ", got nothing"
    elif text.startswith("\ufeff"):
        reason = ", got a byte order mark before it; send UTF-8 without one"
    elif rest.startswith(("NaN", "Infinity", "-Infinity")):
        reason = ', which writes "NaN", "Infinity" and "-Infinity" as strings'
    elif (number := NUMBER.match(rest)) and isinf(float(number[0])):
        reason = f" with numbers that 64 bits can hold, got {shorten(number[0])}"
    elif not rest.strip():
        reason = f", but it ends too early, {where}"
    else:
        reason = f", which ends {where} where it goes on with {shorten(rest[:_EXCERPT_CHARACTERS])}"
    return Refusal(f"expected JSON{reason}")
