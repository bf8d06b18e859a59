"""What publish and update take of a model, looked at before anything is sent."""

from __future__ import annotations

from typing import Final

from saxgw.sax.errors import InvalidArgument
from saxgw.sax.names import check_checkpoint, check_model_path, parse_model

_MAX_REPLICAS: Final = 2**31 - 1


def check_definition(model: str, model_path: str, checkpoint: str, replicas: int) -> str:
    """Returns the full name of a model after a look at all that publish and update take.

    Raises InvalidName or, for the number of replicas, InvalidArgument.
    """
    model = parse_model(model)
    check_model_path(model_path)
    check_checkpoint(checkpoint)
    check_replicas(replicas)
    return model


def check_replicas(replicas: int) -> None:
    """Raises InvalidArgument unless there can be so many replicas."""
    if not 0 <= replicas <= _MAX_REPLICAS:
        raise InvalidArgument(f"the number of replicas must be between 0 and {_MAX_REPLICAS}, got {replicas}")
