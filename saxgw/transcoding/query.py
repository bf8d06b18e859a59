"""Query parameters: their names, which lead to fields, and their values, which are text.

http.proto, "Rules for HTTP mapping": the name of a parameter is the field's path in the request message, and a repeated
field may be given several times. Beyond that, `labels[key]` is an entry of a map.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saxgw.transcoding.codec.fields import is_map, is_plain_message, is_special, is_wrapper, map_fields, message_of
from saxgw.transcoding.codec.scalars import Converter, text_converter
from saxgw.transcoding.codec.texts import TEXTS, parse_field_mask_text
from saxgw.transcoding.errors import Refusal, did_you_mean, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import Descriptor, FieldDescriptor

_NAME = re.compile(r"([^\[\]]*)(?:\[(.*)\])?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a value of the path or the query goes."""

    fields: tuple[FieldDescriptor, ...]
    """The fields from the request down."""

    key: Any = None
    """The key, if the last field is a map."""

    @property
    def name(self) -> str:
        """The path as it is shown to callers."""
        dotted = ".".join(field.name for field in self.fields)
        return dotted if self.key is None else f"{dotted}[{shorten(str(self.key))}]"


class TextFields:
    """Finds the fields of request messages by their names in a query, and reads their values from text."""

    def __init__(self, *, ignore_unknown: bool) -> None:
        self._ignore_unknown = ignore_unknown
        self._converters: dict[FieldDescriptor, Converter | None] = {}
        self._names: dict[Descriptor, dict[str, FieldDescriptor]] = {}

    def names(self, message: Descriptor) -> dict[str, FieldDescriptor]:
        """The fields of a message by both of their names; none if the message is no object of its fields."""
        found = self._names.get(message)
        if found is None:
            fields = () if is_special(message) else message.fields
            found = {field.json_name: field for field in fields} | {field.name: field for field in fields}
            self._names[message] = found
        return found

    def find(self, request: Descriptor, name: str) -> Target | None:
        """Where a parameter goes, or None if it is unknown and such are ignored; raises Refusal."""
        parsed = _NAME.fullmatch(name)
        if parsed is None:
            self._check_unknown(name, request)
            return None
        dotted, key = parsed.groups()
        fields: list[FieldDescriptor] = []
        for part in dotted.split("."):
            if fields and not is_plain_message(fields[-1]):
                raise Refusal("cannot be a query parameter; only fields of single messages have names with dots")
            message = message_of(fields[-1]) if fields else request
            field = self.names(message).get(part)
            if field is None:
                self._check_unknown(part, message)
                return None
            fields.append(field)
        if key is None:
            return Target(tuple(fields))
        if not is_map(fields[-1]):
            raise Refusal("has brackets, which only maps take; give a repeated field as a=1&a=2")
        return Target(tuple(fields), self._key(fields[-1], key))

    def convert(self, target: Target, values: Iterable[str]) -> Any:  # noqa: ANN401 - what a constructor takes
        """What the constructor takes for a target that was given these values; raises Refusal.

        It is None if there is only an unknown name of an enum value, and such are ignored.
        """
        field = target.fields[-1]
        if is_map(field) and target.key is None:
            raise Refusal(f"is a map; give its entries as {field.name}[key]=value")
        converter = self._converter(map_fields(field)[1] if is_map(field) else field)
        if converter is None:
            raise Refusal("cannot be a query parameter, as it is a message; send it in the body or name its fields")
        made = [made for value in values if (made := converter(value, 0)) is not None]
        if field.is_repeated and target.key is None:
            return made
        if not all(same(value, made[0]) for value in made):
            raise Refusal("given several times with different values")
        return made[0] if made else None

    def _key(self, field: FieldDescriptor, key: str) -> Any:  # noqa: ANN401 - any scalar
        return text_converter(map_fields(field)[0], ignore_unknown=False)(key, 0)

    def _check_unknown(self, name: str, message: Descriptor) -> None:
        if not self._ignore_unknown:
            raise Refusal(f"unknown query parameter{did_you_mean(name, message.fields_by_name)}")

    def _converter(self, field: FieldDescriptor) -> Converter | None:
        if field not in self._converters:
            self._converters[field] = self._make_converter(field)
        return self._converters[field]

    def _make_converter(self, field: FieldDescriptor) -> Converter | None:
        message = field.message_type
        if message is None:
            return text_converter(field, ignore_unknown=self._ignore_unknown)
        if is_wrapper(message):
            inner = text_converter(message.fields_by_name["value"], ignore_unknown=False)
            return lambda value, levels: {"value": inner(value, levels)}
        if message.full_name == "google.protobuf.FieldMask":
            return parse_field_mask_text
        return TEXTS.get(message.full_name)


def same(one: Any, other: Any) -> bool:  # noqa: ANN401 - what constructors take
    """Whether a field that was given twice has the same value in both places; a NaN is the same object."""
    return one is other or bool(one == other)
