"""Names of cells and models, and the forms that Sax asks of them (Sax protocol §1).

A cell is `/sax/<cell>`, a model `/sax/<cell>/<model>`. People may leave out the leading slash; what these functions
return always has it.
"""

from __future__ import annotations

import re
from typing import Final

from saxgw.sax.errors import InvalidName

# ASCII only and matched whole, as Google's RE2 patterns are.
_PART: Final = re.compile(r"[a-z]+[a-z0-9_-]*")
_MODEL_PATH: Final = re.compile(r"[a-zA-Z]+[a-zA-Z0-9_.-]*")
_CHECKPOINT: Final = re.compile(r"(?:/|\w|\.|-|%|:|=|\||\+)+", re.ASCII)

_PART_RULE: Final = "a lower-case letter, then lower-case letters, digits, '-' or '_'"


def parse_cell(name: str) -> str:
    """Returns the full name `/sax/<cell>`; raises InvalidName unless `name` has that form."""
    match _parts(name):
        case ["sax", cell]:
            _check_part(name, "cell", cell)
            return f"/sax/{cell}"
    raise InvalidName(f'"{name}" is not the name of a cell; write /sax/<cell>')


def parse_model(name: str) -> str:
    """Returns the full name `/sax/<cell>/<model>`; raises InvalidName unless `name` has that form."""
    match _parts(name):
        case ["sax", cell, model]:
            _check_part(name, "cell", cell)
            _check_part(name, "model", model)
            return f"/sax/{cell}/{model}"
    raise InvalidName(f'"{name}" is not the name of a model; write /sax/<cell>/<model>')


def parse_cell_or_model(name: str) -> tuple[str, str | None]:
    """Returns the full names of a cell and, if `name` is that of a model, the model; raises InvalidName for neither."""
    match _parts(name):
        case ["sax", _]:
            return parse_cell(name), None
        case ["sax", _, _]:
            model = parse_model(name)
            return cell_of(model), model
    raise InvalidName(f'"{name}" names neither a cell nor a model; write /sax/<cell> or /sax/<cell>/<model>')


def is_cell_name(part: str) -> bool:
    """Whether /sax/`part` has the form of a cell's full name."""
    return _PART.fullmatch(part) is not None


def cell_of(model: str) -> str:
    """Returns the cell `/sax/<cell>` of a full model name, as parse_model returns it."""
    return model.rpartition("/")[0]


def check_model_path(path: str) -> str:
    """Returns `path`, a registry name such as a.b.C; raises InvalidName for any other form."""
    if not _MODEL_PATH.fullmatch(path):
        raise InvalidName(f'"{path}" is not a model path; write the registry name of a model class, such as a.b.C')
    return path


def check_checkpoint(path: str) -> str:
    """Returns `path`, where weights are ("None" for none); raises InvalidName for a form that Sax refuses."""
    if not path:
        raise InvalidName('a checkpoint cannot be empty; write "None" for a model without one')
    if not _CHECKPOINT.fullmatch(path):
        raise InvalidName(f'"{path}" is not a checkpoint; only letters, digits and _ / . - % : = | + may be in it')
    return path


def _parts(name: str) -> list[str]:
    return name.removeprefix("/").split("/")


def _check_part(name: str, kind: str, part: str) -> None:
    if not _PART.fullmatch(part):
        raise InvalidName(f'"{part}" in "{name}" is not the name of a {kind}; write {_PART_RULE}')
