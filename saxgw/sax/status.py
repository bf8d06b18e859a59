"""What gRPC statuses of a cell mean: the one place where they become errors of this package."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import grpc
import grpc.aio

from saxgw.sax.errors import (
    AdminUnavailable,
    CellError,
    InvalidArgument,
    ModelExists,
    ModelNotFound,
    SaxError,
    StreamBroken,
)

Code: Final = grpc.StatusCode

_GO_STATUS: Final = re.compile(r"(?P<context>.*)rpc error: code = (?P<code>\w+) desc = (?P<desc>.*)", re.DOTALL)
"""How a status looks that Go code has wrapped into a text; the last one counts (Sax protocol §4.1)."""

_GO_CODES: Final = {code.name.replace("_", "").lower(): code for code in Code} | {"canceled": Code.CANCELLED}

_SIZE_LIMIT: Final = re.compile(
    r"(?P<ours>CLIENT: )?received message larger than max \((?P<size_bytes>\d+) vs\. (?P<limit_bytes>\d+)\)",
    re.IGNORECASE,
)
"""gRPC's words for a message over the limit of its receiver, be it the server or we."""

_STATED_LIMIT: Final = re.compile(r"Too many requests: .* (\d{1,9})\s*\Z", re.DOTALL)

_PRIVATE: Final = re.compile(
    r"(?<![\w.])(?:\w+:/{0,2})?/(?!sax/)[\w.@%+=~-]+(?:/[\w.@%+=~-]*)*"  # paths and URLs, but not names of models
    r"|(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?|\[[0-9a-fA-F:]+\]:\d+"  # addresses
)

_PYTHON: Final = re.compile(r"Unexpected <class '[\w.]+'>: ")
"""What a Python gRPC server puts before the words of an exception that nobody caught."""

_OWN_LIMIT: Final = "raise max_message_bytes of the Sax client"
"""What helps against an answer that is too large for the client of this package."""

_MAX_WORDS: Final = 2000
"""Characters of a cell's words that are passed on; its longest useful text lists the extra inputs of a model."""


class Status(NamedTuple):
    """A status as the cell meant it."""

    code: grpc.StatusCode
    words: str

    @property
    def retry_elsewhere(self) -> bool:
        """Whether this answer of a model server leaves hope in another one, or in the same one later.

        NOT_FOUND is "not loaded here". CANCELLED is what a Python gRPC server sheds load with; that we cancelled is
        never an error. RESOURCE_EXHAUSTED is hopeless if a message is too large (Sax protocol §9.1.6).
        """
        return self.code in (Code.UNAVAILABLE, Code.NOT_FOUND) or self.busy

    @property
    def busy(self) -> bool:
        """Whether a model server says that it has as many requests as it takes."""
        return self.code is Code.CANCELLED or (
            self.code is Code.RESOURCE_EXHAUSTED and not _SIZE_LIMIT.search(self.words)
        )

    @property
    def stated_limit(self) -> int | None:
        """How many requests a model server takes at a time, which the words end with that it refuses more by (§5.6)."""
        limit = _STATED_LIMIT.search(self.words)
        return int(limit[1]) if limit else None

    @property
    def may_have_happened(self) -> bool:
        """Whether a write that was answered so may have been carried out, its answer being lost or late."""
        return self.code in (Code.UNAVAILABLE, Code.CANCELLED, Code.DEADLINE_EXCEEDED) and not self.being_unpublished

    @property
    def being_unpublished(self) -> bool:
        """Whether the admin refuses a name because it is not free yet; then it has done nothing (§9.1.19)."""
        return self.code is Code.UNAVAILABLE and "being unpublished" in self.words


def status_of(error: grpc.aio.AioRpcError) -> Status:
    """Returns what `error` says, with the code that was meant where the admin sent UNKNOWN (Sax protocol §4.1)."""
    return as_meant(error.code(), error.details() or "")


def as_meant(code: grpc.StatusCode, words: str) -> Status:
    """Returns a status with the code that was meant, if that stands in the words only, and words without it."""
    if match := _GO_STATUS.fullmatch(words):
        if code is Code.UNKNOWN:
            code = go_code(match["code"])
        words = match["context"].removesuffix(": ")
        if match["desc"] != match["code"]:
            words = f"{words}: {match['desc']}" if words else match["desc"]
    return Status(code, words)


