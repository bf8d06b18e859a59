"""Who watches what becomes of requests to models, for metrics and traces, of which this library knows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc


class Sending(Protocol):
    """One request that is with a model server."""

    @property
    def metadata(self) -> Sequence[tuple[str, str]] | None:
        """What is sent with it, as gRPC metadata."""
        ...

    def over(self, code: grpc.StatusCode) -> None:
        """Is told, once, how it ended; CANCELLED if nobody wanted the answer any more."""
        ...


class Observer(Protocol):
    """Is told what happens, within the task that it happens for; it must neither raise nor take long."""

    def waiting(self, model: str) -> Callable[[], object]:
        """A request has to wait for a replica or for room on one; what is returned is called when it does no more."""
        ...

    def sending(self, model: str, method: str, address: str, attempt: int) -> Sending:
        """A request is sent to the model server at `address`, for the `attempt`-th time, from 1."""
        ...

    def replicas(self, model: str, known: int, well: int) -> None:
        """A model, which is published, has so many replicas, of which so many are not set aside."""
        ...


class _Nobody:
    """Watches nothing; it is each of the things that an observer makes as well."""

    metadata = None

    def waiting(self, _: str) -> Callable[[], object]:
        return _nothing

    def sending(self, *_: object) -> Sending:
        return self

    def over(self, _: grpc.StatusCode) -> None:
        pass

    def replicas(self, *_: object) -> None:
        pass


def _nothing() -> None:
    pass


NOBODY: Final[Observer] = _Nobody()
"""An observer to whom all is the same."""
