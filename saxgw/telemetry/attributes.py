"""What the span of a call says of it, in the words of OpenTelemetry's semantic conventions; never what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saxgw.rpc.status import Code

if TYPE_CHECKING:
    from saxgw.telemetry.observed import ObservedCall

_OPERATIONS: Final = {
    "Generate": "text_completion",
    "GenerateStream": "text_completion",
    "BatchGenerate": "text_completion",
    "Embed": "embeddings",
}
"""Names of the operations that the conventions for generative AI know."""


def call_attributes(observed: ObservedCall) -> dict[str, str | int | float]:
    """The attributes of a call that is over."""
    call, code = observed.call, observed.code
    attributes: dict[str, str | int | float] = {
        "rpc.system.name": call.door,
        "rpc.method": observed.rpc,
        "rpc.response.status_code": code.name,
        "saxgw.request_id": call.request_id,
    }
    if peer := call.peer:
        attributes["client.address"] = peer
    if code is not Code.OK:
        attributes["error.type"] = observed.reason or code.name
    if model := observed.model:
        attributes["gen_ai.request.model"] = model
    if (operation := _OPERATIONS.get(observed.method.name)) is not None:
        attributes["gen_ai.operation.name"] = operation
    if observed.first_message_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = observed.first_message_s
    return attributes
