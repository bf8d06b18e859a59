"""What descriptors say about the JSON form of fields and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saxgw.transcoding.codec.dynamic import DYNAMIC
from saxgw.transcoding.codec.texts import TEXTS

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

ANY = "google.protobuf.Any"


def message_of(field: FieldDescriptor) -> Descriptor:
    """The message type of a field that is known to have one."""
    assert field.message_type is not None  # noqa: S101 - for the type checker
    return field.message_type


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map, which descriptors describe as a repeated message of keys and values."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def map_fields(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """The key and the value of a map field."""
    fields = message_of(field).fields_by_name
    return fields["key"], fields["value"]


def is_wrapper(message: Descriptor) -> bool:
    """Whether a message type is one of google/protobuf/wrappers.proto, such as Int64Value."""
    return message.file.name == "google/protobuf/wrappers.proto"


def is_special(message: Descriptor) -> bool:
    """Whether a message type has a JSON form of its own instead of an object of its fields."""
    name = message.full_name
    return name in TEXTS or name in DYNAMIC or name == ANY or is_wrapper(message)


def is_plain_message(field: FieldDescriptor) -> bool:
    """Whether a field is one message that is an object of its fields."""
    return field.message_type is not None and not field.is_repeated and not is_special(field.message_type)
