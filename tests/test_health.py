"""Health, as probes ask for it over HTTP and over gRPC: both always tell the same."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from saxgw import gateway as gateways
from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.rpc import health
from saxgw.rpc.condition import READY, Condition, Look, Readiness
from saxgw.sax import SaxClient
from saxgw.service import readiness_of
from tests.callers import GrpcCaller
from tests.conftest import definition, settings
from tests.devcell.harness import QUICK, admin_at, model, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

MODEL = "/sax/test/lm"


class Probes:
    """Asks both doors of a gateway."""

    def __init__(self, http: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
        self.call = GrpcCaller(channel)
        self.stub: Any = health_pb2_grpc.HealthStub(channel)
        self.http = http

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(path) as response:
            assert response.headers.get("Cache-Control") == ("no-store" if response.status == 200 else None)
            return response.status, await response.json()

    async def status(self, subject: str = "") -> int:
        """What all ways of asking tell of the server or a model, as HTTP says it."""
        query = f"?model={subject}" if subject else ""
        by_http = {(await self.get(f"/{path}{query}"))[0] for path in ("readyz", "healthz")}
        by_grpc = set()
        for service in {subject, subject or "saxgw.v1.SaxService"}:
            try:
                answer = await self.stub.Check(health_pb2.HealthCheckRequest(service=service))
                by_grpc.add({SERVING: 200, NOT_SERVING: 503}[answer.status])
            except grpc.aio.AioRpcError as error:
                by_grpc.add({grpc.StatusCode.NOT_FOUND: 404}[error.code()])
        assert by_http == by_grpc, "the doors disagree"
        return by_http.pop()

    def becomes(self, status: int, subject: str = "") -> Callable[[], Awaitable[bool]]:
        async def held() -> bool:
            try:
                return await self.status(subject) == status
            except AssertionError:  # a look came between the two questions
                return False

        return held


@asynccontextmanager
async def probing(root: str, **changed: Any) -> AsyncIterator[Probes]:
    async with (
        Gateway(settings(root, **changed)) as gateway,
        aiohttp.ClientSession(f"http://{gateway.http_address}") as http,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        yield Probes(http, channel)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives looks the time that they need on a busy machine."""
    monkeypatch.setattr(gateways, "Health", partial(health.Health, timeout_s=60.0))


class Looks:
    """Counts how often gateways have looked at each subject, and can hold the ends of their looks."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.patience_s = 60.0
        """How long one may take; less where nobody is there to answer."""
        self._held = False
        self._passes: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))

    def hold(self) -> None:
        """From now on no look ends but by `one_each`."""
        self._held = True

    def go_on(self) -> None:
        """Ends that."""
        self._held = False
        for waiting in self._passes.values():
            waiting.release()

    async def one_each(self, *subjects: str) -> None:
        """Lets one look at each subject end, and waits for it."""
        before = self.seen.copy()
        for subject in subjects:
            self._passes[subject].release()
        await until(lambda: all(self.seen[subject] > before[subject] for subject in subjects))

    async def end(self, subject: str) -> None:
        """What is done before a look ends."""
        if self._held:
            await self._passes[subject].acquire()
        self.seen[subject] += 1


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Has gateways look so often that tests need not wait for it."""
    made = Looks()
    original = readiness_of

    def counted(sax: SaxClient) -> Look:
        look = original(sax)

        async def counted_look(subject: str) -> Condition:
            try:
                async with asyncio.timeout(made.patience_s):
                    return await look(subject)
            finally:
                await made.end(subject)

        return counted_look

    monkeypatch.setattr(gateways, "Health", partial(health.Health, interval_s=0.05, timeout_s=60.0))
    monkeypatch.setattr(gateways, "readiness_of", counted)
    return made


async def test_ready(cell: DevCell) -> None:
    """A gateway before a cell that answers is ready, and says so on all paths, by GET and by HEAD."""
    async with probing(cell.root) as probes:
        assert await probes.status() == 200
        assert await probes.get("/readyz") == (200, {"status": "ready"})
        assert await probes.get("/livez") == (200, {"status": "live"})
        async with probes.http.head("/livez") as response:
            assert (response.status, await response.read()) == (200, b"")


