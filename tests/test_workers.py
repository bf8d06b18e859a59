"""Several workers on the same ports: they share the work, are replaced when they die, and leave together."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import grpc
import pytest

from saxgw.cli.workers import usable_cpus
from saxgw.cli.workers.ports import held
from saxgw.devcell import DevCell
from saxgw.telemetry.shared_metrics import shared_metrics
from tests.conftest import definition
from tests.held_model import HELD, HeldModel
from tests.load import Load
from tests.ports import kept_port
from tests.process import Running, clean, command, run, running, start
from tests.telemetry.scrape import scrape

TIMEOUT_S = 60
"""No test waits nearly as long."""


def children(pid: int) -> list[int]:
    """The children of a process, oldest first: proc(5)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def connections(pid: int, port: int) -> int:
    """How many established connections to a port a process has."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "01" and int(local.rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{inode}]")
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            count += os.readlink(descriptor) in inodes  # noqa: PTH115 - a socket is no path
    return count


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def ended(pids: list[int]) -> None:
    """Waits until processes have ended that need not be our children."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TIMEOUT_S):
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            over = asyncio.Event()
            loop.add_reader(descriptor, over.set)
            await over.wait()
            loop.remove_reader(descriptor)
            os.close(descriptor)


async def said(gateway: Running, pattern: str) -> re.Match[str]:
    """Reads what a gateway says until a line matches."""
    assert gateway.process.stderr is not None
    async with asyncio.timeout(TIMEOUT_S):
        while line := (await gateway.process.stderr.readline()).decode():
            if match := re.search(pattern, line):
                return match
    raise AssertionError(f"never said: {pattern}")


async def replaced(gateway: Running, workers: list[int]) -> list[int]:
    """Waits until a worker that is none of these takes connections over HTTP; returns the workers."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://{gateway.http_address}/livez") as answer,
            ):
                assert answer.status == 200
                now = children(gateway.process.pid)
                if any(connections(pid, port_of(gateway.http_address)) for pid in set(now) - set(workers)):
                    return now


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what is seen in proc(5), which has no events."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    cell: DevCell,
    *arguments: str,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
    ports: tuple[int, int] = (0, 0),
) -> AsyncIterator[tuple[Running, list[int]]]:
    """`saxgw serve` with workers, whose process ids come with it."""
    arguments = ("serve", "--sax-root", cell.root, "--workers", str(workers), *arguments)
    async with running(*arguments, environment=environment, ports=ports) as gateway:
        assert gateway.serving.startswith(f"cells of {cell.root}, ")
        assert gateway.serving.endswith(f", {workers} workers")
        pids = children(gateway.process.pid)
        assert len(pids) == workers
        yield gateway, pids
    await ended(pids)


@asynccontextmanager
async def hanging(*arguments: str) -> AsyncIterator[tuple[Running, list[int]]]:
    """Workers of which one has a call to answer that does not end by itself."""
    held = HeldModel()
    async with (
        DevCell(models=held.classes) as cell,
        serving(cell, "--drain-timeout=60", "--log-level=warning", *arguments) as (gateway, workers),
        aiohttp.ClientSession(f"http://{gateway.http_address}") as session,
    ):
        async with session.post("/publish", json=definition("/sax/test/held", model_path=HELD)) as response:
            assert response.status == 200
        call = asyncio.ensure_future(session.post("/generate", json={"model": "/sax/test/held", "query": "x"}))
        await held.until(lambda: held.running == 1)
        yield gateway, workers
        with pytest.raises(aiohttp.ClientError):
            await call


async def test_every_worker_serves(cell: DevCell) -> None:
    """Connections to both doors are spread over all workers."""
    async with AsyncExitStack() as stack:
        gateway, workers = await stack.enter_async_context(serving(cell))
        for _ in range(40):
            session = await stack.enter_async_context(aiohttp.ClientSession(f"http://{gateway.http_address}"))
            assert (await session.get("/livez")).status == 200
            options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(gateway.grpc_address, options))
            await channel.channel_ready()
        for address in (gateway.http_address, gateway.grpc_address):

            def shares(port: int = port_of(address)) -> list[int]:
                return [connections(pid, port) for pid in workers]

            await until(lambda: sum(shares()) == 40)
            assert min(shares()) > 0


async def test_killed_worker_is_replaced(cell: DevCell, published: str) -> None:
    """Calls go on while a worker is dead, and another takes its place."""
    async with serving(cell) as (gateway, workers), Load(published, resend=True) as load:
        for _ in range(6):
            load.http([gateway.http_address])
            load.grpc([gateway.grpc_address])
        await load.answers(3)
        os.kill(workers[0], signal.SIGKILL)
        await said(gateway, rf"worker 1 \(process {workers[0]}\) was killed by SIGKILL; another is started")
        await load.answers(3)
        now = await replaced(gateway, workers)
        assert workers[1] in now
        assert len(now) == 2
        await load.answers(3)


async def test_worker_that_is_told_to_leave_finishes(cell: DevCell, published: str) -> None:
    """SIGTERM to one worker has it finish what is running; no request is lost, and another takes its place."""
    async with serving(cell) as (gateway, workers), Load(published) as load:
        for _ in range(6):
            load.http([gateway.http_address])
        await load.answers(3)
        os.kill(workers[1], signal.SIGTERM)
        os.kill(workers[1], signal.SIGTERM)  # which is not taken for impatience
        await said(gateway, rf"worker 2 \(process {workers[1]}\) ended with exit code 0; another is started")
        assert workers[0] in await replaced(gateway, workers)
        await load.answers(3)


@pytest.fixture
def never_steady(tmp_path: Path) -> Mapping[str, str]:
    """Variables with which a worker has died at once however long it took to start, and to die."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if '-P' not in sys.orig_argv:\n"  # it is the supervisor
        "    from saxgw.cli.workers import supervisor\n"
        "    supervisor._STEADY_S = 3600.0\n"
    )
    return {"PYTHONPATH": str(tmp_path)}


