"""Codes, errors and details."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.rpc import code_pb2, error_details_pb2

from saxgw.rpc.status import Code, RpcError, error_info, invalid_argument, retry_info


@pytest.mark.parametrize("code", Code, ids=lambda code: code.name)
def test_http_status_is_that_of_code_proto(code: Code) -> None:
    """Name, number and HTTP status of each code are those of google/rpc/code.proto."""
    text = (Path(code_pb2.__file__).parent / "code.proto").read_text()
    http_status, number = re.search(
        rf"HTTP Mapping: (\d+)[^\n]*\n(?:\s*//[^\n]*\n)*\s*{code.name} = (\d+);", text
    ).groups()  # type: ignore[union-attr]  # no match is a failure of the test
    assert (code.value, code.http_status) == (int(number), int(http_status))


def test_there_is_a_code_for_each_of_code_proto() -> None:
    """None is missing."""
    assert {code.name: code.value for code in Code} == dict(code_pb2.Code.items())


def test_invalid_argument_names_every_field() -> None:
    """All violations stand in the message and in the BadRequest."""
    error = invalid_argument([("a", "is missing"), ("", "is odd")])
    assert error.message == "a: is missing; is odd"
    (detail,) = error.details
    assert isinstance(detail, error_details_pb2.BadRequest)
    assert [(v.field, v.description) for v in detail.field_violations] == [("a", "is missing"), ("", "is odd")]


def test_to_proto_packs_details() -> None:
    """The status message holds code, message and details."""
    status = RpcError(Code.UNAVAILABLE, "later", [error_info("REASON"), retry_info(1.5)]).to_proto()
    assert (status.code, status.message) == (14, "later")
    assert [detail.type_url.rpartition(".")[2] for detail in status.details] == ["ErrorInfo", "RetryInfo"]


@pytest.mark.parametrize(("details", "delay_s"), [([], None), ([error_info("X"), retry_info(1.5)], 1.5)])
def test_retry_delay(details: list[error_details_pb2.ErrorInfo], delay_s: float | None) -> None:
    """The retry delay is that of the RetryInfo, if there is one."""
    assert RpcError(Code.UNAVAILABLE, "later", details).retry_delay_s == delay_s
