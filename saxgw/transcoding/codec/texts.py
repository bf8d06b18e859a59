"""The string forms of Timestamp, Duration and FieldMask in the proto3 JSON mapping, both ways.

`parse_x` returns the fields of the message and raises `Refusal`; `print_x` is its inverse.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from saxgw.transcoding.errors import Refusal, expected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.field_mask_pb2 import FieldMask
    from google.protobuf.timestamp_pb2 import Timestamp

    from saxgw.transcoding.codec.scalars import Converter

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = -62_135_596_800
"""0001-01-01T00:00:00Z."""
_LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z."""
_LONGEST_DURATION_S = 315_576_000_000
"""10,000 years, the limit that google/protobuf/duration.proto states."""
_NANOS_PER_SECOND = 1_000_000_000

_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_MASK_STEP = r"(?:[a-zA-Z][a-zA-Z0-9]*|[0-9]+|\*)"
MASK_PATH = rf"{_MASK_STEP}(?:\.{_MASK_STEP})*"
"""A path of a FieldMask in JSON. Beside fields it may go through keys of maps, and `*` for all there is (AIP-161)."""
_MASK_PATH = re.compile(MASK_PATH)
_SNAKE_PATH = re.compile(r"[a-z0-9.*]*(?:_[a-z][a-z0-9.*]*)*")


def parse_timestamp(value: Any, _levels: int) -> dict[str, Any]:  # noqa: ANN401 - a Converter
    """The fields of a Timestamp, from RFC 3339 with an upper-case T and Z, any offset and up to nine decimals."""
    found = _TIMESTAMP.fullmatch(value) if type(value) is str else None
    if found is None:
        raise expected('a time such as "2024-05-06T07:08:09.5Z"', value)
    *date, fraction, sign, hours, minutes = found.groups()
    try:
        moment = datetime(*map(int, date), tzinfo=UTC)  # type: ignore[misc,arg-type]  # six numbers, tzinfo by name
    except ValueError:
        raise expected("a time that exists", value) from None
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    if sign:
        if int(hours) > 23 or int(minutes) > 59:  # noqa: PLR2004 - hours of a day, minutes of an hour
            raise expected("a time with an offset that exists", value)
        offset_s = int(hours) * 3600 + int(minutes) * 60
        seconds += offset_s if sign == "-" else -offset_s
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise expected("a time in the years 1 to 9999", value)
    return {"seconds": seconds, "nanos": _nanos(fraction)}


def print_timestamp(message: Timestamp) -> str:
    """RFC 3339 in UTC with 0, 3, 6 or 9 decimals."""
    if not (_FIRST_SECOND <= message.seconds <= _LAST_SECOND and 0 <= message.nanos < _NANOS_PER_SECOND):
        raise Refusal("a Timestamp outside the years 1 to 9999 has no JSON form")
    moment = _EPOCH + timedelta(seconds=message.seconds)
    return f"{moment.isoformat()[:19]}{_fraction(message.nanos)}Z"


def parse_duration(value: Any, _levels: int) -> dict[str, Any]:  # noqa: ANN401 - a Converter
    """The fields of a Duration, from seconds with up to nine decimals and an `s`."""
    found = _DURATION.fullmatch(value) if type(value) is str else None
    if found is None:
        raise expected('a duration in seconds such as "1.5s"', value)
    sign, whole, fraction = found.groups()
    seconds, nanos = int(whole), _nanos(fraction)
    if seconds > _LONGEST_DURATION_S:
        raise expected("a duration of at most 10,000 years", value)
    return {"seconds": -seconds, "nanos": -nanos} if sign else {"seconds": seconds, "nanos": nanos}


def print_duration(message: Duration) -> str:
    """Seconds with 0, 3, 6 or 9 decimals and an `s`."""
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _LONGEST_DURATION_S or abs(nanos) >= _NANOS_PER_SECOND or seconds * nanos < 0:
        raise Refusal("a Duration beyond 10,000 years or with parts of unlike signs has no JSON form")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def parse_field_mask(value: Any, _levels: int) -> dict[str, Any]:  # noqa: ANN401 - a Converter
    """The fields of a FieldMask, from paths in lowerCamelCase with commas between them."""
    if type(value) is not str:
        raise expected('field paths such as "title,author.name"', value)
    paths = value.split(",") if value else []
    if not all(map(_MASK_PATH.fullmatch, paths)):
        raise expected('field paths in lowerCamelCase such as "title,author.firstName"', value)
    return {"paths": [_snake_case(path) for path in paths]}


def parse_field_mask_text(value: str, _levels: int) -> dict[str, Any]:
    """`parse_field_mask` for a query parameter, which takes the names of the .proto file as well."""
    if "_" not in value:
        return parse_field_mask(value, _levels)
    paths = value.split(",")
    if not all(_MASK_PATH.fullmatch(path.replace("_", "")) for path in paths):
        raise expected('field paths such as "title,author.first_name"', value)
    return {"paths": [_snake_case(path) for path in paths]}


def print_field_mask(message: FieldMask) -> str:
    """The paths in lowerCamelCase with commas between them."""
    for path in message.paths:
        if not _SNAKE_PATH.fullmatch(path):
            raise Refusal("a FieldMask with a path that lowerCamelCase cannot express has no JSON form")
    return ",".join(re.sub(r"_([a-z])", lambda found: found[1].upper(), path) for path in message.paths)


def _snake_case(path: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", path)


def _nanos(fraction: str | None) -> int:
    return int(fraction.ljust(9, "0")) if fraction else 0


def _fraction(nanos: int) -> str:
    if not nanos:
        return ""
    digits = f"{nanos:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f".{digits}"


TEXTS: Mapping[str, Converter] = {
    "google.protobuf.Timestamp": parse_timestamp,
    "google.protobuf.Duration": parse_duration,
    "google.protobuf.FieldMask": parse_field_mask,
}
"""The types of this module and what reads them."""

PRINTERS: Mapping[str, Callable[[Any], str]] = {
    "google.protobuf.Timestamp": print_timestamp,
    "google.protobuf.Duration": print_duration,
    "google.protobuf.FieldMask": print_field_mask,
}
"""The types of this module and what prints them."""
