"""Sends load and takes the figures: `python -m bench.load JOB`, a Job as JSON, prints a Sample as JSON.

Every answer is checked; the first one that is wrong ends the process with an error.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar, cast

import click
import grpc.aio
import orjson

from bench import example
from bench.serving import run, tune
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub
from saxgw.v1.sax_service_pb2_grpc import SaxServiceStub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class WrongAnswer(Exception):
    """Something was answered that should not have been, or not at all."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to send, and what to measure meanwhile."""

    kind: str
    """One of KINDS."""

    address: str
    """Host and port."""

    in_flight: int
    """How many requests are waiting for their answers at any time."""

    warm_up_s: float
    seconds: float
    """How long the figures are taken, after the warm-up."""

    core: int
    """Where the measured process runs."""

    pid: int | None = None
    """The process whose CPU time counts; if None the load generator's own, which tells the cost of a client call."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was seen in one run."""

    requests: int
    seconds: float

    cpu_seconds: float
    """What the measured process spent, in user and in system mode, in all its threads."""

    others_seconds: float
    """What others took of the measured process's core meanwhile, which should be next to nothing."""

    p50_ms: float
    p99_ms: float

    @property
    def cpu_us(self) -> float:
        """CPU time per request, in microseconds."""
        return self.cpu_seconds / self.requests * 1e6

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return self.requests / self.seconds

    @property
    def busy(self) -> float:
        """How much of its core the measured process used, 0 to 1.

        At well under 1 it waited for the load generator or the model server, and had to wake up more often.
        """
        return self.cpu_seconds / self.seconds

    @property
    def disturbed(self) -> float:
        """How much of its core others took, 0 to 1."""
        return self.others_seconds / self.seconds


class _Load(ABC):
    """Keeps a number of requests in flight."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        """How long each answered request took; whoever reads them may clear them."""

        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception that has ended the load."""

    @abstractmethod
    async def start(self, address: str, in_flight: int) -> None:
        """Sends the first requests; each answer is followed by another request."""

    def fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)


class _HttpLoad(_Load):
    """POST /generate over one keep-alive connection for each request in flight."""

    async def start(self, address: str, in_flight: int) -> None:
        host, port = address.split(":")
        head = (
            f"POST /generate HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(example.JSON_REQUEST)}\r\n\r\n"
        )
        request = head.encode() + example.JSON_REQUEST
        good_bodies: set[bytes] = set()
        for _ in range(in_flight):
            await asyncio.get_running_loop().create_connection(
                lambda: _HttpConnection(self, request, good_bodies), host, int(port)
            )


class _HttpConnection(asyncio.Protocol):
    def __init__(self, load: _HttpLoad, request: bytes, good_bodies: set[bytes]) -> None:
        """`good_bodies` are those found to be right, shared by all connections: JSON is not parsed for each."""
        self._load = load
        self._request = request
        self._good_bodies = good_bodies
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not instances of it
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.fail(exc or WrongAnswer("the server closed a connection"))

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        head, end_of_head, body = received.partition(b"\r\n\r\n")
        if not end_of_head:
            return
        _, _, after_name = head.lower().partition(b"\r\ncontent-length:")
        length = int(after_name.partition(b"\r\n")[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200 ") or not self._is_good(body):
            self._load.fail(WrongAnswer(received.decode(errors="replace")))
            return
        self._load.latencies_s.append(time.perf_counter() - self._sent_at)
        self._received = b""
        self._send()

    def _is_good(self, body: bytes) -> bool:
        if body not in self._good_bodies:
            if orjson.loads(body) != example.JSON_RESPONSE:
                return False
            self._good_bodies.add(body)
        return True

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)


class _GrpcLoad(_Load):
    """saxgw.v1 Generate over one channel."""

    async def start(self, address: str, in_flight: int) -> None:
        stub = SaxServiceStub(grpc.aio.insecure_channel(address))
        self._start_calls(in_flight, stub.Generate, example.REQUEST, example.RESPONSE)

    def _start_calls(
        self, in_flight: int, rpc: Callable[[_Request], Awaitable[_Response]], request: _Request, expected: _Response
    ) -> None:
        self._calling = [asyncio.create_task(self._call(rpc, request, expected)) for _ in range(in_flight)]
        for calling in self._calling:
            calling.add_done_callback(self._ended)

    async def _call(
        self, rpc: Callable[[_Request], Awaitable[_Response]], request: _Request, expected: _Response
    ) -> NoReturn:
        while True:
            sent_at = time.perf_counter()
            response = await rpc(request)
            if response != expected:
                raise WrongAnswer(str(response))
            self.latencies_s.append(time.perf_counter() - sent_at)

    def _ended(self, calling: asyncio.Task[NoReturn]) -> None:
        if not calling.cancelled():
            self.fail(calling.exception() or WrongAnswer("no answer"))


class _ModelServerLoad(_GrpcLoad):
    """Sax's own Generate over one channel, as the gateway calls a model server."""

    async def start(self, address: str, in_flight: int) -> None:
        stub = LMServiceStub(grpc.aio.insecure_channel(address))
        self._start_calls(in_flight, stub.Generate, example.MODEL_SERVER_REQUEST, example.MODEL_SERVER_RESPONSE)


KINDS: Final[dict[str, type[_Load]]] = {"http": _HttpLoad, "grpc": _GrpcLoad, "model-server": _ModelServerLoad}


async def measure(job: Job) -> Sample:
    """Does what it says."""
    load = KINDS[job.kind]()
    tune()
    await load.start(job.address, job.in_flight)
    await _run_for(job.warm_up_s, load)
    load.latencies_s.clear()
    pid = job.pid or os.getpid()
    began, process_before, core_before = time.perf_counter(), _process_seconds(pid), _core_seconds(job.core)
    await _run_for(job.seconds, load)
    ended, process_after, core_after = time.perf_counter(), _process_seconds(pid), _core_seconds(job.core)
    cpu_seconds = process_after - process_before
    if len(load.latencies_s) < job.in_flight:
        raise WrongAnswer(f"only {len(load.latencies_s)} answers within {job.seconds:g} s")
    percentiles_s = quantiles(load.latencies_s, n=100)
    return Sample(
        requests=len(load.latencies_s),
        seconds=ended - began,
        cpu_seconds=cpu_seconds,
        others_seconds=max(0, core_after - core_before - cpu_seconds),
        p50_ms=percentiles_s[49] * 1e3,
        p99_ms=percentiles_s[98] * 1e3,
    )


async def _run_for(seconds: float, load: _Load) -> None:
    """Waits, unless the load fails."""
    await asyncio.wait((load.failure,), timeout=seconds)
    if load.failure.done():
        load.failure.result()


def _process_seconds(pid: int) -> float:
    """User and system time of a process, all threads, in nanoseconds' resolution: Linux's clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def _core_seconds(core: int) -> float:
    """The time that a core was not idle, since the machine started: proc(5), /proc/stat."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    try:
        click.echo(orjson.dumps(run(measure(Job(**orjson.loads(sys.argv[1]))))))
    except (WrongAnswer, grpc.aio.AioRpcError, OSError) as error:
        sys.exit(str(error))
