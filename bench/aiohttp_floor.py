"""An HTTP server that does nothing but read JSON and write JSON: `python -m bench.aiohttp_floor`."""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
from aiohttp import web

from bench.example import JSON_RESPONSE
from bench.serving import HOST, run, serve_forever

_HEADERS: Final = {"Content-Type": "application/json"}


async def _generate(request: web.BaseRequest) -> web.Response:
    orjson.loads(await request.read())
    return web.Response(body=orjson.dumps(JSON_RESPONSE), headers=_HEADERS)


async def _main() -> None:
    # Without aiohttp's router, which costs more than the gateway's own way of serving.
    server = web.Server(_generate, access_log=None)
    listener = await asyncio.get_running_loop().create_server(server, HOST, 0)
    await serve_forever(f"{HOST}:{listener.sockets[0].getsockname()[1]}")


if __name__ == "__main__":
    run(_main())
