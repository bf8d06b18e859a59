"""Comments of .proto files, found by the full names of what they stand at."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_INTERNAL = re.compile(r"\(--.*?--\)", re.DOTALL)
"""What a comment has for maintainers only (AIP-192)."""

_WRAPPED = re.compile(r"(?<=\S)\n(?![\s#>|]|[-*+] |\d+[.)] |```)")
"""The end of a line that goes on as text in the next one. Viewers of OpenAPI would break the line there."""

_SENTENCE = re.compile(r"(?:(?!\n\n).)+?[.!?](?=\s+[A-Z`]|\s*$)", re.DOTALL)

_MEMBERS = {
    FileDescriptorProto: ("message_type", "enum_type", "service"),
    DescriptorProto: ("field", "nested_type", "enum_type"),
    EnumDescriptorProto: ("value",),
    ServiceDescriptorProto: ("method",),
}
"""The fields of descriptors whose members have names and comments."""


class Comments:
    """The leading comments in a descriptor set that was made with source info; none if it was made without."""

    def __init__(self, files: FileDescriptorSet) -> None:
        self._texts: dict[str, str] = {}
        for file in files.file:
            texts = {tuple(found.path): _clean(found.leading_comments) for found in file.source_code_info.location}
            for path, full_name in _named(file, (), file.package):
                if text := texts.get(path):
                    self._texts[full_name] = text

    def of(self, full_name: str) -> str:
        """The comment, empty if there is none. The full name of an enum's value goes on from that of the enum."""
        return self._texts.get(full_name, "")


def first_sentence(text: str) -> str:
    """The first sentence on one line without its full stop; the first paragraph if that is no sentence."""
    found = _SENTENCE.match(text)
    sentence = found[0] if found else text.partition("\n\n")[0]
    return " ".join(sentence.split()).removesuffix(".")


def _named(parent: Any, path: tuple[int, ...], name: str) -> Iterator[tuple[tuple[int, ...], str]]:  # noqa: ANN401 - any descriptor
    """Path (descriptor.proto, SourceCodeInfo.Location) and full name of everything inside of a descriptor."""
    for field in _MEMBERS.get(type(parent), ()):
        number = parent.DESCRIPTOR.fields_by_name[field].number
        for at, member in enumerate(getattr(parent, field)):
            inner = f"{name}.{member.name}" if name else member.name
            yield (*path, number, at), inner
            yield from _named(member, (*path, number, at), inner)


def _clean(comment: str) -> str:
    return _WRAPPED.sub(" ", _INTERNAL.sub("", dedent(comment)).strip())
