"""A stand-in for Google's Python module `sax`: its names and signatures (Sax protocol §7), real answers of a cell.

It is told apart from the real one by two things: `made`, which lists the calls that were made and their time limits,
and what it is made of, which is Python. Its folder and the root of the repository must be on the path.
"""

from __future__ import annotations

import os
import random
import traceback
from dataclasses import dataclass
from typing import Any

from saxgw.sax.wire import admin_pb2, common_pb2, lm_pb2
from tests.sax.official_module.library import Callback, Library

made: list[tuple[str, float]] = []

_library = Library(os.environ["SAX_ROOT"])


class Options:
    def __init__(self) -> None:
        self.num_conn = 37
        self.proxy_addr = ""
        self.fail_fast = False


class AdminOptions:
    def __init__(self) -> None:
        self.timeout = -1.0


class ModelOptions:
    def __init__(self) -> None:
        self._timeout = -1.0
        self._extra = common_pb2.ExtraInputs()

    def SetTimeout(self, arg0: float, /) -> None:
        self._timeout = arg0

    def GetTimeout(self) -> float:
        return self._timeout

    def SetExtraInput(self, arg0: str, arg1: float, /) -> None:
        self._extra.items[arg0] = arg1

    def SetExtraInputTensor(self, arg0: str, arg1: list[float], /) -> None:
        self._extra.tensors[arg0].values.extend(arg1)

    def SetExtraInputString(self, arg0: str, arg1: str, /) -> None:
        self._extra.strings[arg0] = arg1

    def GetExtraInput(self, arg0: str, /) -> float:
        if arg0 not in self._extra.items:
            raise IndexError(arg0)
        return self._extra.items[arg0]

    def ToProto(self) -> common_pb2.ExtraInputs:
        return self._extra


class LanguageModel:
    def __init__(self, model: Model) -> None:
        self._model = model

    def Score(self, prefix: str, suffix: list[str], options: ModelOptions | None = None) -> list[float]:
        request = lm_pb2.ScoreRequest(prefix=prefix, suffix=_list_of(str, suffix))
        return list(self._ask("Score", request, options).logp)

    def Generate(self, text: str, options: ModelOptions | None = None) -> list[tuple[str, float]]:
        response = self._ask("Generate", lm_pb2.GenerateRequest(text=text), options)
        return [(entry.text, entry.score) for entry in response.texts]

    def GenerateStream(self, text: str, callback: Callback, options: ModelOptions | None = None) -> None:
        def call_back(last: bool, items: list[tuple[str, int, list[float]]]) -> None:  # noqa: FBT001 -- Google's
            try:
                callback(last, items)
            except BaseException:  # noqa: BLE001 -- it would cross frames of C++ and Go, and end the process
                traceback.print_exc()
                os._exit(70)

        request, timeout_s = self._prepared("GenerateStream", lm_pb2.GenerateRequest(text=text), options)
        _library.stream(request, call_back, timeout_s, fail_fast=self._model.options.fail_fast)

    def Embed(self, text: str, options: ModelOptions | None = None) -> list[float]:
        return list(self._ask("Embed", lm_pb2.EmbedRequest(text=text), options).embedding)

    def _ask(self, rpc: str, request: Any, options: ModelOptions | None) -> Any:
        request, timeout_s = self._prepared(rpc, request, options)
        return _library.data(rpc, request, timeout_s, fail_fast=self._model.options.fail_fast)

    def _prepared(self, rpc: str, request: Any, options: ModelOptions | None) -> tuple[Any, float]:
        options = options or ModelOptions()
        made.append((rpc, options.GetTimeout()))
        request.model_key = self._model.name
        request.extra_inputs.CopyFrom(options.ToProto())
        return request, options.GetTimeout()


class Model:
    def __init__(self, arg0: str, arg1: Options | None = None, /) -> None:
        self.name = arg0
        self.options = arg1 or Options()

    def LM(self) -> LanguageModel:
        return LanguageModel(self)


@dataclass(frozen=True)
class ModelDetail:
    model: str
    ckpt: str
    max_replicas: int
    active_replicas: int
    overrides: dict[str, str]


