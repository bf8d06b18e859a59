"""A client for Saxml cells, on grpc.aio: `async with connect(root) as sax: await sax.generate(model, text)`."""

from saxgw.sax.api import ExtraInputs, ModelDetail, Sample, SaxClient, ServerStats, ServerType, StreamItem
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
    Revised,
    RootUnavailable,
    SaxError,
    StreamBroken,
)
from saxgw.sax.names import parse_cell, parse_model
from saxgw.sax.observer import Observer, Sending

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
    "Observer",
    "ReplicasUnavailable",
    "Revised",
    "RootUnavailable",
    "Sample",
    "SaxClient",
    "SaxError",
    "Sending",
    "ServerStats",
    "ServerType",
    "StreamBroken",
    "StreamItem",
    "connect",
    "parse_cell",
    "parse_model",
]
