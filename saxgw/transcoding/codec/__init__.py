"""The proto3 JSON mapping (https://protobuf.dev/programming-guides/json), compiled once per message type."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message

from saxgw.transcoding.codec.decoder import Decoders
from saxgw.transcoding.codec.encoder import Encoders
from saxgw.transcoding.codec.text import load
from saxgw.transcoding.errors import InvalidInput, InvalidMessage, Refusal

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool

M = TypeVar("M", bound=Message)


class Codec:
    """Messages to JSON and back, with one set of options.

    Keep a codec: it compiles each message type when it first meets it. It may be shared between threads.

    Args:
        preserve_proto_field_name: Write field names as in the .proto file; otherwise in lowerCamelCase. Both are read.
        always_print_defaults: Write fields that have no presence even if they have their default value.
        enums_as_numbers: Write the numbers of enum values instead of their names. Both are read.
        ignore_unknown_fields: Skip unknown fields and unknown names of enum values instead of refusing them.
        max_depth: How many levels of arrays and objects are read.
        pool: Where the messages inside of `google.protobuf.Any` are looked up. None is the default pool.
    """

    def __init__(  # noqa: PLR0913 - options, by name only
        self,
        *,
        preserve_proto_field_name: bool = True,
        always_print_defaults: bool = True,
        enums_as_numbers: bool = False,
        ignore_unknown_fields: bool = False,
        max_depth: int = 100,
        pool: DescriptorPool | None = None,
    ) -> None:
        pool = pool or Default()
        self.max_depth = max_depth
        self.ignore_unknown_fields = ignore_unknown_fields
        self.decoders = Decoders(pool, ignore_unknown=ignore_unknown_fields)
        """What this codec reads with, for those who read parts of messages."""
        self.encoders = Encoders(
            pool,
            preserve_proto_field_name=preserve_proto_field_name,
            always_print_defaults=always_print_defaults,
            enums_as_numbers=enums_as_numbers,
        )
        """What this codec writes with, for those who write parts of messages."""

    def encode(self, message: Message, *, pretty: bool = False) -> bytes:
        """The JSON of a message, on one line or, if `pretty`, indented by two spaces.

        Raises InvalidMessage if it has none, such as a Timestamp in the year 10000 or an Any of an unknown type.
        """
        printer = self.encoders[message.DESCRIPTOR]  # type: ignore[index]  # upb's descriptors are the same
        return dump(printer, message, pretty=pretty)

    def decode(self, data: bytes, message_class: type[M]) -> M:
        """The message in a JSON text; raises InvalidInput with the first thing that is wrong with it."""
        try:
            made = self.decoders[message_class.DESCRIPTOR](load(data), self.max_depth)  # type: ignore[index]  # likewise
        except Refusal as refusal:
            raise InvalidInput(refusal.violation()) from None
        return message_class(**made) if type(made) is dict else made


def dump(printer: Any, message: Message, *, pretty: bool) -> bytes:  # noqa: ANN401 - one of Encoders
    """The JSON text of what `printer` makes of a message; raises InvalidMessage."""
    try:
        return orjson.dumps(printer(message), option=orjson.OPT_INDENT_2 if pretty else None)
    except Refusal as refusal:
        raise InvalidMessage(refusal.description) from None
    except (RecursionError, TypeError):  # a TypeError is orjson's for more than 254 levels, and for bytes
        reason = "it is nested too deeply or has a string that is not UTF-8"
        raise InvalidMessage(f"a {message.DESCRIPTOR.name} has no JSON form: {reason}") from None


@cache
def _codec(**options: Any) -> Codec:  # noqa: ANN401 - those of Codec
    return Codec(**options)


def encode_json(
    message: Message,
    *,
    pretty: bool = False,
    preserve_proto_field_name: bool = True,
    always_print_defaults: bool = True,
    enums_as_numbers: bool = False,
) -> bytes:
    """`Codec.encode` with a codec that is kept for these options and the default descriptor pool."""
    codec = _codec(
        preserve_proto_field_name=preserve_proto_field_name,
        always_print_defaults=always_print_defaults,
        enums_as_numbers=enums_as_numbers,
    )
    return codec.encode(message, pretty=pretty)


def decode_json(data: bytes, message_class: type[M], *, ignore_unknown_fields: bool = False, max_depth: int = 100) -> M:
    """`Codec.decode` with a codec that is kept for these options and the default descriptor pool."""
    return _codec(ignore_unknown_fields=ignore_unknown_fields, max_depth=max_depth).decode(data, message_class)
