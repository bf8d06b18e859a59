"""The protos of these tests, compiled into a descriptor pool of their own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import google.api
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.api.http_pb2 import HttpRule
    from google.protobuf.descriptor import MethodDescriptor

_PROTOS = Path(__file__).parent / "protos"
_ROOT = Path(__file__).parents[2]


def _compile() -> FileDescriptorSet:
    includes = [
        _PROTOS,
        _ROOT / "protos",
        Path(next(iter(google.api.__path__))).parents[1],
        Path(str(resources.files("grpc_tools"))) / "_proto",
    ]
    with TemporaryDirectory() as scratch:
        output = Path(scratch) / "set.binpb"
        arguments = [
            "protoc",
            *(f"-I{path}" for path in includes),
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={output}",
        ]
        status = protoc.main([*arguments, *map(str, sorted(_PROTOS.glob("*.proto")))])
        assert status == 0, "protoc failed; its output is above"
        return FileDescriptorSet.FromString(output.read_bytes())


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FILES.file:
        add_file(pool, file)
    return pool


def add_file(pool: DescriptorPool, file: FileDescriptorProto) -> None:
    """Adds a file to a pool that has its imports."""
    pool.AddSerializedFile(file.SerializeToString())


FILES = _compile()
"""The files, with comments."""

POOL = _pool()


def message_class(name: str) -> Any:
    """The class of a message, by its name in the package of the tests or by its full name."""
    full_name = name if "." in name else f"transcoding.test.{name}"
    return GetMessageClass(POOL.FindMessageTypeByName(full_name))


def methods(service: str = "Library") -> Sequence[MethodDescriptor]:
    """The methods of a service of the tests."""
    return POOL.FindServiceByName(f"transcoding.test.{service}").methods


def methods_with(rules: Iterable[HttpRule], *, package: str = "made.up") -> Sequence[MethodDescriptor]:
    """Methods M0, M1, … with these rules, from SearchRequest to AddBooksResponse."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3", dependency=["library.proto"])
    service = file.service.add(name="Service")
    for at, rule in enumerate(rules):
        method = service.method.add(
            name=f"M{at}",
            input_type=".transcoding.test.SearchRequest",
            output_type=".transcoding.test.AddBooksResponse",
        )
        method.options.Extensions[annotations_pb2.http].CopyFrom(rule)
    pool = DescriptorPool()
    copy_file("library.proto", pool)
    add_file(pool, file)
    return pool.FindServiceByName(f"{package}.Service").methods


def methods_for(
    types: Iterable[tuple[str, HttpRule]], *, package: str = "made.up.echoes"
) -> Sequence[MethodDescriptor]:
    """Methods M0, M1, … that take and return the same message of kinds.proto, with these rules."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3", dependency=["kinds.proto"])
    service = file.service.add(name="Echoes")
    for at, (name, rule) in enumerate(types):
        full_name = f".transcoding.test.{name}"
        method = service.method.add(name=f"M{at}", input_type=full_name, output_type=full_name)
        method.options.Extensions[annotations_pb2.http].CopyFrom(rule)
    pool = DescriptorPool()
    copy_file("kinds.proto", pool)
    add_file(pool, file)
    return pool.FindServiceByName(f"{package}.Echoes").methods


def copy_file(name: str, pool: DescriptorPool) -> None:
    """Adds a file of `POOL` and what it imports to another pool, which takes the same file twice."""
    file = FileDescriptorProto()
    POOL.FindFileByName(name).CopyToProto(file)
    for dependency in file.dependency:
        copy_file(dependency, pool)
    add_file(pool, file)
