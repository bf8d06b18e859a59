"""From JSON objects to the fields of one message type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from saxgw.transcoding.codec.dynamic import VALUE
from saxgw.transcoding.codec.scalars import EXACT, NULL_VALUE, Converter
from saxgw.transcoding.errors import Refusal, did_you_mean, expected, listed, quote, shorten, too_deep

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    def converter(self) -> Converter:
        """The converter of the message type."""
        exact, fields, oneofs = self._exact, self._fields, self._oneofs

        def convert(value: Any, levels: int) -> Any:  # noqa: ANN401 - a Converter
            if type(value) is not dict:
                raise expected("a JSON object", value)
            if not levels:
                raise too_deep()
            name = ""
            others: list[tuple[str, str, Any]] | None = None
            try:
                for key in value:  # which is quicker than its items
                    try:
                        if exact[key] is type(value[key]):
                            continue
                    except KeyError:
                        others = others or []
                        others.append((key, "", None))
                        continue
                    name, null, convert_field = fields[key]
                    made = null if value[key] is None else convert_field(value[key], levels - 1)
                    if name == key:
                        value[key] = made
                    else:
                        others = others or []
                        others.append((key, name, made))
            except Refusal as refusal:
                raise refusal.under(name) from None
            if others or oneofs:
                self._finish(value, others or ())
            return value

        return convert

    def array_converter(self, otherwise: Converter) -> Converter:
        """The converter of arrays of these objects; `otherwise` is one for arrays with more to do than to look."""
        exact = self._exact

        def convert(value: Any, levels: int) -> Any:  # noqa: ANN401 - a Converter
            if type(value) is not list or levels <= 1:
                return otherwise(value, levels)
            try:
                for item in value:
                    if type(item) is not dict:
                        return otherwise(value, levels)
                    for key in item:
                        if exact[key] is not type(item[key]):
                            return otherwise(value, levels)
            except KeyError:
                return otherwise(value, levels)
            return value

        return otherwise if self._oneofs else convert

    def _finish(self, value: dict[str, Any], others: Iterable[tuple[str, str, Any]]) -> None:
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
