"""Path templates as OpenAPI has them.

A parameter of an OpenAPI path is one segment: tools percent-encode the slashes in its value. So a variable of several
segments, such as `{name=shelves/*/books/*}`, becomes its literals and one parameter for each `*`. Their names come from
the resource that the field refers to, if a google.api.resource pattern says so (`shelves/{shelf}/books/{book}`);
otherwise they are the field's name with a number: `/shelves/{name_1}/books/{name_2}`. A `*` that is the only one of its
variable has the variable's name, one outside of variables is called `{segment_1}`.

`**` stands for any number of segments, for which OpenAPI has no words; it becomes one parameter, whose description says
so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.api import resource_pb2

from saxgw.transcoding.route import variable_fields
from saxgw.transcoding.template import Template, Variable, Wildcard
from saxgw.transcoding.url import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

_NAMED = re.compile(r"\{([^{}=]+)(?:=[^{}]*)?\}")
"""A variable in the pattern of a resource."""


@dataclass(frozen=True, slots=True)
class Part:
    """A wildcard of a template, which is a parameter in OpenAPI."""

    index: int
    """Which segment of the template it is."""

    name: str

    variable: Variable | None
    """The variable that it belongs to."""


def shape(template: Template) -> str:
    """The path without names: OpenAPI forbids two paths that differ in the names of their parameters only."""
    return path_of(template, ["" for segment in template.segments if isinstance(segment, Wildcard)])


def path_of(template: Template, names: Sequence[str]) -> str:
    """The OpenAPI path of a template whose wildcards have these names."""
    left = iter(names)
    segments = [
        f"{{{next(left)}}}" if isinstance(segment, Wildcard) else escape(segment) for segment in template.segments
    ]
    return f"/{'/'.join(segments)}{f':{escape(template.verb)}' if template.verb else ''}"


def parts_of(template: Template, request: Descriptor) -> list[Part]:
    """The wildcards of a template for requests of a type, with names that differ."""
    parts: list[Part] = []
    for index, segment in enumerate(template.segments):
        if isinstance(segment, Wildcard):
            variable = next((v for v in template.variables if index in _range(template, v)), None)
            parts.append(Part(index, _name(template, index, variable, request), variable))
    taken: set[str] = set()
    for at, part in enumerate(parts):
        name, number = part.name, 1
        while name in taken:
            number += 1
            name = f"{part.name}_{number}"
        taken.add(name)
        parts[at] = Part(part.index, name, part.variable)
    return parts


def example_parts(template: Template, variable: Variable, text: str) -> dict[int, str]:
    """The values of a variable's wildcards, by their segments, in a text that is its value; none if it does not fit.

    Slashes around the text are not minded.
    """
    indices = _range(template, variable)
    values = text.strip("/").split("/") if variable.is_multi_segment else [text]
    if len(values) != len(indices) or not all(values):
        return {}
    pairs = list(zip(indices, values, strict=True))
    if any(template.segments[index] not in (value, *Wildcard) for index, value in pairs):
        return {}
    return {index: value for index, value in pairs if isinstance(template.segments[index], Wildcard)}


def _range(template: Template, variable: Variable) -> range:
    return range(variable.start, len(template.segments) if variable.end is None else variable.end)


def _name(template: Template, index: int, variable: Variable | None, request: Descriptor) -> str:
    if variable is None:
        unnamed = [
            at
            for at, segment in enumerate(template.segments)
            if isinstance(segment, Wildcard) and not any(at in _range(template, v) for v in template.variables)
        ]
        return f"segment_{unnamed.index(index) + 1}"
    indices = _range(template, variable)
    wildcards = [at for at in indices if isinstance(template.segments[at], Wildcard)]
    segments = [template.segments[at] for at in indices]
    for pattern in _resource_patterns(variable_fields(request, variable.field_path)[-1]):
        names = _names_in(pattern, segments)
        if names:
            return names[wildcards.index(index)]
    return variable.field_path if len(wildcards) == 1 else f"{variable.field_path}_{wildcards.index(index) + 1}"


def _names_in(pattern: str, segments: Sequence[str | Wildcard]) -> list[str]:
    """The names that a resource's pattern gives to the wildcards among segments; none if it does not fit them."""
    names = []
    parts = pattern.split("/")
    if len(parts) != len(segments):
        return []
    for part, segment in zip(parts, segments, strict=True):
        named = _NAMED.fullmatch(part)
        if named and isinstance(segment, Wildcard):
            names.append(named[1])
        elif part != segment:
            return []
    return names


def _resource_patterns(field: FieldDescriptor) -> Iterator[str]:
    """The patterns of the resource that a field refers to, or that its message is, if the field is its name."""
    message = field.containing_type
    assert message is not None  # noqa: S101 - for the type checker; only extensions have none
    own = message.GetOptions().Extensions[resource_pb2.resource]
    if field.name == (own.name_field or "name"):
        yield from own.pattern
    wanted = field.GetOptions().Extensions[resource_pb2.resource_reference].type
    if wanted:
        for file in _with_imports(message.file):
            definitions = [
                *file.GetOptions().Extensions[resource_pb2.resource_definition],
                *(m.GetOptions().Extensions[resource_pb2.resource] for m in file.message_types_by_name.values()),
            ]
            for definition in definitions:
                if definition.type == wanted:
                    yield from definition.pattern


def _with_imports(file: FileDescriptor) -> Iterator[FileDescriptor]:
    yield file
    yield from file.dependencies
