"""JSON Schemas of messages and enums, which become the components of the document.

A message that is read has another schema than one that is written: what is read may leave fields out, or have null
there, and may have no unknown fields; what is written has all fields without presence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.api.field_behavior_pb2 import INPUT_ONLY, OUTPUT_ONLY, REQUIRED
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from saxgw.transcoding.codec.fields import is_map, is_plain_message, is_special, map_fields, message_of
from saxgw.transcoding.codec.scalars import NULL_VALUE, RANGES
from saxgw.transcoding.openapi.examples import behaves
from saxgw.transcoding.openapi.scalars import Form, Schema, map_key_schema, scalar_schema, special_schema

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from google.protobuf.descriptor import Descriptor

    from saxgw.transcoding.openapi.comments import Comments
    from saxgw.transcoding.openapi.examples import Examples

_SUFFIXES = {Form.REQUEST: "-Input", Form.RESPONSE: "-Output"}
"""What is added to the names of types that have two schemas. Names in .proto files have no hyphens."""

_INT32 = RANGES[FieldDescriptor.TYPE_INT32]


class Schemas:
    """Makes schemas, and collects the components that they refer to.

    Args:
        comments: Where descriptions come from.
        examples: Where examples come from.
        own: Components that are there already, by their names.
    """

    def __init__(self, comments: Comments, examples: Examples, own: Mapping[str, Schema]) -> None:
        self._comments = comments
        self._examples = examples
        self._own = own
        self._made: dict[tuple[Descriptor | EnumDescriptor, Form], Schema] = {}

    def components(self) -> dict[str, Schema]:
        """All components that were referred to, sorted by name."""
        names = self._names()
        return dict(sorted((dict(self._own) | {names[key]: schema for key, schema in self._made.items()}).items()))

    def name_references(self, made: Any) -> None:  # noqa: ANN401 - anything that has schemas inside
        """Fills in the names of components, which are known at the end, wherever they are referred to."""
        names = {_placeholder(*key): f"#/components/schemas/{name}" for key, name in self._names().items()}
        left = [made]
        while left:
            node = left.pop()
            if isinstance(node, dict):
                reference = node.get("$ref")
                if isinstance(reference, str):
                    node["$ref"] = names.get(reference, reference)
                left += node.values()
            elif isinstance(node, list):
                left += node

    def message(self, message: Descriptor, form: Form) -> Schema:
        """The schema of a whole message: a reference, unless it is of a special type."""
        return special_schema(message, form) if is_special(message) else self._reference(message, form)

    def message_without(self, message: Descriptor, paths: Collection[tuple[str, ...]]) -> Schema:
        """The schema of a message as it is read, without fields that come from somewhere else."""
        paths = [path for path in paths if path]
        if not paths or is_special(message):
            return self.message(message, Form.REQUEST)
        return self._object(message, Form.REQUEST, paths)

    def member(self, field: FieldDescriptor, form: Form) -> Schema:
        """The schema of a field with all that is told of it: comment, example, deprecation, whether it may be null."""
        schema = self.field(field, form)
        if form is not Form.RESPONSE:
            if behaves(field, REQUIRED):
                schema = _not_empty(field, schema)
            elif form is Form.REQUEST and not _in_oneof(field):
                schema = nullable(schema)
        comment = self._comments.of(field.full_name)
        told: Schema = {
            "description": comment,
            "deprecated": bool(field.GetOptions().deprecated),
            "readOnly": behaves(field, OUTPUT_ONLY),
            "writeOnly": behaves(field, INPUT_ONLY),
        }
        if form is not Form.TEXT and self._examples.own(field) is not None:
            told["examples"] = [self._examples.written(field) if form is Form.RESPONSE else self._examples.own(field)]
        return schema | {key: value for key, value in told.items() if value}

    def field(self, field: FieldDescriptor, form: Form) -> Schema:
        """The schema of a field's value: of an array if it is repeated, of an object if it is a map."""
        if is_map(field):
            key, value = map_fields(field)
            keys = map_key_schema(key)
            return {
                "type": "object",
                **({"propertyNames": keys} if keys else {}),
                "additionalProperties": self.element(value, form),
            }
        element = self.element(field, form)
        return {"type": "array", "items": element} if field.is_repeated else element

    def element(self, field: FieldDescriptor, form: Form) -> Schema:
        """The schema of one value of a field."""
        if field.message_type is not None:
            return self.message(field.message_type, form)
        if field.enum_type is None:
            return scalar_schema(field, form)
        if field.enum_type.full_name == NULL_VALUE:
            return _null_value(form)
        return self._reference(field.enum_type, Form.REQUEST if form is Form.TEXT else form)

    def row(self, field: FieldDescriptor) -> Schema:
        """The schema of a repeated message that is written as arrays of its values (options.proto)."""
        parts = sorted(message_of(field).fields, key=lambda part: part.number)
        values = []
        for part in parts:
            schema = self.field(part, Form.RESPONSE)
            if part.message_type is not None and not part.is_repeated:
                schema = nullable(schema)
            comment = self._comments.of(part.full_name)
            values.append({"title": part.name, **schema, **({"description": comment} if comment else {})})
        row = {"type": "array", "prefixItems": values, "minItems": len(parts), "maxItems": len(parts)}
        row["description"] = f"[{', '.join(part.name for part in parts)}]"
        comment = self._comments.of(field.full_name)
        return {"type": "array", "items": row, **({"description": comment} if comment else {})}

    def _reference(self, of: Descriptor | EnumDescriptor, form: Form) -> Schema:
        if (of, form) not in self._made:
            made: Schema = {}
            self._made[of, form] = made  # before its fields: a message may contain itself
            made.update(self._enum(of, form) if isinstance(of, EnumDescriptor) else self._object(of, form, ()))
        return {"$ref": _placeholder(of, form)}

    def _object(self, message: Descriptor, form: Form, without: Collection[tuple[str, ...]]) -> Schema:
        properties, required = {}, []
        for field in message.fields:
            inner = [path[1:] for path in without if path[0] == field.name]
            if () in inner:
                continue
            schema = self.member(field, form)
            if inner and is_plain_message(field):
                schema = self.message_without(message_of(field), inner)
            elif behaves(field, REQUIRED) if form is Form.REQUEST else not field.has_presence:
                required.append(field.name)
            properties[field.name] = schema
        given = {name for name, *rest in without if not rest}
        choices = [
            _at_most_one(names)
            for oneof in message.oneofs
            if len(names := [field.name for field in oneof.fields if field.name not in given]) > 1
        ]
        schema = {
            "type": "object",
            "description": self._comments.of(message.full_name),
            "deprecated": bool(message.GetOptions().deprecated),
            "properties": properties,
            "required": required,
            "allOf": choices,
        }
        closed = {"additionalProperties": False} if form is Form.REQUEST else {}
        return {key: value for key, value in schema.items() if value or key == "properties"} | closed

    def _enum(self, enum: EnumDescriptor, form: Form) -> Schema:
        names = {value.number: value.name for value in reversed(enum.values)}  # of aliases the first is written
        written = [value.name for value in enum.values if form is Form.REQUEST or names[value.number] == value.name]
        comments = [(name, self._comments.of(f"{enum.full_name}.{name}")) for name in written]
        values = "\n".join(f"- `{name}`: {text}" for name, text in comments if text)
        choices: list[Schema] = [{"type": "string", "enum": written}]
        if not enum.is_closed:
            choices.append({"type": "integer", "minimum": _INT32[0], "maximum": _INT32[1]})
        elif form is Form.REQUEST:
            choices.append({"type": "integer", "enum": sorted(names)})
        schema: Schema = {
            "description": "\n\n".join(filter(None, [self._comments.of(enum.full_name), values])),
            "deprecated": bool(enum.GetOptions().deprecated),
        }
        return {key: value for key, value in schema.items() if value} | {"anyOf": choices}

    def _names(self) -> dict[tuple[Descriptor | EnumDescriptor, Form], str]:
        """Names of the components: without the package where that is clear, with a suffix where a type has two."""
        types = {of: _short_name(of) for of, _ in self._made}
        short = [*types.values(), *self._own]
        names = {}
        for of, form in self._made:
            name = types[of] if short.count(types[of]) == 1 else of.full_name
            one, other = self._made.get((of, Form.REQUEST)), self._made.get((of, Form.RESPONSE))
            names[of, form] = name if one is None or other is None or one == other else name + _SUFFIXES[form]
        return names


