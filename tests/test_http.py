"""HTTP's own manners: methods, content types, sizes, timeouts, and the one shape of errors."""

from __future__ import annotations

import asyncio
import gzip
import io
import re
from typing import Any

import aiohttp
import orjson
import pytest
from google.api.http_pb2 import HttpRule

from saxgw.devcell import DevCell
from saxgw.doors.http import HttpDoor
from saxgw.gateway import Gateway
from saxgw.rpc.call import Call
from saxgw.rpc.endpoint import make_endpoints
from tests.callers import HttpCaller, active_replicas
from tests.conftest import definition, settings
from tests.transcoding.schema import methods_with

BODY = {"model": "/sax/test/none", "query": "x"}


async def send(
    http: aiohttp.ClientSession, method: str, path: str, **options: Any
) -> tuple[int, Any, aiohttp.ClientResponse]:
    """Status, decoded body and response of one request."""
    if "data" in options and "skip_auto_headers" not in options:  # aiohttp would call bytes an octet-stream
        options["headers"] = {"Content-Type": "application/json", **options.get("headers", {})}
    async with http.request(method, path, **options) as response:
        text = await response.read()
        return response.status, orjson.loads(text) if text else None, response


def assert_error(payload: Any, code: int, status: str) -> str:
    """The error has the one shape; returns its message."""
    assert list(payload) == ["error"]
    error = payload["error"]
    assert set(error) == {"code", "status", "message", "details"}
    assert (error["code"], error["status"]) == (code, status)
    assert isinstance(error["details"], list)
    message: str = error["message"]
    return message


async def test_root(http: aiohttp.ClientSession) -> None:
    """The documented greeting."""
    status, payload, response = await send(http, "GET", "/")
    assert (status, payload) == (200, {"message": "HTTP Server for SAX Client"})
    assert response.content_type == "application/json"


async def test_unknown_route(http: aiohttp.ClientSession) -> None:
    """An unknown path is 404, and quoted."""
    status, payload, _ = await send(http, "GET", "/no/such/path?x=1")
    assert status == 404
    assert '"/no/such/path"' in assert_error(payload, 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/publish", {"POST", "OPTIONS"}),
        ("GET", "/update", {"PUT", "POST", "OPTIONS"}),
        ("DELETE", "/listall", {"GET", "HEAD", "OPTIONS"}),
        ("PATCH", "/v1/sax/test/lm", {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}),
        ("POST", "/", {"GET", "HEAD", "OPTIONS"}),
    ],
)
async def test_wrong_method(http: aiohttp.ClientSession, method: str, path: str, allow: set[str]) -> None:
    """A path that does not take the method is 405 with Allow; OPTIONS tells the same."""
    status, payload, response = await send(http, method, path)
    assert status == 405
    assert method in assert_error(payload, 405, "UNIMPLEMENTED")
    assert set(response.headers["Allow"].split(", ")) == allow
    status, payload, response = await send(http, "OPTIONS", path)
    assert (status, payload) == (204, None)
    assert set(response.headers["Allow"].split(", ")) == allow


