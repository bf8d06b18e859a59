"""TLS on both doors: real handshakes, client certificates, and files that change under load."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
import pytest
import trustme

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.settings import Settings
from saxgw.watched import InvalidFile
from tests.callers import Caller, CallError, GrpcCaller, HttpCaller
from tests.conftest import settings
from tests.process import run, running

DOORS = ("grpc", "http")

OPEN_VERSIONS = {ssl.TLSVersion.TLSv1_3: True, ssl.TLSVersion.TLSv1_2: True, ssl.TLSVersion.TLSv1_1: False}
"""Which versions are spoken."""


class Authority:
    """Issues certificates, and says how its files are written where a gateway or a client finds them."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, folder: Path, name: str = "server") -> None:
        """Writes a new certificate and its key."""
        made = self._ca.issue_cert("localhost", "127.0.0.1", common_name=name)
        (folder / f"{name}.pem").write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        (folder / f"{name}.key").write_bytes(made.private_key_pem.bytes())
        (folder / "ca.pem").write_bytes(self.pem)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Whom the gateway's certificate, and the client's where there is one, are from."""
    made = Authority()
    made.issue(tmp_path)
    made.issue(tmp_path, "client")
    return made


def secured(cell: DevCell, folder: Path, *, mutual: bool = False) -> Settings:
    return settings(
        cell.root,
        tls_certificate=str(folder / "server.pem"),
        tls_key=str(folder / "server.key"),
        tls_client_ca=str(folder / "ca.pem") if mutual else "",
    )


@asynccontextmanager
async def client(door: str, gateway: Gateway, authority: Authority, own: Path | None = None) -> AsyncIterator[Caller]:
    """A caller with a connection of its own that trusts the authority, and shows the certificate of a folder."""
    if door == "grpc":
        shown = (None, None) if own is None else ((own / "client.key").read_bytes(), (own / "client.pem").read_bytes())
        credentials = grpc.ssl_channel_credentials(authority.pem, *shown)
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100))
        async with grpc.aio.secure_channel(gateway.grpc_address, credentials, options) as channel:
            yield GrpcCaller(channel)
    else:
        context = ssl.create_default_context(cadata=authority.pem.decode())
        if own is not None:
            context.load_cert_chain(own / "client.pem", own / "client.key")
        async with aiohttp.ClientSession(gateway.http_url, connector=aiohttp.TCPConnector(ssl=context)) as session:
            yield HttpCaller(session, "", 0)


async def can_call(call: Caller) -> bool:
    """Whether a caller gets an answer; False if no connection comes about."""
    try:
        return bool((await call("ListCells", {}, timeout_s=60))["cells"])
    except (aiohttp.ClientConnectionError, CallError) as error:
        if isinstance(error, CallError) and error.code != "UNAVAILABLE":
            raise
        return False


@pytest.mark.parametrize("door", DOORS)
async def test_handshake(cell: DevCell, tmp_path: Path, authority: Authority, door: str) -> None:
    """A client that trusts the authority is answered; one that trusts another speaks to nobody."""
    async with Gateway(secured(cell, tmp_path)) as gateway:
        async with client(door, gateway, authority) as call:
            assert await can_call(call)
        async with client(door, gateway, Authority()) as call:
            assert not await can_call(call)


@pytest.mark.parametrize("door", DOORS)
async def test_mutual(cell: DevCell, tmp_path: Path, authority: Authority, door: str) -> None:
    """With authorities for clients, only who shows a certificate of one of them is answered."""
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    Authority().issue(stranger, "client")
    async with Gateway(secured(cell, tmp_path, mutual=True)) as gateway:
        for own, served in ((tmp_path, True), (None, False), (stranger, False)):
            async with client(door, gateway, authority, own) as call:
                assert await can_call(call) is served


@pytest.mark.parametrize("door", DOORS)
async def test_versions(cell: DevCell, tmp_path: Path, authority: Authority, door: str) -> None:
    """TLS 1.2 and 1.3 are spoken, older versions are not, and each door says by ALPN what it speaks."""
    async with Gateway(secured(cell, tmp_path)) as gateway:
        host, _, port = (gateway.grpc_address if door == "grpc" else gateway.http_address).rpartition(":")
        for version, spoken in OPEN_VERSIONS.items():
            context = ssl.create_default_context(cadata=authority.pem.decode())
            context.set_alpn_protocols(["h2", "http/1.1"])
            context.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL would not even try the old one
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the old one is deprecated
                context.minimum_version = context.maximum_version = version
            if not spoken:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await asyncio.open_connection(host, port, ssl=context)
                continue
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            connection = writer.get_extra_info("ssl_object")
            assert connection.version() == version.name.replace("_", ".")
            assert connection.selected_alpn_protocol() == ("h2" if door == "grpc" else "http/1.1")
            writer.close()


@pytest.mark.parametrize("door", DOORS)
async def test_plaintext(cell: DevCell, tmp_path: Path, authority: Authority, door: str) -> None:
    """Who does not speak TLS is not answered, and keeps nobody from being so."""
    async with Gateway(secured(cell, tmp_path)) as gateway:
        if door == "grpc":
            async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
                assert not await can_call(GrpcCaller(channel))
        else:
            async with aiohttp.ClientSession(f"http://{gateway.http_address}") as session:
                assert not await can_call(HttpCaller(session, "", 0))
        async with client(door, gateway, authority) as call:
            assert await can_call(call)


@asynccontextmanager
async def load(call: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
    """Calls all the while; none may fail."""

    async def run() -> None:
        while True:
            assert await call()

    running = [asyncio.create_task(run()) for _ in range(4)]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        assert [type(error) for error in ended] == [asyncio.CancelledError] * 4, ended


@pytest.mark.parametrize("door", DOORS)
async def test_rotation_under_load(cell: DevCell, tmp_path: Path, authority: Authority, door: str) -> None:
    """New connections get the new certificate; those that stand go on, and no call fails."""
    other = Authority()
    async with (
        asyncio.timeout(60),
        Gateway(secured(cell, tmp_path)) as gateway,
        client(door, gateway, authority) as standing,
        load(lambda: can_call(standing)),
    ):
        other.issue(tmp_path)
        served = False
        while not served:
            async with client(door, gateway, other) as call:
                served = await can_call(call)
        async with client(door, gateway, authority) as call:
            assert not await can_call(call)


@pytest.mark.parametrize("door", DOORS)
async def test_authorities_change_under_load(cell: DevCell, tmp_path: Path, authority: Authority, door: str) -> None:
    """Who shows a certificate of an authority that is gone gets no new connection; what stands goes on."""
    newcomer = tmp_path / "newcomer"
    newcomer.mkdir()
    other = Authority()
    other.issue(newcomer, "client")
    async with (
        asyncio.timeout(60),
        Gateway(secured(cell, tmp_path, mutual=True)) as gateway,
        client(door, gateway, authority, tmp_path) as standing,
        load(lambda: can_call(standing)),
    ):
        async with client(door, gateway, authority, newcomer) as call:
            assert not await can_call(call)
        (tmp_path / "ca.pem").write_bytes(other.pem)
        served = False
        while not served:
            async with client(door, gateway, authority, newcomer) as call:
                served = await can_call(call)
        async with client(door, gateway, authority, tmp_path) as call:
            assert not await can_call(call)


@pytest.mark.parametrize("broken", ["server.pem", "server.key", "ca.pem"])
async def test_broken_files_change_nothing(
    cell: DevCell, tmp_path: Path, authority: Authority, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Files that do not fit together leave the old ones in force; the log tells which."""
    async with asyncio.timeout(60), Gateway(secured(cell, tmp_path, mutual=True)) as gateway:
        if broken == "server.key":  # a good one, of another certificate
            other = tmp_path / "other"
            other.mkdir()
            Authority().issue(other)
            (other / broken).replace(tmp_path / broken)
        else:
            (tmp_path / broken).write_text("nothing")
        while "what was read before still holds" not in caplog.text:
            for door in DOORS:
                async with client(door, gateway, authority, tmp_path) as call:
                    assert await can_call(call)
        assert broken in caplog.text
        for door in DOORS:
            async with client(door, gateway, authority, tmp_path) as call:
                assert await can_call(call)