async def test_worker_that_dies_at_once(cell: DevCell, never_steady: Mapping[str, str]) -> None:
    """The pause before another worker is started doubles if they die at once."""
    async with serving(cell, environment=never_steady) as (gateway, workers):
        for pause in ("0.1", "0.2", "0.4"):
            dying = children(gateway.process.pid)[-1]
            os.kill(dying, signal.SIGKILL)
            await said(gateway, rf"worker 2 \(process {dying}\) was killed by SIGKILL; another is started in {pause} s")
            await until(lambda: len(children(gateway.process.pid)) == 2)
        assert workers[0] in children(gateway.process.pid)


async def test_worker_that_cannot_be_started(cell: DevCell, never_steady: Mapping[str, str]) -> None:
    """If there is no other process to be had, the supervisor tries again, and the rest goes on."""
    async with serving(cell, environment=never_steady) as (gateway, workers):
        limits = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (5, limits[1]))
        os.kill(workers[0], signal.SIGKILL)
        await said(gateway, "worker 1 cannot be started: Too many open files; another is started in 0.2 s")
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, limits)
        await replaced(gateway, workers)


async def test_sigterm_under_load(cell: DevCell, published: str) -> None:
    """Every request that a worker took is answered, and the supervisor exits with 0, having been ready once."""
    async with serving(cell, "--drain-timeout=20") as (gateway, _):
        async with Load(published, may_cross=True) as load:
            for _ in range(6):
                load.http([gateway.http_address])
                load.grpc([gateway.grpc_address])
            await load.answers(3)
            load.last()
            gateway.process.send_signal(signal.SIGTERM)
            output, errors = await asyncio.wait_for(gateway.process.communicate(), TIMEOUT_S)
        assert gateway.process.returncode == 0
        assert output == b""
        lines = errors.decode().splitlines()
        assert '"method":"Generate","door":"grpc"' in errors.decode()
        assert [line for line in lines if '"level":"info"' not in line] == ["saxgw: SIGTERM, finishing what is running"]
        assert not [crossed for crossed in load.crossed if crossed in errors.decode()]


