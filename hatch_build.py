"""Generates the Python code of the protos, and their descriptor set, when the package is built.

hatchling calls `ProtoBuildHook` for every wheel, sdist and editable install; `python hatch_build.py` does the same by
hand after a .proto file was edited. Nothing that it writes is committed.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import google.api
from grpc_tools import protoc

PUBLIC = "saxgw"
"""Protos whose Python package is the proto package: protos/saxgw/v1/x.proto becomes saxgw.v1.x_pb2."""

WIRE = "sax"
"""Protos of the Sax wire protocol: protos/sax/x.proto becomes saxgw.sax.wire.x_pb2."""

WIRE_PACKAGE = "saxgw.sax.wire"

DESCRIPTOR_SET = "saxgw/descriptors.binpb"
"""FileDescriptorSet of our public API with its imports and comments, relative to the project's root."""


def generate(root: Path) -> list[str]:
    """Writes all generated files under `root` and returns their paths relative to it."""
    public = sorted((root / "protos" / PUBLIC).rglob("*.proto"))
    wire = sorted((root / "protos" / WIRE).rglob("*.proto"))
    _protoc(
        root,
        public,
        *(f"--{plugin}_out={root}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")),
    )
    _protoc(root, public, "--include_imports", "--include_source_info", f"--descriptor_set_out={root / DESCRIPTOR_SET}")
    _generate_wire(root, wire)
    return sorted(
        path.relative_to(root).as_posix()
        for pattern in ("*_pb2*.py*", "*.binpb")
        for path in (root / "saxgw").rglob(pattern)
        if path.suffix != ".pyc"
    )


def _generate_wire(root: Path, protos: list[Path]) -> None:
    """Generates the wire protos into `WIRE_PACKAGE`.

    Generated code would import itself as the top-level package `sax` and register its messages in the process-wide
    descriptor pool. Both belong to Google's own client where that is installed, so ours live in a package of saxgw and
    in a pool of their own (saxgw/sax/wire/__init__.py).
    """
    target = root / WIRE_PACKAGE.replace(".", "/")
    with tempfile.TemporaryDirectory() as scratch:
        _protoc(
            root, protos, *(f"--{plugin}_out={scratch}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc"))
        )
        for source in sorted((Path(scratch) / WIRE).iterdir()):
            text = source.read_text()
            text = re.sub(rf"^from {WIRE} import ", f"from {WIRE_PACKAGE} import ", text, flags=re.MULTILINE)
            text = text.replace(f"(DESCRIPTOR, '{WIRE}.", f"(DESCRIPTOR, '{WIRE_PACKAGE}.")
            text = text.replace(
                "from google.protobuf import descriptor_pool as _descriptor_pool",
                f"from {WIRE_PACKAGE} import POOL as _pool",
            ).replace("_descriptor_pool.Default()", "_pool")
            (target / source.name).write_text(text)


def _protoc(root: Path, protos: list[Path], *outputs: str) -> None:
    """Runs protoc; its plugins must be on PATH, which pip's isolated build environment and a venv both see to."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    includes = [
        root / "protos",
        Path(next(iter(google.api.__path__))).parent.parent,
        Path(str(resources.files("grpc_tools"))) / "_proto",
    ]
    arguments = ["protoc", *(f"-I{path}" for path in includes), *outputs, *map(str, protos)]
    if protoc.main(arguments) != 0:
        raise SystemExit(f"protoc failed on {', '.join(str(p.relative_to(root)) for p in protos)}; its output is above")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # called by hand from a development environment, which has grpcio-tools but not hatchling
    pass
else:

    class ProtoBuildHook(BuildHookInterface[Any]):
        """hatchling's custom build hook: generates, then tells hatchling to pack the ignored files."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
            build_data["artifacts"].extend(f"/{path}" for path in generate(Path(self.root)))


if __name__ == "__main__":
    generate(Path(__file__).parent)
