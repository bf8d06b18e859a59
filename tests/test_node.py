"""A Node client, with stubs made from our .proto."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import google.api
import pytest

from saxgw.gateway import Gateway
from tests.conftest import LM2B

NODE = Path(__file__).parent / "node"
PROTOS = Path(__file__).parent.parent / "protos"


@pytest.mark.skipif(shutil.which("node") is None, reason="node was not found")
@pytest.mark.skipif(not (NODE / "node_modules").exists(), reason="run `make test`, which installs what Node needs")
async def test_walkthrough_with_node(gateway: Gateway) -> None:
    """The walk-through over gRPC from Node gives what it gives from anywhere else."""
    google_protos = Path(next(iter(google.api.__path__))).parent.parent
    process = await asyncio.create_subprocess_exec(
        "node",
        NODE / "walkthrough.js",
        gateway.grpc_address,
        PROTOS,
        google_protos,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    answers = json.loads(output)
    model = "/sax/test/from-node"
    assert answers["publish"] == {"model": model, "path": LM2B, "checkpoint": "None", "replicas": 1}
    assert model in answers["listall"]["models"]
    assert all(result["text"] and result["score"] < 0 for result in answers["generate"]["results"])
    assert answers["listcell"]["active_replicas"] == 1
    assert answers["update"]["replicas"] == 2
    assert answers["unpublish"] == {"model": model}
    assert answers["error"]["code"] == 5
    assert model in answers["error"]["details"]