async def test_admin_server(cell: DevCell) -> None:
    """Probes may ask on the admin port as well, where callers cannot: there it is for TLS and keys to stay out."""
    async with (
        Gateway(settings(cell.root, admin_port=0)) as gateway,
        aiohttp.ClientSession(f"http://{gateway.admin_address}") as admin,
    ):
        for path, status in (("/livez", 200), ("/readyz", 200), ("/readyz?model=/sax/test/none", 404), ("/docs", 404)):
            async with admin.get(path) as response:
                assert response.status == status


async def test_models(cell: DevCell, published: str) -> None:
    """A model is ready once a model server has it; one that is not published is not known, nor is one of no cell."""
    async with probing(cell.root) as probes:
        await probes.call("WaitForReady", {"model": published})
        assert await probes.status(published) == 200
        assert await probes.status(published.removeprefix("/")) == 200
        for name in ("/sax/test/none", "/sax/none/lm", "nonsense"):
            assert await probes.status(name) == 404


@pytest.mark.usefixtures("looks")
async def test_model_without_model_server(cell: DevCell, model: str) -> None:
    """A model that no model server has is not ready, with a reason; a watch sees it come and go."""
    async with probing(cell.root) as probes:
        watch = probes.stub.Watch(health_pb2.HealthCheckRequest(service=model))
        assert (await watch.read()).status == SERVICE_UNKNOWN
        await probes.call("Publish", definition(model, replicas=0))
        assert (await watch.read()).status == NOT_SERVING
        status, answer = await probes.get(f"/readyz?model={model}")
        assert (status, answer["error"]["status"]) == (503, "UNAVAILABLE")
        assert f"no model server has {model} loaded" in answer["error"]["message"]
        await probes.call("Update", definition(model, replicas=1))
        assert (await watch.read()).status == SERVING
        await until(probes.becomes(200, model))
        await probes.call("Unpublish", {"model": model})
        # Its model server may be gone a moment before the model is.
        while (seen := (await watch.read()).status) != SERVICE_UNKNOWN:
            assert seen == NOT_SERVING
        watch.cancel()


async def test_admin_dies_and_comes_back(looks: Looks) -> None:
    """Without its admin a cell is not ready, while it is alive; both come back with the admin."""
    looks.patience_s = 0.5
    async with DevCell(faults=True, timing=QUICK) as cell, probing(cell.root, admin_timeout=0.3) as probes:
        await until(probes.becomes(200))
        await cell.admin.faults.kill()
        await until(probes.becomes(503))
        assert (await probes.get("/livez"))[0] == 200
        await cell.admin.faults.restart()
        await until(probes.becomes(200))


async def test_model_servers_that_answer_without_their_admin(looks: Looks) -> None:
    """While model servers answer, a dead admin does not make a gateway not ready: generating goes on."""
    looks.patience_s = 0.5
    async with DevCell(faults=True, timing=QUICK) as cell, probing(cell.root, admin_timeout=0.3) as probes:
        async with admin_at(cell.admin.address) as admin:  # which may take longer than this gateway waits for it
            await admin.publish(model("lm"))
            await admin.ready(MODEL)
        for subject in ("", MODEL):
            await until(probes.becomes(200, subject))
        request = {"model": MODEL, "query": "x", "extra_inputs": {"per_example_max_decode_steps": 1}}
        await probes.call("Generate", request)
        looks.hold()
        await cell.admin.faults.kill()
        for _ in range(3):
            # Of the first of these looks the admin may have known; of the others it does not.
            await probes.call("Generate", request)
            await looks.one_each("", MODEL)
            assert await probes.status() == await probes.status(MODEL) == 200
        # Once nobody calls, nothing shows that the cell is well.
        looks.go_on()
        await until(probes.becomes(503))
        await until(probes.becomes(503, MODEL))


async def test_no_cell(tmp_path: Path) -> None:
    """Before there is a cell, and before there is a SAX_ROOT, it is not ready, and says why."""
    for root, reason in ((tmp_path, "there is no cell"), (tmp_path / "none", "SAX_ROOT")):
        async with probing(str(root)) as probes:
            assert await probes.status() == 503
            _, answer = await probes.get("/readyz")
            assert reason in answer["error"]["message"]


async def by_name(subject: str) -> Condition:
    """There is something of each name that begins with "is"; it is ready."""
    is_there = not subject or subject.startswith("is")
    return READY if is_there else Condition(Readiness.UNKNOWN)


