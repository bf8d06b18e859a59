"""From JSON values to messages, with converters compiled once per message type.

What is made of a JSON object is not the message itself but what its constructor takes: a dict of field values, in which
messages are dicts again. Path variables and query parameters are merged into that dict (`binding`), and one call of the
constructor then makes the message in C. A field that JSON has as null is in the dict as None, which constructors skip.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from saxgw.transcoding.codec.dynamic import DYNAMIC, dynamic_converter
from saxgw.transcoding.codec.fields import ANY, is_map, is_special, is_wrapper, map_fields
from saxgw.transcoding.codec.objects import ObjectReader
from saxgw.transcoding.codec.scalars import EXACT, Converter, scalar_converter, text_converter
from saxgw.transcoding.codec.texts import TEXTS
from saxgw.transcoding.errors import Refusal, expected, quote, shorten, too_deep

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message

M = TypeVar("M", bound="Message")


class Decoders(dict["Descriptor", Converter]):
    """The converter of each message type, made when it is first asked for. Safe to share between threads.

    A converter returns what the constructor of the type takes, or a message.
    """

    def __init__(self, pool: DescriptorPool, *, ignore_unknown: bool) -> None:
        self._pool = pool
        self._ignore_unknown = ignore_unknown
        self._compiling = RLock()
        self._unfinished: dict[Descriptor, Converter] = {}
        self._readers: dict[Descriptor, ObjectReader] = {}
        """Of the message types that are objects of their fields."""

    def __missing__(self, descriptor: Descriptor) -> Converter:
        with self._compiling:
            outermost = not self._unfinished
            found = self.get(descriptor) or self._unfinished.get(descriptor) or self._compile(descriptor)
            if outermost:  # with all that it refers to, so that no other thread meets a half of it
                self.update(self._unfinished)
                self._unfinished.clear()
        return found

    def field(self, field: FieldDescriptor) -> Converter:
        """The converter of a whole field: of an array if it is repeated, of an object if it is a map."""
        if is_map(field):
            return self._map(field)
        element = self.element(field)
        if not field.is_repeated:
            return element
        convert = self._repeated(field, element)
        reader = None if field.message_type is None else self._readers.get(field.message_type)
        return convert if reader is None else reader.array_converter(convert)

    def element(self, field: FieldDescriptor) -> Converter:
        """The converter of one value of a field."""
        if field.message_type is not None:
            return self[field.message_type]
        return scalar_converter(field, ignore_unknown=self._ignore_unknown)

    def _compile(self, descriptor: Descriptor) -> Converter:
        if descriptor.full_name in TEXTS:
            convert = TEXTS[descriptor.full_name]
        elif descriptor.full_name in DYNAMIC:
            convert = dynamic_converter(GetMessageClass(descriptor))
        elif descriptor.full_name == ANY:
            convert = self._any()
        elif is_wrapper(descriptor):
            convert = self._wrapper(descriptor)
        else:
            return self._object(descriptor)
        self._unfinished[descriptor] = convert
        return convert

    def _object(self, descriptor: Descriptor) -> Converter:
        reader = ObjectReader(descriptor, ignore_unknown=self._ignore_unknown)
        self._readers[descriptor] = reader
        convert = self._unfinished[descriptor] = reader.converter()  # before its fields: a message may contain itself
        for field in descriptor.fields:
            reader.add(field, self.field(field))
        return convert

    def _repeated(self, field: FieldDescriptor, element: Converter) -> Converter:
        exact = {EXACT[field.type]} if field.type in EXACT else None
        skip_unknown = self._ignore_unknown and field.enum_type is not None

        def convert(value: Any, levels: int) -> list[Any]:  # noqa: ANN401 - a Converter
            if type(value) is not list:
                raise expected("a JSON array", value)
            if not levels:
                raise too_deep()
            if exact and set(map(type, value)) == exact:
                return value
            made: list[Any] = []
            try:
                for item in value:
                    made.append(element(item, levels - 1))  # noqa: PERF401 - its length tells which item failed
            except Refusal as refusal:
                raise refusal.under(f"[{len(made)}]") from None
            return [item for item in made if item is not None] if skip_unknown else made

        return convert

    def _map(self, field: FieldDescriptor) -> Converter:
        key_field, value_field = map_fields(field)
        key_converter = text_converter(key_field, ignore_unknown=False)
        element = self.element(value_field)
        skip_unknown = self._ignore_unknown and value_field.enum_type is not None

        def convert(value: Any, levels: int) -> dict[Any, Any]:  # noqa: ANN401 - a Converter
            if type(value) is not dict:
                raise expected("a JSON object", value)
            if not levels:
                raise too_deep()
            key = ""
            made: dict[Any, Any] = {}
            try:
                for key, item in value.items():
                    made[key_converter(key, 0)] = element(item, levels - 1)
            except Refusal as refusal:
                raise refusal.under(f"[{shorten(key)}]") from None
            if len(made) != len(value):
                raise Refusal("two keys of the object are the same number")
            return {key: item for key, item in made.items() if item is not None} if skip_unknown else made

        return convert

    def _wrapper(self, descriptor: Descriptor) -> Converter:
        inner = scalar_converter(descriptor.fields_by_name["value"], ignore_unknown=False)
        return lambda value, levels: {"value": inner(value, levels)}

    def _any(self) -> Converter:
        def convert(value: Any, levels: int) -> dict[str, Any]:  # noqa: ANN401 - a Converter
            if type(value) is not dict:
                raise expected("a JSON object", value)
            if not levels:
                raise too_deep()
            if not value:
                return {}
            url = value.get("@type")
            if type(url) is not str:
                raise Refusal('expected a string "@type" that names the message, such as "type.googleapis.com/a.b.C"')
            descriptor = self._resolve(url)
            rest = {key: item for key, item in value.items() if key != "@type"}
            if is_special(descriptor):
                if rest.keys() != {"value"}:
                    raise Refusal(f'expected just "@type" and "value", as {descriptor.full_name} is no object in JSON')
                try:
                    made = self[descriptor](rest["value"], levels - 1)
                except Refusal as refusal:
                    raise refusal.under("value") from None
            else:
                made = self[descriptor](rest, levels)
            message_class = GetMessageClass(descriptor)
            data = as_message(message_class, made).SerializePartialToString()
            try:
                message_class.FromString(data)
            except DecodeError:  # one level of a Struct is three of messages, of which protobuf reads 100
                raise too_deep() from None
            return {"type_url": url, "value": data}

        return convert

    def _resolve(self, url: str) -> Descriptor:
        host, slash, name = url.rpartition("/")
        if slash and host:
            try:
                return self._pool.FindMessageTypeByName(name)
            except KeyError:
                pass
        raise Refusal(f'"@type" names no known message: {quote(url)}')


def as_message(message_class: type[M], made: Any) -> M:  # noqa: ANN401 - a dict or a message, to a message
    """The message that a converter has made the contents of."""
    return message_class(**made) if type(made) is dict else made
