"""A client for gateways, over gRPC: `async with connect("localhost:50051") as sax: await sax.generate(model, text)`.

It is a SaxClient as that of saxgw.sax is, with the same values and errors, so that programs need not know which of the
two they have. A gateway needs no SAX_ROOT at the caller's, and one port open.
"""

from saxgw.remote.client import GatewayClient, connect
from saxgw.remote.errors import GatewayError, GatewayUnavailable

__all__ = ["GatewayClient", "GatewayError", "GatewayUnavailable", "connect"]
