"""Makes a root file system of Python, some files and what they need: `python root_fs.py TARGET PATH…`.

It runs while the image is built, with the Python that is to be copied, and nothing but the standard library. What it
leaves out is what a server has no use for and an intruder would: shell, package managers, pip, compilers. Each file
comes to the place that it has here, with the links that lead to it, the shared libraries that ldd(1) names, and the
entry and licence of its Debian package, so that scanners know what there is. Byte code is compiled once and for all,
because a read-only file system keeps none; it and the times of the files are the same for every build.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NO_USE: Final = frozenset(
    {
        "__pycache__",  # compiled anew
        *("dist-packages", "site-packages"),  # the base image's own
        *("ensurepip", "distutils", "lib2to3", "venv"),  # install and build
        *("idlelib", "pydoc_data", "test", "tkinter", "turtle.py", "turtledemo"),  # for people at a desk
        *("curses", "dbm", "sqlite3"),  # bring libraries with them
    }
)
"""Parts of the standard library that stay behind."""

_NO_USE_COMPILED: Final = re.compile(r"(_ctypes_test|_curses\w*|_dbm|_gdbm|_sqlite3|_test\w+|_tkinter|nis|readline)\.")
"""The same among the compiled modules."""

_NO_USE_SUFFIXES: Final = frozenset({".c", ".h", ".pxd", ".pxi", ".pyi", ".pyx"})
"""What compilers and type checkers read."""

_SYSTEM: Final = (
    "/etc/ld.so.cache",  # where shared libraries are
    "/etc/nsswitch.conf",  # how names of hosts are looked up
    "/etc/os-release",
    "/etc/ssl/certs/ca-certificates.crt",  # for SAX_ROOT in a bucket
)

_USER: Final = 65532
"""By custom the user of images without root."""

_DPKG: Final = Path("/var/lib/dpkg")


class RootFs:
    """A root file system in a folder.

    Args:
        target: The folder, which need not be there.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self.files: set[Path] = set()
        """What was copied, without links: where it is here, and will be there."""

    def at(self, path: Path) -> Path:
        """Where a path will be is here."""
        return self._target / path.relative_to("/")

    def bring(self, path: Path) -> None:
        """Copies a file, or a folder with all that is in it, and the links that lead there.

        Raises FileNotFoundError if there is no such thing.
        """
        here = Path("/")
        for number, part in enumerate(path.parts[1:], 2):
            here /= part
            there = self.at(here)
            if here.is_symlink():
                link = here.readlink()
                if not there.is_symlink():
                    there.symlink_to(link)
                self.bring(Path(os.path.normpath(here.parent / link)).joinpath(*path.parts[number:]))
                return
            if here.is_dir():
                there.mkdir(exist_ok=True, parents=True)
        if path.is_dir():
            for each in sorted(path.iterdir()):
                if each.name != "__pycache__" and each.suffix not in _NO_USE_SUFFIXES:
                    self.bring(each)
        elif path not in self.files:
            shutil.copy(path, self.at(path))
            self.files.add(path)

    def write(self, path: str, text: str) -> None:
        """Writes a small file."""
        there = self.at(Path(path))
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text)


def _python() -> Iterator[Path]:
    yield Path(sys.executable)
    library = Path(sysconfig.get_path("stdlib"))
    for each in library.iterdir():
        if each.name == "lib-dynload":
            yield from (module for module in each.iterdir() if not _NO_USE_COMPILED.match(module.name))
        elif each.name not in _NO_USE and not each.name.startswith("config-"):
            yield each


def _shared_libraries(files: Iterable[Path]) -> Iterator[Path]:
    for file in files:
        with file.open("rb") as opened:
            if opened.read(4) != b"\x7fELF":
                continue
        listed = subprocess.run(["ldd", file], capture_output=True, text=True, check=False).stdout  # noqa: S603, S607 - files of this image
        if "not found" in listed:
            raise SystemExit(f"{file} lacks a shared library:\n{listed}")
        yield from map(Path, re.findall(r"(/\S+) \(0x", listed))


def _packages(files: Iterable[Path]) -> set[str]:
    """The Debian packages that the files are of."""
    wanted = {str(file) for file in files}
    packages = set()
    for listing in (_DPKG / "info").glob("*.list"):
        paths = map(Path, listing.read_text().splitlines())
        # A package may name a file by way of a link: /lib/… for /usr/lib/….
        if any(os.path.join(os.path.realpath(path.parent), path.name) in wanted for path in paths):  # noqa: PTH118 - a path for each file of Debian
            packages.add(listing.stem.partition(":")[0])
    return packages


def _describe_packages(root: RootFs) -> None:
    packages = _packages(root.files)
    entries = re.split(r"\n\n+", (_DPKG / "status").read_text().strip())
    kept = [entry for entry in entries if re.findall(r"^Package: (\S+)", entry, re.MULTILINE)[0] in packages]
    root.write(str(_DPKG / "status"), "".join(f"{entry}\n\n" for entry in kept))
    for package in sorted(packages):
        licence = Path("/usr/share/doc", package, "copyright")
        if licence.exists():
            root.bring(licence)


def make(target: Path, paths: Iterable[Path]) -> None:
    """Makes the root file system."""
    root = RootFs(target)
    for path in (*map(Path, _SYSTEM), *_python(), *paths):
        root.bring(path)
    for library in sorted(set(_shared_libraries(sorted(root.files)))):
        root.bring(library)
    _describe_packages(root)
    root.write("/etc/passwd", f"root:x:0:0::/:/nonexistent\nsaxgw:x:{_USER}:{_USER}::/:/nonexistent\n")
    root.write("/etc/group", f"root:x:0:\nsaxgw:x:{_USER}:\n")
    root.at(Path("/tmp")).mkdir(mode=0o1777)  # noqa: S108 - the folder itself
    root.at(Path("/tmp")).chmod(0o1777)  # noqa: S108 - the folder itself
    compileall.compile_dir(
        target,
        maxlevels=100,
        quiet=1,
        workers=0,
        stripdir=target,
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    for folder, folders, files in os.walk(target):
        for name in (".", *folders, *files):
            os.utime(os.path.join(folder, name), (epoch, epoch), follow_symlinks=False)  # noqa: PTH118 - as os.walk has it


if __name__ == "__main__":
    make(Path(sys.argv[1]), map(Path, sys.argv[2:]))
