"""From gRPC statuses to errors."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from saxgw.sax import (
    AdminUnavailable,
    CellError,
    InvalidArgument,
    ModelExists,
    ModelNotFound,
    SaxError,
)
from saxgw.sax.status import Status, admin_error, data_error, status_of
from tests.sax.scripted import CELL, MODEL

Code = grpc.StatusCode

ERRORS = [code for code in Code if code is not Code.OK]


def error(code: Code, words: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), words)


GO_NAMES = {
    "Canceled": Code.CANCELLED,
    "InvalidArgument": Code.INVALID_ARGUMENT,
    "DeadlineExceeded": Code.DEADLINE_EXCEEDED,
    "NotFound": Code.NOT_FOUND,
    "AlreadyExists": Code.ALREADY_EXISTS,
    "PermissionDenied": Code.PERMISSION_DENIED,
    "ResourceExhausted": Code.RESOURCE_EXHAUSTED,
    "FailedPrecondition": Code.FAILED_PRECONDITION,
    "Aborted": Code.ABORTED,
    "OutOfRange": Code.OUT_OF_RANGE,
    "Unimplemented": Code.UNIMPLEMENTED,
    "Internal": Code.INTERNAL,
    "Unavailable": Code.UNAVAILABLE,
    "DataLoss": Code.DATA_LOSS,
    "Unauthenticated": Code.UNAUTHENTICATED,
    "Unknown": Code.UNKNOWN,
}
"""The spellings of §4.1."""


@pytest.mark.parametrize(("name", "code"), GO_NAMES.items(), ids=GO_NAMES)
def test_a_code_that_go_wrapped_into_the_text_counts(name: str, code: Code) -> None:
    status = status_of(error(Code.UNKNOWN, f"model {{test lm}} is so: rpc error: code = {name} desc = {name}"))
    assert status == (code, "model {test lm} is so")


def test_every_code_has_a_go_name() -> None:
    assert set(GO_NAMES.values()) == set(ERRORS)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("plain words", (Code.UNKNOWN, "plain words")),
        ("", (Code.UNKNOWN, "")),
        ("x: rpc error: code = Strange desc = Strange", (Code.UNKNOWN, "x")),
        ("rpc error: code = NotFound desc = NotFound", (Code.NOT_FOUND, "")),
        (
            "a: rpc error: code = Internal desc = b: rpc error: code = NotFound desc = NotFound",
            (Code.NOT_FOUND, "a: rpc error: code = Internal desc = b"),
        ),
        (
            "dial: rpc error: code = Unavailable desc = connection refused",
            (Code.UNAVAILABLE, "dial: connection refused"),
        ),
        ("two\nlines: rpc error: code = NotFound desc = NotFound", (Code.NOT_FOUND, "two\nlines")),
    ],
)  # fmt: skip -- one case a line
def test_texts_of_unknown(words: str, status: tuple[Code, str]) -> None:
    assert status_of(error(Code.UNKNOWN, words)) == status


def test_a_code_that_came_through_stays_and_loses_the_suffix() -> None:
    """As an admin built with grpc-go 1.55 or later sends it."""
    wrapped = error(Code.ALREADY_EXISTS, "model {test lm} already exists: rpc error: code = NotFound desc = NotFound")
    assert status_of(wrapped) == (Code.ALREADY_EXISTS, "model {test lm} already exists")


ADMIN_ERRORS: dict[Code, tuple[type[SaxError], str]] = {
    Code.INVALID_ARGUMENT: (InvalidArgument, "/sax/test refused the request: words"),
    Code.NOT_FOUND: (ModelNotFound, "/sax/test/lm is not published; publish it first"),
    Code.ALREADY_EXISTS: (ModelExists, "/sax/test/lm is published already; update it, or unpublish it first"),
    Code.UNAVAILABLE: (
        AdminUnavailable,
        "the admin of /sax/test is not available; try again later, or check that it runs",
    ),
    Code.DEADLINE_EXCEEDED: (
        AdminUnavailable,
        "the admin of /sax/test did not answer in time; try again later, or check that it runs",
    ),
}  # fmt: skip -- one code a line


@pytest.mark.parametrize("code", ERRORS)
def test_answers_of_the_admin(code: Code) -> None:
    kind, text = ADMIN_ERRORS.get(code, (CellError, f"the admin of /sax/test answered {code.name}: words"))
    told = admin_error(Status(code, "words"), CELL, MODEL)
    assert type(told) is kind
    assert str(told) == text
    if isinstance(told, CellError):
        assert told.code is code


@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.ALREADY_EXISTS])
def test_codes_about_a_model_where_none_was_asked_about(code: Code) -> None:
    assert type(admin_error(Status(code, "words"), CELL, None)) is CellError


@pytest.mark.parametrize(
    ("code", "happened"),
    [(Code.UNAVAILABLE, "is not available"), (Code.DEADLINE_EXCEEDED, "did not answer in time")],
)
def test_a_write_without_an_answer_says_that_the_outcome_is_unknown(code: Code, happened: str) -> None:
    told = admin_error(Status(code, ""), CELL, MODEL, wrote=True)
    assert type(told) is AdminUnavailable
    assert str(told) == (
        f"the admin of /sax/test {happened}, and whether it carried out the request is not known; "
        "look at /sax/test/lm before trying again"
    )


def test_a_name_that_is_not_free_yet() -> None:
    status = Status(Code.UNAVAILABLE, "model {test lm} is being unpublished, please retry later")
    assert status.being_unpublished
    assert str(admin_error(status, CELL, MODEL, wrote=True)) == (
        "/sax/test/lm was just unpublished and its name is not free yet; try again in ten seconds"
    )


RETRIED = {Code.UNAVAILABLE, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED, Code.CANCELLED}


@pytest.mark.parametrize("code", ERRORS)
def test_which_answers_of_model_servers_are_retried(code: Code) -> None:
    status = Status(code, "Too many requests: MethodKey(lm.generate) 4")
    assert status.retry_elsewhere == (code in RETRIED)
    assert status.busy == (code in {Code.RESOURCE_EXHAUSTED, Code.CANCELLED})


@pytest.mark.parametrize("code", [code for code in ERRORS if code not in RETRIED])
def test_final_answers_of_model_servers(code: Code) -> None:
    told = data_error(Status(code, "words"), MODEL, 10)
    if code is Code.INVALID_ARGUMENT:
        assert (type(told), str(told)) == (InvalidArgument, "/sax/test/lm refused the request: words")
    else:
        assert isinstance(told, CellError)
        assert told.code is code
        assert str(told) == f"a model server of /sax/test/lm answered {code.name}: words"


TOO_LARGE = "SERVER: Received message larger than max (5000000 vs. 4194304)"


def test_a_request_over_the_servers_limit() -> None:
    status = Status(Code.RESOURCE_EXHAUSTED, TOO_LARGE)
    assert not status.retry_elsewhere
    told = data_error(status, MODEL, 5000000)
    assert type(told) is InvalidArgument
    assert str(told) == (
        "the request is 5000000 bytes, and a model server of /sax/test/lm takes 4194304; make it shorter"
    )


def test_an_answer_over_our_limit() -> None:
    told = data_error(Status(Code.RESOURCE_EXHAUSTED, TOO_LARGE), MODEL, 100)
    assert isinstance(told, CellError)
    assert told.code is Code.RESOURCE_EXHAUSTED
    assert str(told) == (
        "a model server of /sax/test/lm answered with 5000000 bytes, over the limit of 4194304; "
        "ask for less, or raise max_message_bytes of the Sax client"
    )


def test_sizes_over_limits_at_the_admin() -> None:
    status = Status(Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (5000000 vs. 4194304)")
    assert type(admin_error(status, CELL, MODEL, wrote=True)) is InvalidArgument
    assert type(admin_error(status, CELL, None)) is CellError


TRACEBACK = '\nTraceback (most recent call last):\n  File "/opt/sax/server.py", line 3, in f\nValueError: x'


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Preprocessing error: too long" + TRACEBACK, "Preprocessing error: too long"),
        ("", "it did not say why"),
        ("cannot open /home/sax/ckpt/x.bin now", "cannot open … now"),
        ("reading gs://bucket/secret/x failed", "reading … failed"),
        ("reading file:///srv/x failed", "reading … failed"),
        ("no route to 10.1.2.3:8500 or [fe80::1]:80", "no route to … or …"),
        ("/sax/test/lm is broken", "/sax/test/lm is broken"),
        ("either/or is 3/4", "either/or is 3/4"),
        ("Unexpected <class 'jaxlib.XlaRuntimeError'>: out of memory", "out of memory"),
    ],
)  # fmt: skip -- one case a line
@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNKNOWN])
def test_errors_inside_the_cell_show_no_traceback_path_or_address(code: Code, words: str, shown: str) -> None:
    assert (
        str(data_error(Status(code, words), MODEL, 0))
        == f"a model server of /sax/test/lm answered {code.name}: {shown}"
    )
    assert str(admin_error(Status(code, words), CELL, MODEL)) == f"the admin of /sax/test answered {code.name}: {shown}"


def test_refusals_keep_their_words_but_no_traceback() -> None:
    words = "The extra_inputs key `x` is not defined. Current ServableModel.extra_inputs is {'temperature': 0.1}."
    told = data_error(Status(Code.INVALID_ARGUMENT, words + TRACEBACK), MODEL, 0)
    assert str(told) == f"/sax/test/lm refused the request: {words}"
    assert len(str(data_error(Status(Code.INVALID_ARGUMENT, "x" * 10**6), MODEL, 0))) < 3000
    assert str(data_error(Status(Code.INVALID_ARGUMENT, ""), MODEL, 0)).endswith("it did not say why")
