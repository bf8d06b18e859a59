"""A gateway as the replaced one was, on FastAPI: endpoints in threads, a synchronous stub under them.

`python -m bench.threaded ADMIN MODEL_SERVER` generates; with `--listing` it asks the admin for the model first, as the
replaced one did for each call.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

import click
import grpc
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from bench.serving import HOST
from saxgw.sax.wire import admin_pb2, common_pb2, lm_pb2
from saxgw.sax.wire.admin_pb2_grpc import AdminStub
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub

_ADMIN, _MODEL_SERVER, *_OPTIONS = sys.argv[1:]
_LISTING: Final = "--listing" in _OPTIONS

_admin: Final = AdminStub(grpc.insecure_channel(_ADMIN))
_lm: Final = LMServiceStub(grpc.insecure_channel(_MODEL_SERVER))

app: Final = FastAPI()


class GenerateRequest(BaseModel):
    """The body of /generate."""

    model: str
    query: str
    extra_inputs: dict[str, float] | None = None


@app.post("/generate")
def generate(request: GenerateRequest) -> list[tuple[str, float]]:
    """Has the model continue a text."""
    if _LISTING and not _admin.List(admin_pb2.ListRequest(model_id=request.model)).published_models:
        raise HTTPException(404)
    response = _lm.Generate(
        lm_pb2.GenerateRequest(
            model_key=request.model,
            text=request.query,
            extra_inputs=common_pb2.ExtraInputs(items=request.extra_inputs or {}),
        )
    )
    return [(sample.text, sample.score) for sample in response.texts]


def _main() -> None:
    with socket.create_server((HOST, 0)) as listener:
        click.echo(f"ready: {HOST}:{listener.getsockname()[1]}")
        # uvloop and httptools are taken where they are installed, as here; its access log is spared it.
        uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning")).run([listener])


if __name__ == "__main__":
    _main()