@pytest.mark.parametrize("broken", ["server.pem", "server.key", "ca.pem"])
@pytest.mark.usefixtures("authority")
async def test_no_start_with_broken_files(cell: DevCell, tmp_path: Path, broken: str) -> None:
    """A gateway does not start with files that make no sense, or are not there."""
    for content in ("nothing", None):
        (tmp_path / broken).write_text(content) if content else (tmp_path / broken).unlink()
        with pytest.raises(InvalidFile, match=broken):
            async with Gateway(secured(cell, tmp_path, mutual=True)):
                pass


@pytest.mark.usefixtures("authority")
async def test_commands(cell: DevCell, tmp_path: Path) -> None:
    """`saxgw` speaks TLS to a gateway, shows its own certificate, and says what may be wrong when nobody answers."""
    arguments = [f"--tls-certificate={tmp_path}/server.pem", f"--tls-key={tmp_path}/server.key"]
    own = {"SAXGW_CLIENT_CERTIFICATE": f"{tmp_path}/client.pem", "SAXGW_CLIENT_KEY": f"{tmp_path}/client.key"}
    trust = {"SAXGW_TLS_CA": f"{tmp_path}/ca.pem"}
    async with running(
        "serve", "--no-log-calls", "--sax-root", cell.root, f"--tls-client-ca={tmp_path}/ca.pem", *arguments
    ) as gateway:
        server = {"SAXGW_SERVER": gateway.grpc_address}
        assert await run("ls", environment=server | trust | own) == (0, "/sax/test\n", "")
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        async with (
            aiohttp.ClientSession(f"https://{gateway.http_address}") as session,
            session.get("/listcells", ssl=context) as response,
        ):
            assert await response.json() == ["/sax/test"]
        for environment in (server | trust, server | own, server, server | {"SAXGW_TLS": "1"}):
            code, output, errors = await run("ls", environment=environment)
            assert (code, output) == (1, "")
            assert "no gateway could be reached" in errors or "went away" in errors
            assert ("speaks TLS" in errors) == (len(environment) > 1)
        code, _, errors = await run("ls", environment=server | {"SAXGW_TLS_CA": "/nowhere"})
        assert (code, errors) == (1, "saxgw: /nowhere cannot be read: No such file or directory\n")
        code, _, errors = await run("ls", "--client-key", f"{tmp_path}/client.key", environment=server)
        assert code == 2
        assert "--client-certificate and --client-key go together" in errors
        assert await gateway.stop(15) == (0, "saxgw: SIGTERM, finishing what is running\n")