async def test_signal_to_all(cell: DevCell, published: str) -> None:
    """A signal that workers get as well, as from systemd, is not taken for a second one."""
    async with serving(cell, "--drain-timeout", "20") as (gateway, workers):
        async with Load(published, may_cross=True) as load:
            for _ in range(6):
                load.http([gateway.http_address])
            await load.answers(3)
            load.last()
            for pid in (*workers, gateway.process.pid, *workers):
                os.kill(pid, signal.SIGTERM)
            code, errors = await gateway.stop(signal.SIGCONT)
        assert code == 0
        assert '"method":"Generate"' in errors
        assert not [crossed for crossed in load.crossed if crossed in errors]


async def test_sigterm_while_starting(tmp_path: Path) -> None:
    """SIGTERM while workers are still loading their code ends all of them, with exit code 0."""
    (tmp_path / "sitecustomize.py").write_text("import sys, time\nif '-P' in sys.orig_argv: time.sleep(3600)\n")
    process = await start(
        *("serve", "--sax-root", str(tmp_path), "--workers=2", "--http-port=0", "--grpc-port=0"),
        environment={"PYTHONPATH": str(tmp_path)},
    )
    await until(lambda: len(children(process.pid)) == 2)
    workers = children(process.pid)
    process.send_signal(signal.SIGTERM)
    output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert (process.returncode, output) == (0, b"")
    await ended(workers)


async def test_second_signal() -> None:
    """A second signal does not wait for what is running."""
    async with hanging() as (gateway, workers):
        gateway.process.send_signal(signal.SIGTERM)
        await said(gateway, "SIGTERM, finishing what is running")
        code, errors = await gateway.stop(signal.SIGINT)
        assert (code, errors) == (128 + signal.SIGINT, "")
        await ended(workers)


async def test_worker_that_dies_while_leaving() -> None:
    """If a worker could not finish, the supervisor says so and exits with 1."""
    async with hanging() as (gateway, workers):
        gateway.process.send_signal(signal.SIGTERM)
        await said(gateway, "SIGTERM, finishing what is running")
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        _, errors = await asyncio.wait_for(gateway.process.communicate(), TIMEOUT_S)
        assert gateway.process.returncode == 1
        assert b"was killed by SIGKILL\n" in errors
        assert b"another" not in errors


async def test_supervisor_that_is_killed() -> None:
    """Workers end with their supervisor, if it had no time to tell them, and do not wait for what is running."""
    async with hanging() as (gateway, workers):
        gateway.process.kill()
        await ended(workers)


async def test_warning() -> None:
    """Who starts the gateway is warned once, not by every worker."""
    host = "0.0.0.0"  # noqa: S104 - that is what there is a warning for
    async with running("serve", "--sax-root=/tmp", "--workers=2", "--host", host) as gateway:
        _, errors = await gateway.stop(signal.SIGTERM)
    assert errors.count("nobody is asked who they are") == 1


async def test_metrics_of_all_workers(cell: DevCell, tmp_path: Path) -> None:
    """Any worker tells what all have counted, those that are dead as well; nothing is left of that in the end."""
    environment = {"TMPDIR": str(tmp_path)}
    async with serving(cell, "--admin-port=0", environment=environment) as (gateway, workers):
        for _ in range(40):
            async with aiohttp.ClientSession(f"http://{gateway.http_address}") as session:
                assert (await session.get("/listall?sax_cell=/sax/test")).status == 200
        admin = gateway.serving.partition("http://")[2].partition("/")[0]
        labels = {"method": "ListAll", "door": "http", "code": "OK"}
        for _ in range(10):
            assert (await scrape(admin)).value("saxgw_calls_total", **labels) == 40
        os.kill(workers[0], signal.SIGKILL)
        await said(gateway, "was killed by SIGKILL")  # until then it may be given connections
        await replaced(gateway, workers)
        assert (await scrape(admin)).value("saxgw_calls_total", **labels) == 40
        assert os.listdir(tmp_path)  # noqa: PTH208 - names are enough
        assert (await gateway.stop(signal.SIGTERM))[0] == 0
        assert not os.listdir(tmp_path)  # noqa: PTH208 - names are enough


