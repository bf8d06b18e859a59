"""From JSON objects to the fields of one message type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from saxgw.transcoding.codec.dynamic import VALUE
from saxgw.transcoding.codec.scalars import EXACT, NULL_VALUE, Converter
from saxgw.transcoding.errors import Refusal, did_you_mean, expected, listed, quote, shorten, too_deep

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

_FieldReader: TypeAlias = tuple[str, Any, Converter]
"""The name of a field in the .proto file, what a JSON null becomes, and the converter of other values.

A plain tuple, as a NamedTuple is slower to take apart.
"""


class ObjectReader:
    """Reads the JSON objects of a message type, in place: most values are just what the constructor takes."""

    def __init__(self, descriptor: Descriptor, *, ignore_unknown: bool) -> None:
        self._descriptor = descriptor
        self._ignore_unknown = ignore_unknown
        self._fields: dict[str, _FieldReader] = {}
        """By both of their names."""
        self._exact: dict[str, type | None] = {}
        """The type of the JSON values that need no conversion, by both names; None if there is none."""
        self._oneofs = [
            tuple(field.name for field in oneof.fields) for oneof in descriptor.oneofs if len(oneof.fields) > 1
        ]

    def add(self, field: FieldDescriptor, convert: Converter) -> None:
        """Adds a field with the converter of its values. All must be there before an object is read."""
        self._fields[field.name] = self._fields[field.json_name] = (field.name, _null(field), convert)
        self._exact[field.json_name] = None  # the constructor does not know this name
        self._exact[field.name] = None if field.is_repeated else EXACT.get(field.type)

    def convert(self, value: Any, levels: int) -> Any:  # noqa: ANN401 - a Converter
        """The converter of the message type."""
        if type(value) is not dict:
            raise expected("a JSON object", value)
        if not levels:
            raise too_deep()
        exact, fields = self._exact, self._fields
        name = ""
        others = []
        try:
            for key, item in value.items():
                try:
                    if exact[key] is type(item):
                        continue
                except KeyError:
                    others.append((key, "", None))
                    continue
                name, null, convert = fields[key]
                made = null if item is None else convert(item, levels - 1)
                if name == key:
                    value[key] = made
                else:
                    others.append((key, name, made))
        except Refusal as refusal:
            raise refusal.under(name) from None
        if others:
            self._rename(value, others)
        if self._oneofs:
            self._check_oneofs(value)
        return value

    def _rename(self, value: dict[str, Any], others: list[tuple[str, str, Any]]) -> None:
        """Gives fields the names of the .proto file; `others` are key, name and value, without a name if unknown."""
        for key, name, made in others:
            del value[key]
            if name:
                if name in value:
                    raise Refusal(f"given twice, once as {quote(key)}").under(name)
                value[name] = made
            elif not self._ignore_unknown:
                hint = did_you_mean(key, self._descriptor.fields_by_name)
                raise Refusal(f"unknown field{hint}").under(shorten(key) or '""')

    def _check_oneofs(self, value: dict[str, Any]) -> None:
        for oneof in self._oneofs:
            given = [name for name in oneof if value.get(name) is not None]
            if len(given) > 1:
                raise one_of_many(given)


def one_of_many(names: list[str]) -> Refusal:
    """The refusal of several members of a oneof."""
    return Refusal(f"only one of {listed(names)} can be set; leave the others out")


def _null(field: FieldDescriptor) -> Any:  # noqa: ANN401 - what a constructor takes
    if field.is_repeated:
        return None
    if field.enum_type is not None:
        return 0 if field.enum_type.full_name == NULL_VALUE else None
    if field.message_type is not None and field.message_type.full_name == VALUE:
        return {"null_value": 0}
    return None
