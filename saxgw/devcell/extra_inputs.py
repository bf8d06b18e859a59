"""Extra inputs of a request: checks, and defaults for what it leaves out (Sax protocol §5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saxgw.devcell.errors import INVALID_ARGUMENT, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saxgw.devcell.language_model import ExtraInput
    from saxgw.sax.wire.common_pb2 import ExtraInputs


def complete(sent: ExtraInputs, defaults: Mapping[str, ExtraInput]) -> Mapping[str, ExtraInput]:
    """Returns a value for each of the model's extra inputs: what was sent, or the default.

    Scalars and strings are not compared with the default's type; a tensor must have the default's length. Refuses a
    name that the model does not know, with a text that lists those it does, and one that is sent twice.
    """
    values: dict[str, ExtraInput] = {}
    kinds: tuple[tuple[str, Mapping[str, ExtraInput]], ...] = (
        ("items", dict(sent.items)),
        ("tensors", {name: list(tensor.values) for name, tensor in sent.tensors.items()}),
        ("strings", dict(sent.strings)),
    )
    for kind, inputs in kinds:
        for name, value in inputs.items():
            if name not in defaults:
                raise Refusal(
                    INVALID_ARGUMENT,
                    f"The extra_inputs key `{name}` in the RPC request is not defined in ServableModel.extra_inputs. "
                    f"Current ServableModel.extra_inputs is {dict(defaults)}.",
                )
            if name in values:
                text = f"The extra_inputs key `{name}` is in {kind} and in another field of the RPC request."
                raise Refusal(INVALID_ARGUMENT, text)
            if isinstance(value, list):
                _check_tensor(name, value, defaults[name])
            values[name] = value
    return {**defaults, **values}


def _check_tensor(name: str, value: list[float], default: ExtraInput) -> None:
    if not isinstance(default, list):
        text = f"The extra_inputs key `{name}` is a tensor in the RPC request, but its default is {default!r}."
        raise Refusal(INVALID_ARGUMENT, text)
    if len(value) != len(default):
        text = (
            f"The extra_inputs key `{name}` has {len(value)} values in the RPC request, but must have {len(default)}."
        )
        raise Refusal(INVALID_ARGUMENT, text)
