"""An HTTP server that does nothing but read JSON and write JSON: `python -m bench.aiohttp_floor`."""

from __future__ import annotations

from typing import Final

import orjson
from aiohttp import web

from bench.example import JSON_RESPONSE
from bench.floors import serve
from bench.serving import run

_HEADERS: Final = {"Content-Type": "application/json"}


async def _generate(request: web.BaseRequest) -> web.Response:
    orjson.loads(await request.read())
    return web.Response(body=orjson.dumps(JSON_RESPONSE), headers=_HEADERS)


if __name__ == "__main__":
    run(serve("Generate", by_http=_generate))
