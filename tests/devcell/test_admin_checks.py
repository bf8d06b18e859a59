"""What the admin server refuses, in which order, and with which words (Sax protocol §1, §4.2)."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from saxgw.devcell import DevCell
from saxgw.sax.wire.admin_pb2 import (
    JoinRequest,
    ListRequest,
    Model,
    ModelServer,
    PublishRequest,
    StatsRequest,
    WaitForReadyRequest,
)
from tests.devcell.harness import GATED, Admin, model, refusal

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND

PART = "^[a-z]+[a-z0-9-_]*$"
PATH = "^[a-zA-Z]+[a-zA-Z0-9_.-]*$"
CHECKPOINT = r"^(/|\d|\w|_|\.|-|%|:|=|\||\+)+$"

MODEL_IDS = [
    ("", 'model full name "" should have the form /sax/<cell name>/<model name>'),
    ("alice", 'model full name "alice" should have the form /sax/<cell name>/<model name>'),
    ("/sax/test/", f'model name "" must match "{PART}"'),
    ("/sax/test/Alice", f'model name "Alice" must match "{PART}"'),
    ("/sax/test/a.b", f'model name "a.b" must match "{PART}"'),
    ("/sax/test/1a", f'model name "1a" must match "{PART}"'),
    ("/sax/test/a\n", f'model name "a\n" must match "{PART}"'),
    ("/sax/test/é", f'model name "é" must match "{PART}"'),
    ("bad/Alice", f'model name "Alice" must match "{PART}"'),
    ("/alice", 'cell full name "" should have the form /sax/<cell name>'),
    ("sax/test/alice", 'cell full name "sax/test" should have the form /sax/<cell name>'),
    ("/sax/test/more/alice", 'cell full name "/sax/test/more" should have the form /sax/<cell name>'),
    ("/sex/test/alice", 'cell full name "/sex/test" should have the form /sax/<cell name>'),
    ("/sax/Test/alice", f'cell name "Test" must match "{PART}"'),
    ("/sax/other/alice", 'model /sax/other/alice must be within SAX cell "/sax/test"'),
]


def changed(change: Callable[[Model], object]) -> Model:
    changing = model("alice")
    change(changing)
    return changing


@pytest.mark.parametrize(("model_id", "text"), MODEL_IDS)
async def test_model_ids(admin: Admin, model_id: str, text: str) -> None:
    stub = admin.stub
    if model_id:
        assert await refusal(stub.List(ListRequest(model_id=model_id))) == (INVALID, text)
        assert await refusal(stub.Stats(StatsRequest(model_id=model_id))) == (INVALID, text)
    assert await refusal(stub.WaitForReady(WaitForReadyRequest(model_id=model_id))) == (INVALID, text)
    with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
        await admin.unpublish(model_id)
    broken = Model(model_id=model_id, model_path="!", checkpoint_path="", requested_num_replicas=-1)
    assert await refusal(stub.Publish(PublishRequest(model=broken))) == (INVALID, text)


CHECKS: list[tuple[Callable[[Model], object], grpc.StatusCode, str]] = [
    (lambda m: setattr(m, "model_path", ""), INVALID, f'model path "" must match "{PATH}"'),
    (lambda m: setattr(m, "model_path", "1a"), INVALID, f'model path "1a" must match "{PATH}"'),
    (lambda m: setattr(m, "model_path", "a/b"), INVALID, f'model path "a/b" must match "{PATH}"'),
    (lambda m: setattr(m, "checkpoint_path", ""), INVALID, f'checkpoint path "" must match "{CHECKPOINT}"'),
    (lambda m: setattr(m, "checkpoint_path", "a b"), INVALID, f'checkpoint path "a b" must match "{CHECKPOINT}"'),
    (lambda m: setattr(m, "checkpoint_path", "a\n"), INVALID, f'checkpoint path "a\n" must match "{CHECKPOINT}"'),
    (lambda m: setattr(m, "checkpoint_path", "é"), INVALID, f'checkpoint path "é" must match "{CHECKPOINT}"'),
    (lambda m: setattr(m, "requested_num_replicas", -1), INVALID, "number of replicas -1 must be non-negative"),
    (
        lambda m: setattr(m, "admin_acl", "me"),
        INVALID,
        "me is not a valid ACL name (must start with one of [acl/])",
    ),
    (lambda m: setattr(m, "admin_acl", "acl/me"), grpc.StatusCode.UNIMPLEMENTED, "ACL check is not supported"),
    (
        lambda m: m.acls.items.update({"lm.score": "me"}),
        INVALID,
        "me is not a valid ACL name (must start with one of [acl/])",
    ),
    (
        lambda m: m.acls.items.update({"lm.score": "acl/me"}),
        grpc.StatusCode.UNIMPLEMENTED,
        "ACL check is not supported",
    ),
]


@pytest.mark.parametrize(("change", "code", "text"), CHECKS)
async def test_models(admin: Admin, change: Callable[[Model], object], code: grpc.StatusCode, text: str) -> None:
    assert await refusal(admin.stub.Publish(PublishRequest(model=changed(change)))) == (code, text)


async def test_the_method_of_an_access_list_must_exist(admin: Admin) -> None:
    request = PublishRequest(model=changed(lambda m: m.acls.items.update({"mm.score": ""})))
    code, text = await refusal(admin.stub.Publish(request))
    assert code is INVALID
    assert text
    assert text.startswith("mm.score is not a valid method name (map[am.recognize:{} lm.embed:{} lm.generate:{} ")


@pytest.mark.parametrize("character", ["1", "🐇"])
async def test_a_long_checkpoint_is_refused_quickly_and_not_quoted_in_full(admin: Admin, character: str) -> None:
    """A text of many KiB would reach the caller as RESOURCE_EXHAUSTED, for its size."""
    request = PublishRequest(model=model("alice", checkpoint=character * 100_000 + "!"))
    code, text = await refusal(admin.stub.Publish(request, timeout=10))
    assert code is INVALID
    assert text
    assert text.startswith(f'checkpoint path "{character * 100}')
    assert text.endswith("… (cut)")


async def test_what_may_look_wrong_but_is_not(admin: Admin) -> None:
    """No server need know the path, no replica need be asked for, and an access list may be empty."""
    odd = model("a_-9", path="No.one-knows_1", checkpoint="gs://b/c|d+e%20=f:0.1_", replicas=0, NO_SUCH="never")
    odd.acls.items["lm.score"] = ""
    odd.uuid = b"mine"
    await admin.publish(odd)
    listed = await admin.list_one(odd.model_id)
    odd.ClearField("uuid")
    assert listed.model == odd
    assert list(listed.modelet_addresses) == []


async def test_a_model_is_published_once(admin: Admin) -> None:
    await admin.publish(model("alice", replicas=0))
    request = PublishRequest(model=model("alice", path="other.Path"))
    assert await refusal(admin.stub.Publish(request)) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "model {test alice} already exists",
    )


async def test_what_is_not_published_is_not_found(admin: Admin) -> None:
    stub = admin.stub
    missing = (NOT_FOUND, "model {test alice} not found")
    assert await refusal(stub.List(ListRequest(model_id="/sax/test/alice"))) == missing
    assert await refusal(stub.Stats(StatsRequest(model_id="/sax/test/alice"))) == missing
    assert await refusal(stub.WaitForReady(WaitForReadyRequest(model_id="/sax/test/alice"))) == missing
    for call in (admin.unpublish("/sax/test/alice"), admin.update(model("alice"))):
        with pytest.raises(grpc.aio.AioRpcError, match=r"model \{test alice\} not found"):
            await call
    with pytest.raises(grpc.aio.AioRpcError, match="model /sax/test/alice not found"):
        await admin.watch("/sax/test/alice")


async def test_an_update_is_checked_like_a_publish_and_keeps_the_model_path(admin: Admin) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="must be non-negative"):
        await admin.update(model("alice", replicas=-1))
    await admin.publish(model("alice", replicas=0))
    with pytest.raises(grpc.aio.AioRpcError, match="invalid model update: model path can't be changed"):
        await admin.update(model("alice", path=GATED))


async def test_an_update_replaces_everything(admin: Admin) -> None:
    """What the request leaves out is erased, as in Sax (§4.2)."""
    await admin.publish(model("alice", replicas=0, BATCH_SIZE="1"))
    await admin.update(model("alice", checkpoint="other", replicas=0))
    listed = (await admin.list_one("/sax/test/alice")).model
    assert listed == model("alice", checkpoint="other", replicas=0)


async def test_a_watch_needs_a_good_name_but_not_of_this_cell(admin: Admin) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="WatchLoc seqno -1 should be non-negative"):
        await admin.watch("/sax/test/alice", -1)
    with pytest.raises(grpc.aio.AioRpcError, match="model /sax/other/alice not found"):
        await admin.watch("/sax/other/alice")
    with pytest.raises(grpc.aio.AioRpcError, match='model name "Alice" must match'):
        await admin.watch("/sax/test/Alice")


async def test_a_server_that_joins_must_say_where_and_what_it_is(admin: Admin) -> None:
    stub = admin.stub
    empty = "JoinRequest.modelet_address cannot be empty"
    assert await refusal(stub.Join(JoinRequest(model_server=ModelServer()))) == (INVALID, empty)
    missing = "JoinRequest.modelet missing"
    assert await refusal(stub.Join(JoinRequest(address="127.0.0.1:1"))) == (INVALID, missing)


async def test_a_server_that_cannot_be_called_back_is_refused(cell: DevCell, admin: Admin) -> None:
    # An admin is no model server: it can be reached, and has no GetStatus.
    address = cell.admin.address
    code, text = await refusal(admin.stub.Join(JoinRequest(address=address, model_server=ModelServer())))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    place = f"failed to start a connection with {address}: Start failed to initialize state: getStatus RPC error: "
    assert text
    assert text.startswith(place)
