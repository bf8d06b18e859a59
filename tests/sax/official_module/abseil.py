"""Statuses as pybind11_abseil has them in Python."""

from __future__ import annotations

from enum import Enum

import grpc

StatusCode = Enum("StatusCode", {code.name: code.value[0] for code in grpc.StatusCode})  # type: ignore[misc]  # made of gRPC's
"""The canonical codes."""


class Status:
    """What went wrong."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        self._code = code
        self._message = message

    def code(self) -> StatusCode:
        return StatusCode[self._code.name]

    def message(self) -> str:
        return self._message


class StatusNotOk(Exception):
    """What the module raises."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.status = Status(code, message)
