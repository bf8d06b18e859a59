"""Examples: those that stand in the .proto beside fields, and whole messages that are composed of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from google.api import field_behavior_pb2
from google.api.field_behavior_pb2 import INPUT_ONLY, OUTPUT_ONLY, REQUIRED
from google.protobuf.message_factory import GetMessageClass

from saxgw.transcoding.codec.fields import is_map, is_special, message_of
from saxgw.transcoding.errors import InvalidInput, InvalidRule
from saxgw.transcoding.openapi.scalars import Form
from saxgw.transcoding.v1 import options_pb2

if TYPE_CHECKING:
    from collections.abc import Collection

    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

    from saxgw.transcoding.codec import Codec


class Examples:
    """Reads examples with a codec, so that there is none that would be refused."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._own: dict[FieldDescriptor, tuple[Any, Any]] = {}
        """As they stand in the .proto, and as they are written."""

    def own(self, field: FieldDescriptor) -> Any:  # noqa: ANN401 - any JSON value
        """The example of a field's option, None if it has none; raises InvalidRule if it does not fit the field."""
        return self._read(field)[0]

    def written(self, field: FieldDescriptor) -> Any:  # noqa: ANN401 - any JSON value
        """The example of a field's option in the form in which responses have it."""
        return self._read(field)[1]

    def of_field(self, field: FieldDescriptor) -> Any:  # noqa: ANN401 - any JSON value
        """The example of a field in a request: its own, or one that is composed of those of the fields inside."""
        return self._field(field, Form.REQUEST, ())

    def of_request(self, message: Descriptor, *, without: Collection[tuple[str, ...]] = ()) -> Any:  # noqa: ANN401 - any JSON value
        """The example of a request, composed of the examples of its fields; None if a required field has none.

        `without` has the paths of fields that are left out.
        """
        return self._message(message, Form.REQUEST, (), without)

    def of_response(self, message: Descriptor) -> Message | None:
        """The example of a response as a message."""
        example = self._message(message, Form.RESPONSE, (), ())
        return None if example is None else self._codec.decode(orjson.dumps(example), GetMessageClass(message))

    def _read(self, field: FieldDescriptor) -> tuple[Any, Any]:
        if field not in self._own:
            text = field.GetOptions().Extensions[options_pb2.example]
            written = self._rewritten(field, text) if text else None
            self._own[field] = (orjson.loads(text) if text else None, written)
        return self._own[field]

    def _rewritten(self, field: FieldDescriptor, text: str) -> Any:  # noqa: ANN401 - any JSON value
        message = field.containing_type
        assert message is not None  # noqa: S101 - for the type checker; only extensions have none
        try:
            # As a member of its message, so that an error names the field.
            made = self._codec.decode(b'{"%b": %b}' % (field.name.encode(), text.encode()), GetMessageClass(message))
        except InvalidInput as error:
            raise InvalidRule(f"the example of {field.full_name} does not fit: {error}") from None
        return orjson.loads(self._codec.encode(made)).get(field.name)

    def _field(self, field: FieldDescriptor, form: Form, outer: tuple[Descriptor, ...]) -> Any:  # noqa: ANN401 - any JSON value
        example = self.own(field)
        if example is not None or field.message_type is None or is_map(field):
            return example
        element = self._message(message_of(field), form, outer, ())
        return [element] if field.is_repeated and element is not None else element

    def _message(
        self, message: Descriptor, form: Form, outer: tuple[Descriptor, ...], without: Collection[tuple[str, ...]]
    ) -> Any:  # noqa: ANN401 - any JSON value
        if message in outer or is_special(message):
            return None
        made = {}
        for field in message.fields:
            inner = [path[1:] for path in without if path[0] == field.name]
            if () in inner or behaves(field, OUTPUT_ONLY if form is Form.REQUEST else INPUT_ONLY):
                continue
            if inner:
                example = self._message(message_of(field), form, (*outer, message), inner)
            else:
                example = self._field(field, form, (*outer, message))
            if example is not None:
                made[field.name] = example
            elif form is Form.REQUEST and behaves(field, REQUIRED) and not inner:
                return None
        return made or None


def behaves(field: FieldDescriptor, behavior: int) -> bool:
    """Whether google.api.field_behavior says so of a field."""
    return behavior in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
