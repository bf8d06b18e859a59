"""Transcoding between HTTP/JSON and protobuf messages, by the google.api.http rules in service descriptors.

This package knows protobuf descriptors, and neither a server nor a service. The rules are specified in
google/api/http.proto, google/api/httpbody.proto, AIP-127 and the proto3 JSON mapping. Its package `openapi` describes
as OpenAPI what comes of them.
"""

from saxgw.transcoding.codec import Codec, decode_json, encode_json
from saxgw.transcoding.errors import (
    InvalidInput,
    InvalidMessage,
    InvalidRule,
    MethodNotAllowed,
    RouteNotFound,
    TranscodingError,
    Violation,
)
from saxgw.transcoding.framing import Framing, choose_framing, prefers_events
from saxgw.transcoding.route import Route
from saxgw.transcoding.transcoder import Match, Transcoder

__all__ = [
    "Codec",
    "Framing",
    "InvalidInput",
    "InvalidMessage",
    "InvalidRule",
    "Match",
    "MethodNotAllowed",
    "Route",
    "RouteNotFound",
    "Transcoder",
    "TranscodingError",
    "Violation",
    "choose_framing",
    "decode_json",
    "encode_json",
    "prefers_events",
]
