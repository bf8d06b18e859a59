"""The gateway's own OpenAPI document, and the page that shows it, over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from yarl import URL

import saxgw
from saxgw.access.scopes import scope_of
from saxgw.gateway import SERVICE, openapi
from saxgw.transcoding import Transcoder
from tests.conftest import definition
from tests.docs import console_commands
from tests.process import run, running
from tests.test_docs import README
from tests.transcoding.documents import validator

DOCUMENT = openapi()
HERE = Path(__file__).parent
DOCUMENTED = {"/publish", "/listall", "/generate", "/listcell", "/update", "/unpublish"}
"""The routes that were always there, whose examples people know."""

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
"""What browsers accept when they go to a page."""


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (http_method.upper(), path): found
        for path, item in DOCUMENT["paths"].items()
        for http_method, found in item.items()
    }


def test_valid() -> None:
    """The document is valid OpenAPI 3.1, of this version of saxgw."""
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["info"]["title"] == "saxgw"
    assert DOCUMENT["info"]["version"] == saxgw.__version__


def test_every_route() -> None:
    """Every route is there, and what the door answers by itself."""
    routes = {
        (route.http_method, re.sub(r"\{\w+=([^}]*)\}", lambda found: found[1].replace("*", "{}"), str(route.template)))
        for route in Transcoder(SERVICE.methods).routes
    }
    own = {("GET", path) for path in ("/", "/openapi.json", "/docs", "/livez", "/readyz", "/healthz")}
    assert {(m, re.sub(r"\{[^}]*\}", "{}", path)) for m, path in operations()} == routes | own
    assert ("GET", "/v1/sax/{cell}/{model}") in operations()


def test_everything_is_described() -> None:
    """Every operation, parameter and property has a description, every request and answer an example."""
    for key, found in operations().items():
        assert found["summary"], key
        for parameter in found.get("parameters", []):
            assert "$ref" in parameter or parameter["description"], key
        bodies = [found.get("requestBody"), found["responses"]["200"]]
        for media in (media for body in bodies if body for media in body["content"].values()):
            assert "example" in media or key[1] in ("/openapi.json", "/docs"), key
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for member, inner in schema["properties"].items():
            assert inner.get("description") or name == "Error", (name, member)


def test_security() -> None:
    """Every operation tells the scope that a key or a token needs, where one is needed; pages need none."""
    for (_, path), found in operations().items():
        if found["tags"] == ["SaxService"]:
            method = SERVICE.methods_by_name[found["operationId"].split("_")[1]]
            assert found["security"] == [{"bearer": [scope_of(method)]}, {}], path
        else:
            assert "security" not in found


def test_errors() -> None:
    """Every operation has the errors that any request may meet, and those of its own method."""
    common = {"400", "401", "403", "404", "413", "415", "429", "431", "500", "503", "504", "default"}
    for (_, path), found in operations().items():
        if found["tags"] == ["SaxService"]:
            assert set(found["responses"]) - {"200", "409"} == common
            conflicts = path.endswith(("/publish", ":publish", "/generate_stream", ":streamGenerate"))
            assert ("409" in found["responses"]) == conflicts
    for status in ("429", "503"):
        assert "Retry-After" in DOCUMENT["components"]["responses"][f"Error{status}"]["headers"]
    assert "`NOT_FOUND`" in DOCUMENT["components"]["responses"]["Error404"]["description"]


def test_examples_are_those_of_the_readme() -> None:
    """README's walk-through sends the examples of the document, and shows its answers, where it shows one."""
    sent = set()
    for command, answer in console_commands(README):
        words = shlex.split(command)
        if "-d" not in words:
            continue
        http_method = words[words.index("-X") + 1]
        path = "/" + next(word for word in words if word.startswith("localhost:8888/")).partition("/")[2]
        if path not in DOCUMENTED:
            continue
        found = operations()[http_method, path]
        body = json.loads(words[words.index("-d") + 1])
        if http_method == "GET":
            example = {
                p["name"]: p["example"] for p in found["parameters"] if p.get("in") == "query" and "example" in p
            }
        else:
            example = found["requestBody"]["content"]["application/json"]["example"]
        assert body == example, path
        if "..." not in answer:
            assert json.loads(answer) == found["responses"]["200"]["content"]["application/json"]["example"], path
        sent.add(path)
    assert sent == DOCUMENTED


async def test_printed() -> None:
    """`saxgw openapi` prints the document, and needs no cell for it."""
    code, output, errors = await run("openapi")
    assert (code, errors) == (0, "")
    assert json.loads(output) == DOCUMENT


