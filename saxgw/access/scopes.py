"""What each method says of itself in its .proto: the scope that it needs, and the fields that name models or cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.api import resource_pb2

from saxgw.access.v1 import options_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, MethodDescriptor

SCOPES: Final = tuple(name.removeprefix("SCOPE_").lower() for name, number in options_pb2.Scope.items() if number)
"""The scopes that there are, as keys and tokens spell them."""

ADMIN: Final = "admin"

_RESOURCES: Final = frozenset({"saxgw/Model", "saxgw/Cell", "*"})
"""What a google.api.resource_reference of ours may be to; a name tells whether it is a model's or a cell's."""


def scope_of(method: MethodDescriptor) -> str:
    """The scope that callers of the method need.

    Raises TypeError if it has none: a method that nobody has thought about is open to nobody.
    """
    number = method.GetOptions().Extensions[options_pb2.scope]
    if not number:
        raise TypeError(f"{method.full_name} says no scope; give it an option (saxgw.access.v1.scope)")
    return options_pb2.Scope.Name(number).removeprefix("SCOPE_").lower()


def resource_fields(method: MethodDescriptor) -> tuple[str, ...]:
    """The fields of the method's request that name a model or a cell, by google.api.resource_reference.

    Raises TypeError for a reference that access cannot be decided by.
    """
    found = []
    for field in method.input_type.fields:
        reference = field.GetOptions().Extensions[resource_pb2.resource_reference]
        if reference.type in _RESOURCES and field.type == field.TYPE_STRING and not field.is_repeated:
            found.append(field.name)
        elif reference.type or reference.child_type:
            raise TypeError(
                f"{field.full_name} refers to {reference.type or reference.child_type}, which nobody checks"
            )
        elif field.message_type is not None:
            _check_has_no_reference(field.message_type, {method.input_type.full_name})
    return tuple(found)


def _check_has_no_reference(message: Descriptor, seen: set[str]) -> None:
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        reference = field.GetOptions().Extensions[resource_pb2.resource_reference]
        if reference.type or reference.child_type:
            raise TypeError(f"{field.full_name} refers to a resource within a message, which nobody checks")
        if field.message_type is not None:
            _check_has_no_reference(field.message_type, seen)