async def test_calls_of_a_dead_worker_do_not_run() -> None:
    """What a worker was doing when it died does not count as running."""
    async with hanging("--admin-port=0") as (gateway, workers):
        admin = gateway.serving.partition("http://")[2].partition("/")[0]
        running = {"method": "Generate", "door": "http"}
        assert (await scrape(admin)).value("saxgw_calls_in_flight", **running) == 1
        (busy,) = (pid for pid in workers if connections(pid, port_of(gateway.http_address)))
        os.kill(busy, signal.SIGKILL)
        await said(gateway, "another is started")
        assert (await scrape(admin)).value("saxgw_calls_in_flight", **running) == 0
        assert (await gateway.stop(signal.SIGTERM))[0] == 0


def test_metrics_need_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder for temporary files, as in a container that has none, the error says what to do."""
    monkeypatch.setattr(tempfile, "tempdir", "/does/not/exist")
    with pytest.raises(OSError, match=r"no place: .*; set TMPDIR"), shared_metrics():
        pass


async def test_reaping(cell: DevCell) -> None:
    """Children that the supervisor did not start, as the first process of a container gets them, are reaped."""
    reader, writer = os.pipe()
    launcher = f"""
import os, sys
if os.fork() == 0:
    os.read({reader}, 1)
    os._exit(0)
os.execv(sys.argv[1], sys.argv[1:])
"""
    arguments = ("serve", "--sax-root", cell.root, "--workers=2", "--http-port=0", "--grpc-port=0")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", launcher, *command(*arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean(),
        pass_fds=(reader,),
    )
    gateway = Running(process, "", "", "")
    assert process.stdout is not None
    assert b"ready" in await process.stdout.readline()
    stranger, *workers = children(process.pid)
    assert len(workers) == 2
    os.close(writer)
    os.close(reader)
    await ended([stranger])
    os.kill(workers[0], signal.SIGKILL)
    await said(gateway, "worker 1 .* was killed")
    assert stranger not in children(process.pid)
    code, errors = await gateway.stop(signal.SIGTERM)
    assert code == 0
    assert str(stranger) not in errors


@pytest.mark.parametrize("setting", ["http", "grpc"])
async def test_port_in_use(tmp_path: Path, setting: str) -> None:
    """A port that somebody listens on is one clear line and exit code 1, without any worker being started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"http": 0, "grpc": 0, setting: taken.getsockname()[1]}
        code, output, errors = await run(
            *("serve", "--sax-root", str(tmp_path), "--workers=2"),
            *(f"--{name}-port={port}" for name, port in ports.items()),
        )
        address = f"127.0.0.1:{ports[setting]}"
    assert (code, output) == (1, "")
    assert errors == f"Error: --{setting}-port: cannot listen on {address}: Address already in use\n"


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_port_in_use_by_workers(cell: DevCell, workers: str) -> None:
    """Workers share a port with each other, and with no other gateway, be it one with workers."""
    async with serving(cell) as (gateway, _):
        for door, address in (("http", gateway.http_address), ("grpc", gateway.grpc_address)):
            ports = {"http": 0, "grpc": 0, door: port_of(address)}
            code, output, errors = await run(
                *("serve", "--sax-root", cell.root, "--workers", workers),
                *(f"--{name}-port={port}" for name, port in ports.items()),
            )
            assert (code, output) == (1, "")
            assert f"cannot listen on {address}: " in errors