async def test_many_names() -> None:
    """Names that nobody asks about any more make room for others; those of something that is watched do not."""
    state = health.Health(by_name)
    watches = [state.watch(f"is watched {number}") for number in range(255)]
    for watch in watches[:-1]:
        await anext(watch)
    for number in range(1000):
        assert (await state.condition(f"asked {number}")).readiness is Readiness.UNKNOWN
    await anext(watches[-1])
    with pytest.raises(health.TooManySubjects):
        await state.condition("one more")
    await watches[0].aclose()
    await state.condition("one more")
    for watch in watches:
        await watch.aclose()


async def test_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody asks about, or no more, is not looked at; whoever asks again is told what is true then."""
    monkeypatch.setattr(health, "_FORGET_S", 0.0)
    looks: Counter[str] = Counter()

    async def look(subject: str) -> Condition:
        looks[subject] += 1
        return READY

    async def rounds() -> None:
        """Waits until all that is to be looked at has been, several times: what is watched always is."""
        wanted = looks["watched"] + 5
        await until(lambda: looks["watched"] >= wanted)

    async with health.Health(look, interval_s=0.001) as state, aclosing(state.watch("watched")) as watch:
        await anext(watch)
        await rounds()
        assert set(looks) == {"watched"}
        for name in ("", "model", ""):
            await state.condition(name)
            await rounds()
            seen = looks[name]
            await rounds()
            assert looks[name] == seen
            assert await state.condition(name) == READY
            assert looks[name] > seen
            await rounds()
        assert set(looks) == {"watched", "", "model"}


async def test_many_names_of_nothing() -> None:
    """Names of nothing make room for others even while they are watched; whoever watches them is told."""
    state = health.Health(by_name)
    watches = [state.watch(f"watched {number}") for number in range(255)]
    for watch in watches:
        assert (await anext(watch)).readiness is Readiness.UNKNOWN
    waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
    await asyncio.sleep(0)  # until each of them waits
    assert (await state.condition("is there")).readiness is Readiness.READY
    [told], others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(health.TooManySubjects):
        await told
    for other in others:
        other.cancel()
    await asyncio.wait(others)


async def test_many_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many watches run and no more; who asks but once is answered all the same."""
    monkeypatch.setattr(health, "_MAX_WATCHES", 2)
    state = health.Health()
    watches = [state.watch() for _ in range(2)]
    for watch in watches:
        await anext(watch)
    with pytest.raises(health.TooManySubjects):
        await anext(state.watch())
    assert await state.condition() == READY
    await watches[0].aclose()
    one_more = state.watch()
    assert await anext(one_more) == READY
    for watch in (one_more, watches[1]):
        await watch.aclose()


async def test_look_that_fails() -> None:
    """A look that takes too long or fails makes the subject not ready; those who ask meanwhile share one look."""
    looks = 0

    async def look(subject: str) -> Condition:
        nonlocal looks
        looks += 1
        if subject == "broken":
            raise LookupError
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async with health.Health(look, interval_s=3600, timeout_s=0.01) as state:
        assert await state.condition("broken") == (
            Readiness.NOT_READY,
            "the gateway failed unexpectedly; its log tells more",
        )
        looks = 0
        answers = await asyncio.gather(*(state.condition("slow") for _ in range(10)))
        assert set(answers) == {(Readiness.NOT_READY, "no answer within 0.01 s")}
        assert looks == 1


async def test_malformed_query(cell: DevCell) -> None:
    """A query that cannot be read is refused as everywhere."""
    async with probing(cell.root) as probes:
        status, answer = await probes.get("/readyz?model=%ff")
        assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("path", "violation", "status_without"),
    [
        ("/readyz?modle=/sax/test/lm", "modle: unknown query parameter; /readyz takes model", 200),
        ("/healthz?model=/sax/test/lm&a=1&b=2", "a: unknown query parameter; /healthz takes model", 404),
        ("/livez?model=/sax/test/lm", "model: unknown query parameter; /livez takes none", 200),
        ("/livez?=", '"": unknown query parameter; /livez takes none', 200),
    ],
)
async def test_unknown_parameter(cell: DevCell, path: str, violation: str, status_without: int) -> None:
    """A misspelled parameter is refused, lest a probe of a model tell of the server; unless such are to be ignored."""
    async with probing(cell.root) as probes:
        status, answer = await probes.get(path)
        assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert answer["error"]["message"] == violation
    async with probing(cell.root, ignore_unknown_fields=True) as probes:
        assert (await probes.get(path))[0] == status_without