async def test_served(http: aiohttp.ClientSession) -> None:
    """/openapi.json is the document, indented if asked; who has it already gets 304."""
    async with http.get("/openapi.json") as response:
        body = await response.read()
        assert orjson.loads(body) == DOCUMENT
        assert response.content_type == "application/json"
        etag = response.headers["ETag"]
    async with http.get("/openapi.json?pretty=true") as response:
        assert (await response.read()).startswith(b'{\n  "openapi": "3.1.0",\n')
        assert response.headers["ETag"] != etag
    async with http.get("/openapi.json?pretty=7") as response:
        assert response.status == 400
    for known in (etag, f'"other", W/{etag}', "*"):
        async with http.get("/openapi.json", headers={"If-None-Match": known}) as response:
            assert (response.status, await response.read()) == (304, b"")
            assert response.headers["ETag"] == etag
    async with http.head("/openapi.json") as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(body)))
    async with http.post("/openapi.json") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/docs", "text/html"),
        ("/docs/page.css", "text/css"),
        ("/docs/start.js", "text/javascript"),
        ("/docs/swagger-ui.css", "text/css"),
        ("/docs/swagger-ui-bundle.js", "text/javascript"),
        ("/docs/favicon-32x32.png", "image/png"),
    ],
)
async def test_page(http: aiohttp.ClientSession, path: str, content_type: str) -> None:
    """The page and its files come with their types, may be kept, and may load nothing from elsewhere."""
    async with http.get(path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}) as response:
        assert response.status == 200
        assert response.content_type == content_type
        assert response.headers["ETag"]
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
        body = await response.read()
    async with http.head(path) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(body)))


@pytest.mark.parametrize(
    "path",
    ["/docs/", "/docs/../http.py", "/docs/%2e%2e/http.py", "/docs//etc/passwd", "/docs/page.html", "/openapi.yaml"],
)
async def test_no_other_files(http: aiohttp.ClientSession, path: str) -> None:
    """There are no other files than those that the page needs, whatever the path."""
    async with http.get(URL(path, encoded=True)) as response:
        assert response.status == 404
        assert (await response.json())["error"]["status"] == "NOT_FOUND"


async def test_root(http: aiohttp.ClientSession) -> None:
    """At the root a browser is sent to the page, every other client gets the greeting."""
    async with http.get("/", headers={"Accept": HTML}, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (307, "docs")
    async with http.get("/", headers={"Accept": HTML}) as response:
        assert (response.status, response.url.path, response.content_type) == (200, "/docs", "text/html")
    for accept in ("*/*", "application/json", ""):
        async with http.get("/", headers={"Accept": accept}) as response:
            assert await response.read() == b'{"message":"HTTP Server for SAX Client"}'
            assert response.headers["Vary"] == "Accept"


async def test_answers(http: aiohttp.ClientSession, published: str) -> None:
    """Answers of both generate routes, and the errors of both kinds, fit their schemas."""
    body = {"query": "Q: "}
    for path, request, status in (
        ("/generate", {"model": published, **body}, 200),
        (f"/v1{published}:generate", body, 200),
        ("/generate", {"model": "/sax/test/none", **body}, 404),
        ("/generate", {"model": published, "query": 7}, 400),
    ):
        template = path if path == "/generate" else "/v1/sax/{cell}/{model}:generate"
        async with http.post(path, json=request) as response:
            assert response.status == status
            answer = await response.json()
        documented = operations()["POST", template]["responses"][str(status)]
        if "$ref" in documented:
            documented = DOCUMENT["components"]["responses"][documented["$ref"].rpartition("/")[2]]
        validator(DOCUMENT, documented["content"]["application/json"]["schema"]).validate(answer)


async def test_schemathesis(tmp_path: Path) -> None:
    """Schemathesis meets no answer that the document has not, and no failure of the gateway."""
    checked = json.loads(json.dumps(DOCUMENT))
    for item in checked["paths"].values():
        for found in item.values():
            found["responses"].pop("default", None)  # with it, any status would be in the document
    # schemathesis 4.32 refuses answers with prefixItems, which it rewrites for another dialect of JSON Schema.
    generate = checked["paths"]["/generate"]["post"]["responses"]["200"]["content"]["application/json"]
    generate["schema"]["items"].update(items={"anyOf": generate["schema"]["items"].pop("prefixItems")})
    (tmp_path / "openapi.json").write_text(json.dumps(checked))
    async with running("dev", "--replica-wait", "0.2") as gateway, aiohttp.ClientSession() as session:
        address = f"http://{gateway.http_address}"
        async with session.post(f"{address}/publish", json=definition("/sax/test/lm2b")) as response:
            assert response.status == 200
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("schemathesis"),
            f"--config-file={HERE / 'schemathesis.toml'}",
            "run",
            "openapi.json",
            f"--url={address}",
            "--generation-deterministic",
            "--max-examples=10",
            "--no-color",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    assert f"Selected: {len(operations())}/{len(operations())}" in output.decode()
