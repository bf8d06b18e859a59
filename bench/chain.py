"""What the interceptors cost each call, whichever door it comes through: `python -m bench.chain`.

Calls of Generate are made of the gateway's table of endpoints, in process and one after the other, over a Sax client
that answers at once and tells its observer as the real one does. So what is measured is all that is around a handler,
and nothing of doors, sockets and model servers. The bare handler is taken off. Each case has a process of its own, on a
core of its own; what others have to do with the spans that it sends, a collector on the other core, does not count.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click
import grpc
import orjson

from bench import process
from bench.markdown import row
from bench.serving import run, tune
from saxgw.telemetry.shared_metrics import FILES_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saxgw.rpc.endpoint import UnaryEndpoint
    from saxgw.sax import Observer

_MODEL: Final = "/sax/bench/lm"
_HEADERS: Final = {"user-agent": "bench", "x-request-id": "0123456789abcdef"}
_TRACED: Final = {**_HEADERS, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
_UNSAMPLED: Final = {**_HEADERS, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}

_AIM_US: Final = 25.0


@dataclass(frozen=True)
class Case:
    """What is on."""

    name: str
    settings: Mapping[str, Any]
    headers: Mapping[str, str]
    workers: bool = False
    """Whether metrics are shared with other workers, by files."""
    keys: bool = False
    """Whether callers need an API key, and have one."""
    traces: bool = False
    """Whether there is a collector."""
    bare: bool = False
    """Whether there is nothing around the handler."""


_OFF: Final = {"log_calls": False}
_METRICS: Final = {**_OFF, "admin_port": 0}
_QUOTAS: Final = {"max_calls_per_key": 1000, "max_rate_per_key": 1e9}
_ALL: Final = {"log_calls": True, "admin_port": 0, **_QUOTAS}

CASES: Final = (
    Case("the bare handler", _OFF, _HEADERS, bare=True),
    Case("everything off", _OFF, _HEADERS),
    Case("metrics", _METRICS, _HEADERS),
    Case("metrics, shared by workers", _METRICS, _HEADERS, workers=True),
    Case("a log line for each call", {"log_calls": True}, _HEADERS),
    Case("traces, of which none is sampled", _OFF, _UNSAMPLED, traces=True),
    Case("traces, all of them sampled", _OFF, _TRACED, traces=True),
    Case("API keys", _OFF, _HEADERS, keys=True),
    Case("API keys, and quotas for each", {**_OFF, **_QUOTAS}, _HEADERS, keys=True),
    Case("everything on, no trace sampled", _ALL, _UNSAMPLED, keys=True, traces=True),
    Case("everything on, all traces sampled", _ALL, _TRACED, keys=True, traces=True),
    Case("everything on, with workers, all traces sampled", _ALL, _TRACED, keys=True, workers=True, traces=True),
)


class _InstantClient:
    """As much of a SaxClient as Generate needs."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        observer.replicas(_MODEL, 1, 1)

    async def generate(self, model: str, _text: str, _extra_inputs: object = None) -> list[tuple[str, float]]:
        """Answers at once."""
        self._observer.sending(model, "lm.generate", "127.0.0.1:14001", 1).over(grpc.StatusCode.OK)
        return [("Once upon a time", -1.0)]