@dataclass(frozen=True)
class ModelServerTypeStat:
    chip_type: str
    chip_topology: str
    num_replicas: int


def Publish(  # noqa: PLR0913, PLR0917 -- Google's function
    id: str,  # noqa: A002 -- Google's name
    model_path: str,
    checkpoint_path: str,
    num_replicas: int,
    overrides: dict[str, str] | None = None,
    options: AdminOptions | None = None,
) -> None:
    model = _model(id, model_path, checkpoint_path, num_replicas)
    model.overrides.update(overrides or {})
    _admin("Publish", id, admin_pb2.PublishRequest(model=model), options)


def Update(
    id: str,  # noqa: A002 -- Google's name
    model_path: str,
    checkpoint_path: str,
    num_replicas: int,
    options: AdminOptions | None = None,
) -> None:
    model = _model(id, model_path, checkpoint_path, num_replicas)
    model.overrides.update(_library.published(id, _timeout_s("List", options)).model.overrides)
    _admin("Update", id, admin_pb2.UpdateRequest(model=model), options)


def Unpublish(id: str, options: AdminOptions | None = None) -> None:  # noqa: A002 -- Google's name
    _admin("Unpublish", id, admin_pb2.UnpublishRequest(model_id=id), options)


def List(id: str, options: AdminOptions | None = None) -> tuple[str, str, int]:  # noqa: A002 -- Google's name
    detail = ListDetail(id, options)
    return detail.model, detail.ckpt, detail.active_replicas


def ListDetail(id: str, options: AdminOptions | None = None) -> ModelDetail:  # noqa: A002 -- Google's name
    published = _library.published(id, _timeout_s("List", options))
    return ModelDetail(
        published.model.model_path,
        published.model.checkpoint_path,
        published.model.requested_num_replicas,
        len(published.modelet_addresses),
        dict(published.model.overrides),
    )


def ListAll(id: str, options: AdminOptions | None = None) -> list[str]:  # noqa: A002 -- Google's name
    response = _library.admin(id, "List", admin_pb2.ListRequest(), _timeout_s("List", options))
    models = [entry.model.model_id for entry in response.published_models]
    random.shuffle(models)
    return models


def Stats(id: str, options: AdminOptions | None = None) -> list[ModelServerTypeStat]:  # noqa: A002 -- Google's name
    model = id if id.count("/") == 3 else ""
    cell = id.rpartition("/")[0] if model else id
    response = _library.admin(cell, "Stats", admin_pb2.StatsRequest(model_id=model), _timeout_s("Stats", options))
    server = admin_pb2.ModelServer
    return [
        ModelServerTypeStat(
            server.ChipType.Name(stat.chip_type), server.ChipTopology.Name(stat.chip_topology), stat.num_replicas
        )
        for stat in response.model_server_type_stats
    ]


def WaitForReady(id: str, num_replicas: int, options: AdminOptions | None = None) -> None:  # noqa: A002 -- Google's name
    _admin("WaitForReady", id, admin_pb2.WaitForReadyRequest(model_id=id, num_replicas=num_replicas), options)


def GetACL(id: str, method_id: str = "", options: AdminOptions | None = None) -> str | dict[str, str]:  # noqa: A002 -- Google's name
    model = _library.published(id, _timeout_s("List", options)).model
    if not method_id:
        return model.admin_acl
    return dict(model.acls.items) if method_id == "all" else model.acls.items.get(method_id, "")


def _model(name: str, path: str, checkpoint: str, replicas: int) -> admin_pb2.Model:
    return admin_pb2.Model(model_id=name, model_path=path, checkpoint_path=checkpoint, requested_num_replicas=replicas)


def _admin(rpc: str, model: str, request: Any, options: AdminOptions | None) -> Any:
    return _library.admin(model.rpartition("/")[0], rpc, request, _timeout_s(rpc, options))


def _timeout_s(rpc: str, options: AdminOptions | None) -> float:
    timeout_s = (options or AdminOptions()).timeout
    made.append((rpc, timeout_s))
    return timeout_s


def _list_of(kind: type, values: Any) -> list[Any]:
    """What pybind11 lets through for a list."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, kind) for value in values):
        raise TypeError("incompatible function arguments")
    return list(values)
