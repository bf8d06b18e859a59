"""A client for Saxml cells, on grpc.aio: `async with connect(root) as sax: await sax.generate(model, text)`."""

from saxgw.sax.api import ExtraInputs, ModelDetail, Sample, SaxClient
from saxgw.sax.client import CellClient, connect
from saxgw.sax.errors import (
    AdminUnavailable,
    Busy,
    CellError,
    CellNotFound,
    InvalidArgument,
    InvalidName,
    ModelExists,
    ModelNotFound,
    ReplicasUnavailable,
    SaxError,
)
from saxgw.sax.names import parse_cell, parse_model

__all__ = [
    "AdminUnavailable",
    "Busy",
    "CellClient",
    "CellError",
    "CellNotFound",
    "ExtraInputs",
    "InvalidArgument",
    "InvalidName",
    "ModelDetail",
    "ModelExists",
    "ModelNotFound",
    "ReplicasUnavailable",
    "Sample",
    "SaxClient",
    "SaxError",
    "connect",
    "parse_cell",
    "parse_model",
]