async def test_ports_can_be_had_again(cell: DevCell) -> None:
    """A gateway with workers starts on the ports of one that has just left, whatever connections linger."""
    with kept_port() as http_port, kept_port() as grpc_port:
        ports = http_port, grpc_port
        async with serving(cell, ports=ports) as (first, _), aiohttp.ClientSession() as session:
            async with session.get(f"http://{first.http_address}/livez") as response:
                assert response.status == 200
            assert (await first.stop(signal.SIGTERM))[0] == 0
            async with running("serve", "--sax-root", cell.root, "--workers=2", ports=ports) as second:
                assert (second.http_address, second.grpc_address) == (first.http_address, first.grpc_address)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--sax-client=official",), 1, "Error: the official Sax client is not here"),
        (("--sax-root=nonsense://x",), 2, "Error: --sax-root: "),
        (("--host=no-such-host.invalid",), 1, "cannot listen on no-such-host.invalid:0: there is no such host\n"),
        (("--host=a..b",), 1, "cannot listen on a..b:0: there is no such host\n"),
    ],
)
async def test_workers_that_cannot_start(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    """What keeps workers from starting is told once, as without workers, and ends the supervisor."""
    ports = ("--http-port=0", "--grpc-port=0")
    got, output, errors = await run("serve", "--sax-root", str(tmp_path), "--workers=2", *ports, *arguments)
    assert (got, output) == (code, "")
    assert errors.count(said) == 1
    assert "Traceback" not in errors


async def test_worker_that_crashes_at_the_start(tmp_path: Path) -> None:
    """Workers that cannot even tell why they cannot start are an error as well, which says how they ended."""
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif '-P' in sys.orig_argv: os._exit(3)\n")
    ports = ("--http-port=0", "--grpc-port=0")
    code, output, errors = await run(
        *("serve", "--sax-root", str(tmp_path), "--workers=2", *ports), environment={"PYTHONPATH": str(tmp_path)}
    )
    assert (code, output) == (1, "")
    assert errors == "Error: a worker ended with exit code 3 before it was ready\n"


async def test_rolling_restart(cell: DevCell, published: str) -> None:
    """Two gateways are restarted one after the other under load, and clients that know both lose no request."""
    arguments = ("serve", "--sax-root", cell.root, "--drain-timeout", "20")
    async with AsyncExitStack() as stack:
        ports = [(stack.enter_context(kept_port()), stack.enter_context(kept_port())) for _ in range(2)]
        gateways = [await stack.enter_async_context(running(*arguments, ports=pair)) for pair in ports]
        http = [gateway.http_address for gateway in gateways]
        grpc = [gateway.grpc_address for gateway in gateways]
        # A client that the other gateway has just answered sends here next, be it a moment before it is told not to.
        async with Load(published, may_cross=True) as load:
            for number in range(6):
                load.http([http[number % 2], http[1 - number % 2]])
                load.grpc(grpc)
            for number, gateway in enumerate(gateways):
                await load.answers(3)
                code, errors = await gateway.stop(signal.SIGTERM)
                assert code == 0
                assert "Traceback" not in errors
                assert '"method":"Generate"' in errors
                assert not [crossed for crossed in load.crossed if crossed in errors]
                await load.answers(3)
                await stack.enter_async_context(running(*arguments, ports=ports[number]))
            await load.answers(3)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_held_port(host: str) -> None:
    """A held port is not free, nobody listens on it, and those who share it may."""
    with held(host, 0) as port, ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port))
        with socket.socket(family) as other, pytest.raises(OSError, match="in use"):
            other.bind((host, port))
        with pytest.raises(OSError, match="in use"):
            stack.enter_context(held(host, port))
        for _ in range(2):
            worker = stack.enter_context(socket.socket(family))
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind((host, port))
            worker.listen()
        stack.enter_context(socket.create_connection((host, port)))
        with pytest.raises(OSError, match="in use"):
            stack.enter_context(held(host, port))


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("max 100000", 64),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("9900000 100000", 64),
        (None, 64),
    ],
)
def test_usable_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, cpus: int) -> None:
    """There are as many CPUs as the process may run on, unless its container may use less."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(f"{quota}\n")
    assert usable_cpus(file) == cpus


async def test_as_many_workers_as_cpus(cell: DevCell) -> None:
    """0 is for as many workers as there are CPUs to use."""
    async with running("serve", "--sax-root", cell.root, "--workers", "0") as gateway:
        assert len(children(gateway.process.pid)) == (usable_cpus() if usable_cpus() > 1 else 0)
