"""What the admin server accepts: checks in Sax's order, with Sax's texts (Sax protocol §1, §4.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc

from saxgw.devcell.errors import INVALID_ARGUMENT, Refusal

if TYPE_CHECKING:
    from saxgw.sax.wire.admin_pb2 import JoinRequest, Model, WatchLocRequest

DATA_METHODS: Final = (
    "am.recognize",
    "lm.embed",
    "lm.generate",
    "lm.generate_stream",
    "lm.gradient",
    "lm.score",
    "mm.generate",
    "vm.classify",
    "vm.detect",
    "vm.embed",
    "vm.generate",
    "vm.image_to_image",
    "vm.image_to_text",
    "vm.text_and_image_to_text",
    "vm.video_to_text",
)
"""Methods that an access list may be named for (Sax protocol §4.9)."""


class _Form(NamedTuple):
    """A pattern, and how Sax writes it in its texts."""

    text: str
    pattern: re.Pattern[str]


_PART: Final = _Form("^[a-z]+[a-z0-9-_]*$", re.compile(r"[a-z]+[a-z0-9_-]*"))
_MODEL_PATH: Final = _Form("^[a-zA-Z]+[a-zA-Z0-9_.-]*$", re.compile(r"[a-zA-Z]+[a-zA-Z0-9_.-]*"))
# Written as a class: the alternatives of Sax's own pattern overlap, which costs Python exponential time.
_CHECKPOINT: Final = _Form(r"^(/|\d|\w|_|\.|-|%|:|=|\||\+)+$", re.compile(r"[/\w.%:=|+-]+", re.ASCII))


class ModelName(NamedTuple):
    """A model's name, taken apart."""

    cell: str
    model: str

    def __str__(self) -> str:
        """As Go prints the pair, for Sax's texts."""
        return f"{{{self.cell} {self.model}}}"


def parse_model_id(model_id: str) -> ModelName:
    """Takes a model's full name apart; refuses what does not have the form of one."""
    cell_id, slash, model = model_id.rpartition("/")
    if not slash:
        form = "/sax/<cell name>/<model name>"
        raise Refusal(INVALID_ARGUMENT, f'model full name "{model_id}" should have the form {form}')
    _check("model name", model, _PART)
    return ModelName(parse_cell_id(cell_id), model)


def parse_cell_id(cell_id: str) -> str:
    """Returns the short name of a cell; refuses what does not have the form of a cell's full name."""
    match cell_id.split("/"):
        case ["", "sax", cell]:
            _check("cell name", cell, _PART)
            return cell
    raise Refusal(INVALID_ARGUMENT, f'cell full name "{cell_id}" should have the form /sax/<cell name>')


def check_model_id(model_id: str, cell: str) -> ModelName:
    """Takes the full name of a model of this cell, a short name, apart."""
    name = parse_model_id(model_id)
    if name.cell != cell:
        raise Refusal(INVALID_ARGUMENT, f'model {model_id} must be within SAX cell "/sax/{cell}"')
    return name


def check_model(model: Model, cell: str) -> ModelName:
    """Checks a model as given to Publish or Update, and returns its name."""
    name = check_model_id(model.model_id, cell)
    _check("model path", model.model_path, _MODEL_PATH)
    _check("checkpoint path", model.checkpoint_path, _CHECKPOINT)
    if model.requested_num_replicas < 0:
        raise Refusal(INVALID_ARGUMENT, f"number of replicas {model.requested_num_replicas} must be non-negative")
    _check_acl(model.admin_acl)
    for method, acl in model.acls.items.items():
        if method not in DATA_METHODS:
            methods = " ".join(f"{known}:{{}}" for known in DATA_METHODS)
            raise Refusal(INVALID_ARGUMENT, f"{method} is not a valid method name (map[{methods}])")
        _check_acl(acl)
    return name


def check_watch(request: WatchLocRequest) -> None:
    """Checks a WatchLocRequest; like Sax, it does not compare the cell."""
    parse_model_id(request.model_id)
    if request.seqno < 0:
        text = f"WatchLoc seqno {request.seqno} should be non-negative"
        # Google's text has no colon here.
        google_text = f"{text} rpc error: code = InvalidArgument desc = InvalidArgument"
        raise Refusal(INVALID_ARGUMENT, text, google_text=google_text)


def check_join(request: JoinRequest) -> None:
    """Checks a JoinRequest; like Sax, it does not look at the form of the address."""
    if not request.address:
        raise Refusal(INVALID_ARGUMENT, "JoinRequest.modelet_address cannot be empty")
    if not request.HasField("model_server"):
        raise Refusal(INVALID_ARGUMENT, "JoinRequest.modelet missing")


def _check(what: str, value: str, form: _Form) -> None:
    if not form.pattern.fullmatch(value):
        raise Refusal(INVALID_ARGUMENT, f'{what} "{value}" must match "{form.text}"')


def _check_acl(acl: str) -> None:
    if not acl:
        return
    if not acl.startswith("acl/"):
        raise Refusal(INVALID_ARGUMENT, f"{acl} is not a valid ACL name (must start with one of [acl/])")
    # The open-source Sax has no access lists either.
    raise Refusal(grpc.StatusCode.UNIMPLEMENTED, "ACL check is not supported")