def go_code(name: str) -> grpc.StatusCode:
    """Returns the code that Go spells so, such as "NotFound"; UNKNOWN for a name that is none."""
    return _GO_CODES.get(name.lower(), Code.UNKNOWN)


def admin_error(  # noqa: PLR0911 -- one for each meaning
    status: Status, cell: str, model: str | None, *, wrote: bool = False
) -> SaxError:
    """Returns the error that an admin's answer is, or the lack of one.

    Args:
        status: the answer.
        cell: the admin's cell.
        model: the model that was asked about, if one was.
        wrote: whether the request may have changed something.
    """
    code, words = status
    match code:
        case Code.NOT_FOUND if model and words.startswith("model server "):
            # What Stats says for a moment after one fell silent (Sax protocol §4.2).
            return AdminUnavailable(f"the admin of {cell} is just taking a model server out; try again in a moment")
        case Code.NOT_FOUND if model:
            return ModelNotFound(f"{model} is not published; publish it first")
        case Code.ALREADY_EXISTS if model:
            return ModelExists(f"{model} is published already; update it, or unpublish it first")
        case Code.INVALID_ARGUMENT:
            return InvalidArgument(f"{cell} refused the request: {_passed_on(words)}")
        case Code.UNAVAILABLE if status.being_unpublished:
            return AdminUnavailable(
                f"{model} was just unpublished and its name is not free yet; try again in ten seconds"
            )
        case Code.UNAVAILABLE | Code.DEADLINE_EXCEEDED:
            happened = "did not answer in time" if code is Code.DEADLINE_EXCEEDED else "is not available"
            if wrote:
                return AdminUnavailable(
                    f"the admin of {cell} {happened}, and whether it carried out the request is not known; "
                    f"look at {model} before trying again"
                )
            return AdminUnavailable(f"the admin of {cell} {happened}; try again later, or check that it runs")
        case Code.RESOURCE_EXHAUSTED if size := _SIZE_LIMIT.search(words):
            return _too_large(f"the admin of {cell}", size, of_request=wrote and not size["ours"])
    return CellError(code, f"the admin of {cell} answered {code.name}: {_first_line(words)}")


def data_error(status: Status, model: str, request_bytes: int, *, remedy: str = _OWN_LIMIT) -> SaxError:
    """Returns the error that a model server's answer is if it does not ask to be retried elsewhere.

    `request_bytes` is the size of the request, `remedy` what helps against an answer that is too large for us.
    """
    code, words = status
    match code:
        case Code.INVALID_ARGUMENT:
            return InvalidArgument(f"{model} refused the request: {_passed_on(words)}")
        case Code.RESOURCE_EXHAUSTED if size := _SIZE_LIMIT.search(words):
            of_request = request_bytes > int(size["limit_bytes"]) and not size["ours"]
            return _too_large(f"a model server of {model}", size, of_request=of_request, remedy=remedy)
    return CellError(code, f"a model server of {model} answered {code.name}: {_first_line(words)}")


def stream_error(status: Status, model: str) -> SaxError:
    """Returns the error that the end of a model server's stream is, if some of it has come."""
    if status.retry_elsewhere or status.code is Code.DEADLINE_EXCEEDED:
        return StreamBroken(f"a model server of {model} went away in the middle of its answer; ask again")
    return data_error(status, model, 0)


def _too_large(server: str, size: re.Match[str], *, of_request: bool, remedy: str = _OWN_LIMIT) -> SaxError:
    size_bytes, limit_bytes = size["size_bytes"], size["limit_bytes"]
    if of_request:
        return InvalidArgument(f"the request is {size_bytes} bytes, and {server} takes {limit_bytes}; make it shorter")
    return CellError(
        Code.RESOURCE_EXHAUSTED,
        f"{server} answered with {size_bytes} bytes, over the limit of {limit_bytes}; ask for less, or {remedy}",
    )


def _passed_on(words: str) -> str:
    """A refusal in the cell's words; without a traceback, should it carry one."""
    return words.partition("\nTraceback")[0].strip()[:_MAX_WORDS] or "it did not say why"


def _first_line(words: str) -> str:
    """What may be shown of an error inside the cell: no traceback, paths or addresses (Sax protocol §9.1.10)."""
    line = _PYTHON.sub("", words.strip().partition("\n")[0])
    return _PRIVATE.sub("…", line)[:_MAX_WORDS] or "it did not say why"