async def _measure(case: Case, collector: str, folder: Path, rounds: int, calls: int) -> dict[str, float]:
    """CPU time of a call in microseconds: that of the event loop's thread, and that of the whole process."""
    from saxgw.access.gate import access  # noqa: PLC0415 - the variable for workers must be there before
    from saxgw.access.key_file import KeyFile  # noqa: PLC0415 - likewise
    from saxgw.access.keys import ApiKey  # noqa: PLC0415 - likewise
    from saxgw.gateway import SERVICE, endpoints  # noqa: PLC0415 - likewise
    from saxgw.rpc.call import Call, request_id  # noqa: PLC0415 - likewise
    from saxgw.rpc.endpoint import make_endpoints  # noqa: PLC0415 - likewise
    from saxgw.service import SaxService  # noqa: PLC0415 - likewise
    from saxgw.settings import Settings  # noqa: PLC0415 - likewise
    from saxgw.telemetry.telemetry import Telemetry  # noqa: PLC0415 - likewise
    from saxgw.v1 import sax_service_pb2 as pb  # noqa: PLC0415 - likewise

    headers, needed = {**case.headers}, {**case.settings}
    if case.traces:
        needed["otlp_endpoint"] = f"http://{collector}"
    if case.keys:
        key, known = ApiKey.new("bench", ["generate"])
        KeyFile(folder / "keys").add(known)
        headers["authorization"] = f"Bearer {key}"
        needed["api_keys"] = str(folder / "keys")
    settings = Settings(sax_root="/unused", **needed)
    request = pb.GenerateRequest(model=_MODEL, query="Q: Who is Harry Potter's mom? A: ")

    async def receive() -> pb.GenerateRequest:
        return request

    async with Telemetry(settings, "0") as telemetry, access(settings) as allowed:
        client: Any = _InstantClient(telemetry.observer)
        bare = make_endpoints(SERVICE, SaxService(client))
        table = bare if case.bare else endpoints(settings, client, allowed=allowed, telemetry=telemetry)
        generate = cast("UnaryEndpoint", next(each for each in table if each.method.name == "Generate"))
        tune()
        loop_us, process_us = [], []
        for _ in range(rounds + 1):
            began_loop, began_process = time.thread_time(), time.process_time()
            for _ in range(calls):
                call = Call("grpc", None, headers, request_id(headers["x-request-id"]), lambda: "127.0.0.1")
                await generate.handler(call, receive)
            loop_us.append((time.thread_time() - began_loop) / calls * 1e6)
            process_us.append((time.process_time() - began_process) / calls * 1e6)
    # The quickest, since whatever else runs on the machine only adds. The first round is to warm up.
    return {"loop_us": min(loop_us[1:]), "process_us": min(process_us[1:])}


def _run_case(number: int, collector: str, rounds: int, calls: int) -> None:
    """Measures one case in this process, and prints what it measured."""
    from saxgw.telemetry.log import logging_to_stderr  # noqa: PLC0415 - imports what is to be imported later

    case = CASES[number]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where the log goes
    with logging_to_stderr("info", "json"), tempfile.TemporaryDirectory() as folder:
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # spans come faster than any collector takes them
        click.echo(orjson.dumps(run(_measure(case, collector, Path(folder), rounds, calls))))


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Samples of each case.")
@click.option("--calls", default=20_000, show_default=True, type=click.IntRange(min=1), help="Calls in a sample.")
@click.option("--case", type=int, hidden=True)
@click.option("--collector", default="", hidden=True)
def main(rounds: int, calls: int, case: int | None, collector: str) -> None:
    """Measure what is around each call: with everything off, with everything on, and part by part."""
    if case is not None:
        _run_case(case, collector, rounds, calls)
        return
    core, other_core = process.two_cores()
    click.echo(row("around a call", "event loop", "all threads", f"aim: ≤ {_AIM_US:g} µs in the event loop"))
    click.echo(row("---", "---", "---", "---"))
    bare: dict[str, float] = {}
    with process.serving(other_core, "bench.collector") as server, tempfile.TemporaryDirectory() as folder:
        for number, each in enumerate(CASES):
            arguments = (
                f"--case={number}",
                f"--collector={server.addresses[0]}",
                f"--rounds={rounds}",
                f"--calls={calls}",
            )
            if each.workers:
                os.environ[FILES_VARIABLE] = folder
            else:
                os.environ.pop(FILES_VARIABLE, None)
            cost: dict[str, float] = orjson.loads(process.run(core, "bench.chain", *arguments))
            if each.bare:
                bare = cost
                click.echo(
                    row(each.name, f"{cost['loop_us']:.1f} µs", f"{cost['process_us']:.1f} µs", "taken off below")
                )
                continue
            loop_us, process_us = (cost[key] - bare[key] for key in ("loop_us", "process_us"))
            verdict = ("reached" if loop_us <= _AIM_US else "missed") if each.settings is _ALL else ""
            click.echo(row(each.name, f"{loop_us:.1f} µs", f"{process_us:.1f} µs", verdict))


if __name__ == "__main__":
    main()