def nullable(schema: Schema) -> Schema:
    """The schema that takes null as well."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    if "type" not in schema:
        return schema
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return schema | {"type": [*types, "null"]}


def _in_oneof(field: FieldDescriptor) -> bool:
    return field.containing_oneof is not None and len(field.containing_oneof.fields) > 1


def _not_empty(field: FieldDescriptor, schema: Schema) -> Schema:
    """AIP-203: a required field must be set to a value that is not empty."""
    if field.has_presence:
        return schema
    if schema.get("type") == "string" and field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return schema | {"minLength": 1}
    keyword = {"array": "minItems", "object": "minProperties"}.get(str(schema.get("type")))
    return schema | {keyword: 1} if keyword else schema


def _at_most_one(names: list[str]) -> Schema:
    each: list[Schema] = [{"required": [name]} for name in names]
    return {"oneOf": [*each, {"not": {"anyOf": each}}], "description": f"At most one of {', '.join(names)}."}


def _null_value(form: Form) -> Schema:
    if form is Form.RESPONSE:
        return {"type": "null"}
    return {"enum": ["NULL_VALUE", 0]} if form is Form.TEXT else {"enum": [None, "NULL_VALUE", 0]}


def _placeholder(of: Descriptor | EnumDescriptor, form: Form) -> str:
    return f"{of.full_name} {form.name}"


def _short_name(of: Descriptor | EnumDescriptor) -> str:
    package = of.file.package
    return of.full_name[len(package) + 1 :] if package else of.full_name
