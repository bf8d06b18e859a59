"""What publish and update take of a model, looked at before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saxgw.sax.errors import InvalidArgument
from saxgw.sax.names import check_checkpoint, check_model_path, parse_model

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def refuse_other_overrides(model: str, published: Mapping[str, str], asked: Mapping[str, str] | None) -> None:
    """Raises InvalidArgument if an update of a model asks for overrides that it does not have.

    An update reloads a model with the overrides that it was published with (Sax protocol §5.4).
    """
    for name, value in (asked or {}).items():
        if published.get(name) != value:
            was = f'"{published[name]}"' if name in published else "unset"
            raise InvalidArgument(
                f'an update cannot change overrides, but {name} is {was} and was to be "{value}"; '
                f"unpublish {model} and publish it with the new overrides"
            )
