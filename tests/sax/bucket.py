"""A bucket on loopback: as much of Google Cloud Storage's XML interface as reading and listing take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from xml.sax.saxutils import escape

from aiohttp import web


class Bucket:
    """Objects by name, "bucket/path", and the requests that were made for them."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.forbidden = False
        self.broken = False
        self.url = ""
        self.reads: list[str] = []

    async def get(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix("/")
        self.reads.append(name)
        if self.forbidden:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        if self.broken:
            return web.Response(status=500)
        if "list-type" in request.query:
            return self._list(name, request.query["prefix"])
        if name not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        headers = {"ETag": '"1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        return web.Response(body=self.objects[name], headers=headers)

    def _list(self, bucket: str, prefix: str) -> web.Response:
        """The folders in a folder; a bucket without objects is none."""
        if not any(name.startswith(f"{bucket}/") for name in self.objects):
            return web.Response(status=404, text="<Error><Code>NoSuchBucket</Code></Error>")
        folder = f"{bucket}/{prefix}"
        below = (name.removeprefix(folder) for name in self.objects if name.startswith(folder))
        names = sorted({name.partition("/")[0] for name in below if "/" in name})
        found = "".join(
            f"<CommonPrefixes><Prefix>{escape(f'{prefix}{name}/')}</Prefix></CommonPrefixes>" for name in names
        )
        return web.Response(
            text=f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>",
            content_type="application/xml",
        )


@asynccontextmanager
async def serve_bucket() -> AsyncIterator[Bucket]:
    bucket = Bucket()
    app = web.Application()
    app.router.add_get("/{name:.*}", bucket.get)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        bucket.url = f"http://{host}:{port}"
        yield bucket
    finally:
        await runner.cleanup()
