"""Google's module `sax`: what of it is used (Sax protocol §7), and where it is found.

It is named as this package's parent is, saxgw.sax, and has nothing to do with it.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final, Protocol, cast

from saxgw.sax.errors import InvalidName
from saxgw.sax.root import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saxgw.sax.official import parts

_NAMES: Final = ("sax", "saxml.client.python.sax")
"""What the module is called where its file is on the path, and in a Bazel build."""

_VARIABLE: Final = "SAX_ROOT"
"""The environment variable that the module takes its root from, and nothing else."""


class ModuleMissing(ImportError):
    """There is no official client in this Python; `str()` of it is a sentence that says how to get it."""


class SaxModule(Protocol):
    """The module; its functions block, and raise StatusNotOk."""

    def AdminOptions(self) -> parts.AdminOptions: ...
    def Options(self) -> parts.Options: ...
    def ModelOptions(self) -> parts.ModelOptions: ...
    def Model(self, name: str, options: parts.Options, /) -> parts.Model: ...
    def Publish(  # noqa: PLR0913, PLR0917 -- Google's function
        self,
        name: str,
        model_path: str,
        checkpoint: str,
        replicas: int,
        overrides: dict[str, str] | None,
        options: parts.AdminOptions,
        /,
    ) -> None: ...
    def Update(
        self, name: str, model_path: str, checkpoint: str, replicas: int, options: parts.AdminOptions, /
    ) -> None: ...
    def Unpublish(self, name: str, options: parts.AdminOptions, /) -> None: ...
    def ListDetail(self, name: str, options: parts.AdminOptions, /) -> parts.ModelDetail: ...
    def ListAll(self, cell: str, options: parts.AdminOptions, /) -> Sequence[str]: ...
    def Stats(self, name: str, options: parts.AdminOptions, /) -> Sequence[parts.ModelServerTypeStat]: ...
    def WaitForReady(self, name: str, replicas: int, options: parts.AdminOptions, /) -> None: ...
    def GetACL(self, name: str, method: str, /, *, options: parts.AdminOptions) -> str | Mapping[str, str]:
        """Builds of before October 2024 do not have it."""


_NEEDED: Final = tuple(name for name in vars(SaxModule) if name[0].isupper() and name != "GetACL")


def load(root: str) -> SaxModule:
    """Imports the module for cells under `root`.

    The module takes its root from the environment when it is imported, and keeps it. So this sets SAX_ROOT.

    Raises:
        ModuleMissing: there is none, it cannot be imported, or what is called `sax` here is something else.
        InvalidName: it was imported for another root, or takes no root of this kind.
    """
    if "://" in root and not root.startswith("gs://"):
        raise InvalidName(f'the official client takes a folder or gs://bucket/path, not "{without_secrets(root)}"')
    reasons = []
    for name in _NAMES:
        if name in sys.modules and os.environ.get(_VARIABLE) != root:
            kept, other = (without_secrets(each) for each in (os.environ.get(_VARIABLE, ""), root))
            raise InvalidName(
                f'the official client keeps one SAX_ROOT for the whole process, "{kept}"; '
                f'start another process for "{other}"'
            )
        before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = root
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            reasons.append(str(error))
        else:
            if all(hasattr(module, needed) for needed in _NEEDED):
                return cast("SaxModule", module)
            reasons.append(f"the module '{name}' of {getattr(module, '__file__', None)} is another one")
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
    raise ModuleMissing(
        f"the official Sax client is not here ({'; '.join(reasons)}): build //saxml/client/python:sax of "
        "https://github.com/google/saxml with Bazel and put it on PYTHONPATH, because what PyPI has as saxml is an "
        "empty placeholder; or use saxgw's own client, the default"
    )
