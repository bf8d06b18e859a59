"""Which replica gets a request, and what happens until one has taken it: waiting, trying another, giving up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio

from saxgw.sax.backoff import RetryBudget
from saxgw.sax.errors import AdminUnavailable, Busy, ReplicasUnavailable, SaxError
from saxgw.sax.names import cell_of
from saxgw.sax.observer import NOBODY
from saxgw.sax.status import Status, data_error, status_of
from saxgw.sax.wire import lm_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from saxgw.sax.api import ModelDetail
    from saxgw.sax.observer import Observer, Sending
    from saxgw.sax.replicas import Replica, ReplicaSet
    from saxgw.sax.wire.lm_pb2_grpc import LMServiceAsyncStub

Response = TypeVar("Response")

Metadata: TypeAlias = "Sequence[tuple[str, str]] | None"
"""What goes with a request, as an observer says."""

Request: TypeAlias = lm_pb2.GenerateRequest | lm_pb2.ScoreRequest | lm_pb2.EmbedRequest
"""What model servers are asked; each names its model."""

_MOST_ATTEMPTS: Final = 12
"""How often one request is sent at the most, be it that replicas die or do not have the model."""


class Taken:
    """A request that a replica has taken, until it is done with it."""

    __slots__ = ("_method", "_replica", "_replicas", "_sending")

    def __init__(self, replicas: ReplicaSet, replica: Replica, method: str, sending: Sending) -> None:
        self._replicas = replicas
        self._replica = replica
        self._method = method
        self._sending = sending

    def done(self, code: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        """Is to be called once, when the replica is done with the request, with how that ended."""
        self._replicas.done(self._replica, self._method)
        self._sending.over(code)


@dataclass(slots=True)
class _Errand:
    """One request until a replica has taken it."""

    method: str
    request: Request

    until: float | None = None
    """Loop time when it is given up, once no replica is well."""

    attempts: int = 0
    """How often it was sent."""

    status: Status | None = None
    """What was answered last."""

    @property
    def model(self) -> str:
        return self.request.model_key


class Cells(Protocol):
    """What a dispatcher needs to know of cells."""

    def follow(self, model: str, forget: Callable[[str], object]) -> ReplicaSet:
        """Follows the replicas of a model, until `forget` is called with its name."""
        ...

    async def describe(self, model: str) -> ModelDetail:
        """As SaxClient.describe(): for who must be told why there is no answer."""
        ...


class Dispatcher:
    """Sends requests to the replicas of their models.

    Args:
        cells: Where the replicas are.
        replica_wait_s: How long a request waits for a replica that is well, in seconds.
        observer: Is told what becomes of requests.
    """

    def __init__(self, cells: Cells, replica_wait_s: float, observer: Observer = NOBODY) -> None:
        self._observer = observer
        self._cells = cells
        self._replica_wait_s = replica_wait_s
        self._replicas: dict[str, ReplicaSet] = {}
        self._retries = RetryBudget()

    def knows(self, model: str) -> bool:
        """Whether a model's replicas are followed, so that it must be a name of the right form."""
        return model in self._replicas

    async def ask(
        self, method: str, request: Request, rpc: Callable[[LMServiceAsyncStub, Metadata], Awaitable[Response]]
    ) -> Response:
        """Sends a request as take() does, and returns the answer once it is complete."""
        response, taken = await self.take(method, request, rpc)
        taken.done()
        return response

    async def take(
        self, method: str, request: Request, rpc: Callable[[LMServiceAsyncStub, Metadata], Awaitable[Response]]
    ) -> tuple[Response, Taken]:
        """Sends a request to one replica after another until one takes it.

        Where replicas are well but have as many requests as they take, it waits in a line, as long as its caller does.
        Where none is well, or those that are asked fail, it goes on for `replica_wait_s` from the first obstacle, so
        that a request whose replica dies under it is sent to another however long it had been there. No deadline goes
        with it: one that passes in a model server's queue costs the server a slot for ever (Sax protocol §5.7).

        Returns what `rpc` returned, and who is to be told when the replica is done with the request.

        Raises what generate() of SaxClient does.
        """
        errand = _Errand(method, request)
        while True:
            replicas, replica = await self._find(errand)
            errand.attempts += 1
            sending = self._observer.sending(errand.model, method, replica.server.address, errand.attempts)
            try:
                response = await rpc(replica.server.lm, sending.metadata)
            except grpc.aio.AioRpcError as error:
                sending.over(error.code())
                errand.status = status_of(error)
                final = self._not_taken(errand, replicas, replica)
                replicas.done(replica, method)
                if final is not None:
                    raise final from error
                await self._check_retry(errand, replicas)
            except BaseException:  # the caller has left
                sending.over(grpc.StatusCode.CANCELLED)
                replicas.abandoned(replica)
                replicas.done(replica, method)
                raise
            else:
                replicas.answered(replica, method)
                self._retries.earn()
                return response, Taken(replicas, replica, method, sending)

    async def aclose(self) -> None:
        """Stops following replicas."""
        for replicas in list(self._replicas.values()):
            await replicas.aclose()

    async def _find(self, errand: _Errand) -> tuple[ReplicaSet, Replica]:
        """Waits for a replica to send a request to."""
        model, method = errand.model, errand.method
        waits_no_more: Callable[[], object] | None = None
        try:
            while True:
                replicas = self._replicas.get(model) or self._watch(model)
                if errand.until is not None and asyncio.get_running_loop().time() >= errand.until:
                    raise await self._why_none(errand, replicas)
                replica = replicas.pick(method)
                if replica is None:
                    if not errand.attempts:
                        replicas.admit()
                    waits_no_more = waits_no_more or self._observer.waiting(model)
                    if replicas.are_full:
                        replica = await replicas.queue(method, again=errand.attempts > 0)
                        errand.until = None
                    else:
                        await replicas.wait(self._given_up_at(errand))
                if replica is not None:
                    return replicas, replica
        finally:
            if waits_no_more is not None:
                waits_no_more()

    def _not_taken(self, errand: _Errand, replicas: ReplicaSet, replica: Replica) -> SaxError | None:
        """Notes what a replica answered instead of an answer; returns it as an error if it is final."""
        status = errand.status
        assert status is not None  # noqa: S101 - for the type checker: it was answered something
        if not status.retry_elsewhere:
            replicas.answered(replica, errand.method)  # whatever it said: it is there and takes requests
            return data_error(status, errand.model, errand.request.ByteSize())
        if status.busy:
            replicas.refused(replica, errand.method, status.stated_limit)
        else:
            replicas.failed(replica)
            self._given_up_at(errand)
        return None

    async def _check_retry(self, errand: _Errand, replicas: ReplicaSet) -> None:
        """Raises SaxError if a request that was not taken may not be sent again."""
        if errand.status is None or errand.status.busy:
            return  # a refusal costs next to nothing, and the next time there is room
        if errand.attempts >= _MOST_ATTEMPTS or not self._retries.spend():
            raise await self._why_none(errand, replicas)

    def _given_up_at(self, errand: _Errand) -> float:
        if errand.until is None:
            errand.until = asyncio.get_running_loop().time() + self._replica_wait_s
        return errand.until

    def _watch(self, model: str) -> ReplicaSet:
        replicas = self._replicas[model] = self._cells.follow(model, self._replicas.pop)
        return replicas

    async def _why_none(self, errand: _Errand, replicas: ReplicaSet) -> SaxError:
        """Returns what to tell when no replica took a request."""
        model = errand.model
        if errand.status is not None and errand.status.busy:
            return Busy(f"the model servers of {model} have as many requests as they take; try again later")
        try:
            detail = await self._cells.describe(model)
        except AdminUnavailable as error:
            if not replicas.known:
                return error
            return ReplicasUnavailable(
                f"no model server of {model} could be reached, and neither could the admin of {cell_of(model)}; "
                "try again later, or check that they run"
            )
        except SaxError as error:
            return error
        if detail.max_replicas == 0:
            return ReplicasUnavailable(f"{model} is published with 0 replicas; update it to have 1 or more")
        return ReplicasUnavailable(
            f"no model server took the request for {model} within {self._replica_wait_s:g} s "
            f"(replicas asked for: {detail.max_replicas}, ready: {detail.active_replicas}); try again later"
        )
