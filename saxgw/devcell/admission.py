"""How many requests a method of a model takes at a time (Sax protocol §5.7)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from saxgw.devcell.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Admission:
    """Slots for requests that wait or run. There is no queue: what finds no slot is refused.

    Args:
        model_key: Full name of the model.
        method: The method, such as "lm.generate".
        limit: How many slots there are.
    """

    def __init__(self, model_key: str, method: str, limit: int) -> None:
        self._model_key = model_key
        self._method = method
        self.limit = limit
        self.taken = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Holds a slot. It is given back however the request ends, by a deadline too, unlike in Sax."""
        if self.taken >= self.limit:
            service = self._method.partition(".")[0]
            key = f"MethodKey(name={self._method!r}, service_id={service!r}, model_key={self._model_key!r})"
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Too many requests: {key} {self.limit}")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