async def test_own_options() -> None:
    """A rule for OPTIONS itself is among the methods that Allow names, once."""
    rules = [HttpRule(custom={"kind": "OPTIONS", "path": "/a"}), HttpRule(get="/a")]
    (service,) = {method.containing_service for method in methods_with(rules)}

    class Nothing:
        async def m0(self, _request: Any, _call: Call) -> Any:
            raise NotImplementedError

        m1 = m0

    async with (
        HttpDoor(make_endpoints(service, Nothing()), "127.0.0.1", 0) as door,
        aiohttp.ClientSession(f"http://127.0.0.1:{door.port}") as http,
    ):
        _, _, response = await send(http, "PUT", "/a")
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_head(http: aiohttp.ClientSession, published: str) -> None:
    """HEAD answers as GET does, without the body."""
    get, _, got = await send(http, "GET", f"/v1{published}")
    head, payload, headed = await send(http, "HEAD", f"/v1{published}")
    assert (get, head, payload) == (200, 200, None)
    assert headed.headers["Content-Type"] == got.headers["Content-Type"]
    assert (await send(http, "HEAD", "/"))[0] == 200
    assert (await send(http, "HEAD", "/nothing"))[0] == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"not json", "JSON"),
        (b"", "model"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"\xff", "UTF-8"),
        (b'{"model": 1}', "model"),
        (b'{"model": "/sax/test/a", "query": {}}', "query"),
        (b'{"model": "/sax/test/a", "query": "x", "qery": "y"}', "query"),
        (b'{"model": "/sax/test/a", "model": "/sax/test/b", "query": "x"}', "model"),
        (b'{"model": "/sax/test/a", "query": "x", "extra_inputs": []}', "extra_inputs"),
        (b'{"model": "/sax/test/a", "query": "x", "extra_inputs": {"temperature": NaN}}', "JSON"),
    ],
)
async def test_bad_body(http: aiohttp.ClientSession, body: bytes, said: str) -> None:
    """A body that is not what it should be is 400, says what is wrong, and does not speak of Python."""
    status, payload, _ = await send(http, "POST", "/generate", data=body)
    assert status == 400
    message = assert_error(payload, 400, "INVALID_ARGUMENT")
    assert said in message
    assert payload["error"]["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    for python in ("Traceback", "dict", "NoneType", "google.protobuf", "codec", "object at 0x"):
        assert python not in message


@pytest.mark.parametrize("replicas", ['"many"', "1.5", "true", "99999999999"])
async def test_mistyped_replicas(http: aiohttp.ClientSession, replicas: str) -> None:
    """A mistyped field is named, and its value quoted."""
    body = '{"model": "/sax/test/a", "model_path": "a.B", "checkpoint": "None", "replicas": %s}' % replicas  # noqa: UP031 - braces
    status, payload, _ = await send(http, "POST", "/publish", data=body.encode())
    assert status == 400
    assert payload["error"]["details"][0]["field_violations"][0]["field"] == "replicas"
    assert replicas in assert_error(payload, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("path", ["/publish", "/update", "/unpublish", "/generate"])
async def test_missing_model(http: aiohttp.ClientSession, path: str) -> None:
    """A body without the model says so."""
    status, payload, _ = await send(http, "POST", path, data=b"{}")
    assert status == 400
    assert "model" in assert_error(payload, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(("path", "field"), [("/listall", "sax_cell"), ("/listcell", "model")])
async def test_missing_query_parameter(http: aiohttp.ClientSession, path: str, field: str) -> None:
    """A listing without its parameter says so; so does one with a parameter nobody knows."""
    status, payload, _ = await send(http, "GET", path)
    assert status == 400
    assert field in assert_error(payload, 400, "INVALID_ARGUMENT")
    status, payload, _ = await send(http, "GET", f"{path}?{field}x=/sax/test")
    assert status == 400
    assert f"{field}x" in assert_error(payload, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded", None],
)
async def test_content_types_read_as_json(http: aiohttp.ClientSession, content_type: str | None) -> None:
    """JSON, curl's form default and no type at all are read as JSON."""
    options: dict[str, Any] = (
        {"headers": {"Content-Type": content_type}} if content_type else {"skip_auto_headers": ["Content-Type"]}
    )
    status, payload, _ = await send(http, "POST", "/generate", data=orjson.dumps(BODY), **options)
    assert status == 404
    assert_error(payload, 404, "NOT_FOUND")


@pytest.mark.parametrize("content_type", ["text/plain", "application/grpc", "multipart/form-data", "nonsense"])
async def test_other_content_types(http: aiohttp.ClientSession, content_type: str) -> None:
    """Any other type is 415, and quoted."""
    status, payload, _ = await send(
        http, "POST", "/generate", data=orjson.dumps(BODY), headers={"Content-Type": content_type}
    )
    assert status == 415
    assert content_type in assert_error(payload, 415, "INVALID_ARGUMENT")


async def test_pretty(http: aiohttp.ClientSession, published: str) -> None:
    """?pretty=true indents for people."""
    async with http.get("/listall", params={"sax_cell": "/sax/test", "pretty": "true"}) as response:
        text = await response.text()
    assert f'\n  "{published}"' in text


async def test_body_on_get(http: aiohttp.ClientSession, published: str) -> None:
    """The documented listings take a JSON body on GET, a query, or both if they agree."""
    await active_replicas(HttpCaller(http, "", 0), published, 1)  # from now on the answers are the same
    for path, field, value in (("/listall", "sax_cell", "/sax/test"), ("/listcell", "model", published)):
        body = orjson.dumps({field: value})
        by_body = await send(http, "GET", path, data=body)
        by_query = await send(http, "GET", path, params={field: value})
        by_both = await send(http, "GET", path, data=body, params={field: value})
        assert by_body[:2] == by_query[:2] == by_both[:2]
        assert by_body[0] == 200
        status, payload, _ = await send(http, "GET", path, data=body, params={field: "/sax/other"})
        assert status == 400
        assert assert_error(payload, 400, "INVALID_ARGUMENT").startswith(f"{field}: ")


async def test_documented_generate_shape(http: aiohttp.ClientSession, published: str) -> None:
    """The documented route answers arrays of [text, score]; the /v1 route objects with names."""
    query = {"query": "Q: ", "extra_inputs": {"temperature": 0}}
    _, pairs, _ = await send(http, "POST", "/generate", data=orjson.dumps({"model": published, **query}))
    _, named, _ = await send(http, "POST", f"/v1{published}:generate", data=orjson.dumps(query))
    assert pairs == [[result["text"], result["score"]] for result in named["results"]]
    assert [type(part) for part in pairs[0]] == [str, float]


async def test_update_by_post(http: aiohttp.ClientSession, published: str) -> None:
    """POST /update does what PUT /update does."""
    status, payload, _ = await send(http, "POST", "/update", data=orjson.dumps(definition(published, replicas=2)))
    assert (status, payload["replicas"]) == (200, 2)


async def test_body_names_another_model_than_the_path(http: aiohttp.ClientSession, published: str) -> None:
    """A field given in the path and in the body with another value is refused."""
    body = orjson.dumps({"model": "sax/test/another", "query": "x"})
    status, payload, _ = await send(http, "POST", f"/v1{published}:generate", data=body)
    assert status == 400
    assert assert_error(payload, 400, "INVALID_ARGUMENT").startswith("model: ")


async def test_body_too_large(http: aiohttp.ClientSession) -> None:
    """A body over the limit is 413, whether or not its length is told first."""
    large = b'{"query": "' + b"x" * 5 * 2**20 + b'"}'

    async def chunks() -> Any:
        for start in range(0, len(large), 2**16):
            yield large[start : start + 2**16]

    for data in (io.BytesIO(large), chunks()):
        status, payload, _ = await send(http, "POST", "/generate", data=data)
        assert status == 413
        assert "4194304" in assert_error(payload, 413, "INVALID_ARGUMENT")


async def test_compressed_body(http: aiohttp.ClientSession) -> None:
    """A compressed body is read, and its size counted as it is when unpacked."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    status, payload, _ = await send(http, "POST", "/generate", data=gzip.compress(orjson.dumps(BODY)), headers=headers)
    assert_error(payload, 404, "NOT_FOUND")
    bomb = gzip.compress(b" " * 50 * 2**20)
    status, payload, _ = await send(http, "POST", "/generate", data=bomb, headers=headers)
    assert status == 413
    assert "error" in payload


@pytest.mark.parametrize("path", ["/generate", "/nowhere"])
async def test_broken_compression(http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, path: str) -> None:
    """A body that is not what its header claims is the caller's mistake, whether it is read or thrown away: no log."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    broken = gzip.compress(orjson.dumps(BODY))[:10] + b"\xff" * 100
    status, payload, response = await send(http, "POST", path, data=broken, headers=headers)
    if path == "/generate":
        assert status == 400
        assert "encoding that its headers claim" in assert_error(payload, 400, "INVALID_ARGUMENT")
    else:
        assert status == 404
    async with http.get("/livez") as answer:
        assert answer.status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert response.closed


@pytest.mark.parametrize("encoding", ["br", "zstd", "nonsense", "gzip, gzip"])
async def test_unknown_content_encoding(http: aiohttp.ClientSession, encoding: str) -> None:
    """A body compressed in a way that nothing undoes is refused with what may be used instead."""
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    status, payload, response = await send(http, "POST", "/generate", data=b"\x01\x02", headers=headers)
    assert (status, payload["error"]["status"]) == (415, "INVALID_ARGUMENT")
    assert "send it as it is, or as gzip or deflate" in payload["error"]["message"]
    assert response.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Request-Timeout", "soon"), ("X-Request-Timeout", "-1"), ("X-Request-Timeout", "nan"), ("Grpc-Timeout", "5")],
)
async def test_malformed_timeout(http: aiohttp.ClientSession, header: str, value: str) -> None:
    """A timeout that nobody can read is refused by its header's name."""
    status, payload, _ = await send(http, "POST", "/generate", data=orjson.dumps(BODY), headers={header: value})
    assert status == 400
    assert f'"{value}"' in assert_error(payload, 400, "INVALID_ARGUMENT")
    assert payload["error"]["details"][0]["field_violations"][0]["field"] == header


@pytest.mark.parametrize(
    "headers",
    [{"X-Request-Timeout": "0.1"}, {"Grpc-Timeout": "100m"}, {"X-Request-Timeout": "60", "Grpc-Timeout": "100m"}],
    ids=["X-Request-Timeout", "Grpc-Timeout", "the earlier of both"],
)
async def test_timeout(http: aiohttp.ClientSession, model: str, headers: dict[str, str]) -> None:
    """A passed deadline is 504."""
    await send(http, "POST", "/publish", data=orjson.dumps(definition(model, replicas=0)))
    body = orjson.dumps({"model": model, "query": "x"})
    status, payload, _ = await send(http, "POST", "/generate", data=body, headers=headers)
    assert status == 504
    assert "0.1 s" in assert_error(payload, 504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbroken\r\n\r\n",
        b"GET http://[::g]/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
    ],
    ids=["no HTTP", "version", "header", "URL", "length"],
)
async def test_malformed_http(gateway: Gateway, sent: bytes) -> None:
    """What is not HTTP gets an error of the same shape, and the connection is closed."""
    host, port = gateway.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert_error(orjson.loads(body), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /no\xff/such HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET /v1/%ff/x HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET /listall?sax_cell=\xff HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET /listall HTTP/1.1\r\nHost: x\r\nX-Request-Timeout: \xff\r\n", 400),
        (b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: \xff\r\nContent-Length: 0\r\n", 400),
    ],
    ids=["path", "encoded path", "query", "timeout", "content type without a body"],
)
async def test_bytes_that_are_not_utf8(gateway: Gateway, sent: bytes, status: int) -> None:
    """Stray bytes in the head are refused like anything else that is wrong."""
    host, port = gateway.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent + b"Connection: close\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.split(b" ")[1] == str(status).encode(), body
    assert orjson.loads(body)["error"]["code"] == status


async def test_body_that_is_not_compressed(http: aiohttp.ClientSession) -> None:
    """A body without the encoding that its headers claim is refused."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    status, payload, _ = await send(http, "POST", "/generate", data=orjson.dumps(BODY), headers=headers)
    assert status == 400
    assert "encoding" in assert_error(payload, 400, "INVALID_ARGUMENT")


async def test_slow_body(gateway: Gateway) -> None:
    """A body that does not arrive within the caller's own deadline is waited for no longer."""
    host, port = gateway.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nX-Request-Timeout: 0.1\r\n\r\n{")
    assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 504 Gateway Timeout\r\n"
    writer.close()
    await writer.wait_closed()


async def test_web_pages_of_other_sites(http: aiohttp.ClientSession) -> None:
    """What a browser sends for a page of another site is refused, whatever it asks for."""
    headers = {"Sec-Fetch-Site": "cross-site", "Content-Type": "application/x-www-form-urlencoded"}
    status, payload, _ = await send(http, "POST", "/unpublish", data=b'{"model": "/sax/test/lm"}', headers=headers)
    assert status == 403
    assert_error(payload, 403, "PERMISSION_DENIED")


async def test_expect_continue(gateway: Gateway) -> None:
    """A client that waits to be told to send its body is told, unless the body is too large anyway."""
    host, port = gateway.http_address.split(":")
    body = orjson.dumps(BODY)
    for length, first in ((len(body), b"HTTP/1.1 100 Continue\r\n\r\n"), (2**30, b"HTTP/1.1 413 ")):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n")
        assert await reader.readexactly(len(first)) == first
        if length == len(body):
            writer.write(body)
            assert (await reader.read()).startswith(b"HTTP/1.1 404 Not Found\r\n")
        writer.close()
        await writer.wait_closed()


async def test_long_head(gateway: Gateway) -> None:
    """A request line or header beyond all measure is 431."""
    host, port = gateway.http_address.split(":")
    for sent in (
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"x" * 20_000 + b"\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.0 431 "))
        assert b"Python" not in answer


async def test_pipelining_and_keep_alive(gateway: Gateway) -> None:
    """Requests sent at once on one connection are answered in order; HTTP/1.0 closes."""
    host, port = gateway.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n")
    answers = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert re.findall(rb"HTTP/1\.[01] (\d+) ", answers) == [b"200", b"404", b"200"]


async def test_absolute_target(gateway: Gateway) -> None:
    """A request target may be an absolute URI, as proxies send it."""
    host, port = gateway.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET http://example.com/listall?sax_cell=/sax/test HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200")


async def test_ignoring_unknown_fields(cell: DevCell) -> None:
    """With --ignore-unknown-fields, unknown fields and parameters pass."""
    async with Gateway(settings(cell.root, ignore_unknown_fields=True)) as gateway, aiohttp.ClientSession() as session:
        address = f"http://{gateway.http_address}"
        status, _, _ = await send(session, "GET", f"{address}/listall?sax_cell=/sax/test&color=red")
        assert status == 200
        status, payload, _ = await send(session, "POST", f"{address}/generate", data=orjson.dumps({**BODY, "n": 1}))
        assert_error(payload, 404, "NOT_FOUND")
