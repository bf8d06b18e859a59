"""The six operations through every door: the same tests, the same answers, the same errors."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any

import pytest
from google.rpc import code_pb2

from saxgw.gateway import SERVICE, Gateway
from tests.callers import Caller, CallError, active_replicas, http_rules
from tests.conftest import DOORS, LM2B, connected, definition
from tests.patience import limits

QUERY = "Q: Who is Harry Potter's mom? A: "

ALL_EXTRA_INPUTS = {
    "temperature": 0.1,
    "per_example_max_decode_steps": 32,
    "per_example_top_k": 40,
    "per_example_top_p": 0.95,
}


async def test_publish(call: Caller, model: str) -> None:
    """Publish answers with what was published."""
    answer = await call("Publish", definition(model))
    assert answer == {"model": model, "path": LM2B, "checkpoint": "None", "replicas": 1}


async def test_publish_with_overrides(call: Caller, model: str) -> None:
    """Overrides reach the model: here the number of samples."""
    await call("Publish", definition(model, overrides={"NUM_SAMPLES": "3"}))
    answer = await call("Generate", {"model": model, "query": QUERY})
    assert len(answer["results"]) == 3


async def test_publish_twice(call: Caller, published: str) -> None:
    """A model that is published already cannot be published again."""
    with pytest.raises(CallError) as caught:
        await call("Publish", definition(published))
    assert (caught.value.code, caught.value.reason) == ("ALREADY_EXISTS", "MODEL_EXISTS")
    assert published in caught.value.message


async def test_publish_with_no_replicas(call: Caller, model: str) -> None:
    """0 replicas are allowed: published, but nowhere loaded."""
    await call("Publish", definition(model, replicas=0))
    assert await call("ListCell", {"model": model}) == {
        "model": model,
        "model_path": LM2B,
        "checkpoint": "None",
        "max_replicas": 0,
        "active_replicas": 0,
    }


async def test_update(call: Caller, published: str) -> None:
    """Update changes the number of replicas and answers with how the model is published now."""
    answer = await call("Update", definition(published, replicas=2))
    assert answer == {"model": published, "model_path": LM2B, "checkpoint": "None", "replicas": 2}
    assert (await active_replicas(call, published, 2))["max_replicas"] == 2


async def test_update_keeps_overrides(call: Caller, model: str) -> None:
    """What an update does not name stays as it was."""
    await call("Publish", definition(model, overrides={"NUM_SAMPLES": "2"}))
    await call("Update", definition(model, replicas=2))
    await active_replicas(call, model, 2)
    for _ in range(8):  # whichever replica answers
        answer = await call("Generate", {"model": model, "query": QUERY})
        assert len(answer["results"]) == 2


async def test_update_to_another_path(call: Caller, published: str) -> None:
    """Sax refuses another model path, with its words."""
    with pytest.raises(CallError) as caught:
        await call("Update", definition(published, model_path="another.Model"))
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "path" in caught.value.message


async def test_update_to_other_overrides(call: Caller, published: str) -> None:
    """Overrides cannot change in an update, for model servers would go on with the old ones."""
    with pytest.raises(CallError) as caught:
        await call("Update", definition(published, overrides={"NUM_SAMPLES": "2"}))
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "overrides" in caught.value.message


async def test_unpublish(call: Caller, published: str) -> None:
    """Unpublish answers with the name, and the model is gone."""
    assert await call("Unpublish", {"model": published}) == {"model": published}
    assert published not in (await call("ListAll", {"sax_cell": "/sax/test"}))["models"]


async def test_publish_again_after_unpublish(call: Caller, published: str) -> None:
    """A name may be published again as soon as it was unpublished."""
    await call("Unpublish", {"model": published})
    await call("Publish", definition(published))
    assert (await call("Generate", {"model": published, "query": QUERY}))["results"]


async def test_list_all(call: Caller, published: str) -> None:
    """ListAll names the models of a cell, in order."""
    models = (await call("ListAll", {"sax_cell": "/sax/test"}))["models"]
    assert published in models
    assert models == sorted(models)


async def test_list_cell(call: Caller, published: str) -> None:
    """ListCell describes one model; its replicas become active."""
    assert await active_replicas(call, published, 1) == {
        "model": published,
        "model_path": LM2B,
        "checkpoint": "None",
        "max_replicas": 1,
        "active_replicas": 1,
    }


async def test_list_cell_in_detail(call: Caller, model: str) -> None:
    """ListCell tells overrides and methods if it is asked to; methods are there once a model server has told them."""
    await call("Publish", definition(model, overrides={"NUM_SAMPLES": "2"}))
    await call("WaitForReady", {"model": model})
    async with asyncio.timeout(60):
        while not (details := (await call("ListCell", {"model": model, "details": True}))["details"])["methods"]:
            pass
    assert details["overrides"] == {"NUM_SAMPLES": "2"}
    assert details["methods"] == ["lm.embed", "lm.generate", "lm.generate_stream", "lm.score"]


@pytest.mark.parametrize(
    "extra_inputs", [None, {}, {"temperature": 0.0}, ALL_EXTRA_INPUTS], ids=["none", "empty", "one", "all"]
)
async def test_generate(call: Caller, published: str, extra_inputs: dict[str, Any] | None) -> None:
    """Generate answers with texts and their scores, best first."""
    request: dict[str, Any] = {"model": published, "query": QUERY}
    if extra_inputs is not None:
        request["extra_inputs"] = extra_inputs
    results = (await call("Generate", request))["results"]
    scores = [result["score"] for result in results]
    assert results
    assert all(result["text"] for result in results)
    assert all(score < 0 for score in scores)
    assert scores == sorted(scores, reverse=True)


async def test_generate_twice(call: Caller, published: str) -> None:
    """The same request gets the same answer."""
    request = {"model": published, "query": QUERY, "extra_inputs": ALL_EXTRA_INPUTS}
    assert await call("Generate", request) == await call("Generate", request)


async def test_generate_obeys_extra_inputs(call: Caller, published: str) -> None:
    """What the caller sends reaches the model: fewer steps make shorter texts."""
    lengths = []
    for steps in (1, 32):
        request = {
            "model": published,
            "query": QUERY,
            "extra_inputs": {"per_example_max_decode_steps": steps, "temperature": 0},
        }
        lengths.append(len((await call("Generate", request))["results"][0]["text"]))
    assert 0 < lengths[0] < lengths[1]


async def test_generate_with_an_empty_query(call: Caller, published: str) -> None:
    """An empty query is a query."""
    assert (await call("Generate", {"model": published, "query": ""}))["results"]


async def test_generate_with_unicode(call: Caller, published: str) -> None:
    """Queries are any text."""
    assert (await call("Generate", {"model": published, "query": "naïve 🙂 漢字 \u0000 \u2028"}))["results"]


@pytest.mark.parametrize("value", [1, "words", [1, 2.5]], ids=["number", "string", "array"])
async def test_generate_with_an_unknown_extra_input(call: Caller, published: str, value: Any) -> None:
    """The model server's refusal of a name that the model does not take reaches the caller in its words."""
    with pytest.raises(CallError) as caught:
        await call("Generate", {"model": published, "query": QUERY, "extra_inputs": {"no_such_input": value}})
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "REFUSED_BY_CELL")
    assert "no_such_input" in caught.value.message
    assert "temperature" in caught.value.message


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (True, "extra_inputs.x"),
        (None, "extra_inputs.x"),
        ({"y": 1}, "extra_inputs.x"),
        ([1, "two"], "extra_inputs.x"),
        ([[1]], "extra_inputs.x"),
        (1e39, "extra_inputs.x"),
        ([0, -1e39], "extra_inputs.x[1]"),
        ([0.5] * 5000 + [1e39], "extra_inputs.x[5000]"),
    ],
    ids=[
        "bool",
        "null",
        "object",
        "mixed array",
        "nested array",
        "too large",
        "too large in an array",
        "in a long one",
    ],
)
async def test_generate_with_an_impossible_extra_input(call: Caller, published: str, value: Any, field: str) -> None:
    """What Sax has no form for is refused by name."""
    with pytest.raises(CallError) as caught:
        await call("Generate", {"model": published, "query": QUERY, "extra_inputs": {"x": value}})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.fields == [field]


async def test_batch_generate(call: Caller, published: str) -> None:
    """Each text has what it would have alone, in the order of the request."""
    inputs = {"temperature": 0, "per_example_max_decode_steps": 4}
    queries = [f"{QUERY}{n}" for n in range(100)]
    answer = await call("BatchGenerate", {"model": published, "queries": queries, "extra_inputs": inputs})
    assert len(answer["outcomes"]) == 100
    for at in (0, 57, 99):
        alone = await call("Generate", {"model": published, "query": queries[at], "extra_inputs": inputs})
        assert answer["outcomes"][at] == {"answer": alone}


async def test_batch_with_an_error(call: Caller, published: str) -> None:
    """What the model refuses is refused for each query; what the gateway refuses, for the call."""
    request = {"model": published, "queries": ["a", "b"], "extra_inputs": {"not_an_input": 1}}
    outcomes = (await call("BatchGenerate", request))["outcomes"]
    assert [outcome["error"]["code"] for outcome in outcomes] == [code_pb2.INVALID_ARGUMENT] * 2
    with pytest.raises(CallError) as caught:
        await call("BatchGenerate", {**request, "extra_inputs": {"x": True}})
    assert caught.value.fields == ["extra_inputs.x"]
    with pytest.raises(CallError) as caught:
        await call("BatchGenerate", {**request, "queries": ["a"] * 1001})
    assert caught.value.fields == ["queries"]


async def test_score(call: Caller, published: str) -> None:
    """Likelier texts have higher scores, and each is that of the text alone."""
    request = {"model": published, "prefix": "The White", "suffixes": [" Rabbit", " xyzzy"]}
    rabbit, nonsense = (await call("Score", request))["scores"]
    assert nonsense < rabbit < 0
    assert (await call("Score", {**request, "suffixes": [" xyzzy"]}))["scores"] == [nonsense]


async def test_batch_score(call: Caller, published: str) -> None:
    """Each query has the scores that it would have alone; one without texts is refused by name."""
    queries = [{"prefix": "The White", "suffixes": [" Rabbit"]}, {"prefix": "", "suffixes": ["Alice", "was"]}]
    outcomes = (await call("BatchScore", {"model": published, "queries": queries}))["outcomes"]
    for query, outcome in zip(queries, outcomes, strict=True):
        assert outcome == {"answer": await call("Score", {"model": published, **query})}
    with pytest.raises(CallError) as caught:
        await call("BatchScore", {"model": published, "queries": [*queries, {"prefix": "x"}]})
    assert caught.value.fields == ["queries[2].suffixes"]


async def test_embed(call: Caller, published: str) -> None:
    """A text has a vector, always the same one; another text has another one."""
    first = (await call("Embed", {"model": published, "text": "The White Rabbit was late."}))["embedding"]
    again = (await call("Embed", {"model": published, "text": "The White Rabbit was late."}))["embedding"]
    other = (await call("Embed", {"model": published, "text": "A mad tea party."}))["embedding"]
    assert len(first) == len(other) == 256
    assert first == again != other


async def test_wait_for_ready(call: Caller, model: str) -> None:
    """Waits for a model that is just being loaded; one that is ready is not waited for."""
    await call("Publish", definition(model, replicas=2))
    assert await call("WaitForReady", {"model": model, "replicas": 2}) == {"model": model, "active_replicas": 2}
    assert (await call("WaitForReady", {"model": model}))["active_replicas"] == 2


async def test_wait_for_more_than_there_will_be(call: Caller, published: str) -> None:
    """The deadline comes first, and the error tells how many are ready."""
    await call("WaitForReady", {"model": published})
    for timeout_s in limits(0.3):
        with pytest.raises(CallError) as caught:
            await call("WaitForReady", {"model": published, "replicas": 2}, timeout_s=timeout_s)
        assert caught.value.code == "DEADLINE_EXCEEDED"
        if caught.value.reason == "REPLICAS_NOT_READY":  # there was time to find it out
            break
    assert caught.value.reason == "REPLICAS_NOT_READY"
    assert f"1 of 2 replicas of {published} are ready" in caught.value.message


@pytest.mark.parametrize(
    ("method", "field"), [("WaitForReady", "replicas"), ("Publish", "wait_for_replicas"), ("Publish", "replicas")]
)
async def test_negative_replicas(call: Caller, method: str, field: str) -> None:
    """Nobody waits for a negative number of replicas."""
    with pytest.raises(CallError) as caught:
        await call(method, {**REQUESTS[method], field: -1})
    assert (caught.value.code, caught.value.fields) == ("INVALID_ARGUMENT", [field])


async def test_publish_and_wait(call: Caller, model: str) -> None:
    """Publish answers when so many replicas are ready, and tells how many."""
    answer = await call("Publish", definition(model, replicas=2, wait_for_replicas=2))
    assert answer == {"model": model, "path": LM2B, "checkpoint": "None", "replicas": 2, "active_replicas": 2}
    assert (await call("ListCell", {"model": model}))["active_replicas"] == 2


async def test_publish_and_wait_in_vain(call: Caller, model: str) -> None:
    """If the deadline comes first, the model is published all the same, and the answer tells how many are ready."""
    for timeout_s in limits(0.3):
        try:
            answer = await call("Publish", definition(model, replicas=0, wait_for_replicas=1), timeout_s=timeout_s)
        except CallError as error:
            if error.code != "DEADLINE_EXCEEDED":  # too early to publish it, or to find out how many are ready
                raise
            with suppress(CallError):
                await call("Unpublish", {"model": model})
        else:
            break
    assert answer["active_replicas"] == 0
    assert (await call("ListCell", {"model": model}))["max_replicas"] == 0


async def test_stats(call: Caller, published: str) -> None:
    """Model servers are counted by their chips: all of a cell, or those of a model."""
    cpus = {"chip_type": "CHIP_TYPE_CPU", "chip_topology": "CHIP_TOPOLOGY_1", "count": 2}
    answer = await call("Stats", {"name": "/sax/test"})
    assert answer["servers"] == [cpus]
    assert answer["servers_by_model_path"][LM2B] == 2
    assert (await call("Stats", {"name": published}))["servers"] == [{**cpus, "count": 1}]


async def test_list_cells(call: Caller) -> None:
    """The cells under SAX_ROOT."""
    assert await call("ListCells", {}) == {"cells": ["/sax/test"]}


def joined(messages: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """Text and score of each sample of a stream."""
    samples: dict[int, tuple[str, float]] = {}
    for message in messages:
        for sample, item in enumerate(message["results"]):
            text, score = samples.get(sample, ("", 0.0))
            samples[sample] = (text[: item["prefix_len"]] + item["text"], score + sum(item["scores"]))
    return list(samples.values())


@pytest.mark.parametrize("increments", [False, True])
async def test_generate_stream(call: Caller, published: str, increments: bool) -> None:  # noqa: FBT001 - a parameter
    """What a stream adds up to is what generate returns: the same texts, the same scores."""
    request = {"model": published, "query": QUERY, "extra_inputs": {"temperature": 0.5}}
    whole = (await call("Generate", request))["results"]
    messages = await call("GenerateStream", {**request, "increments": increments})
    samples = sorted(joined(messages), key=lambda sample: -sample[1])
    assert [text for text, _ in samples] == [result["text"] for result in whole]
    assert [score for _, score in samples] == pytest.approx([result["score"] for result in whole])
    assert len(messages) > 1
    texts = ["".join(item["text"] for item in sample) for sample in zip(*(m["results"] for m in messages), strict=True)]
    assert sorted(texts) == sorted(text for text, _ in samples)


async def test_generate_stream_refused(call: Caller, published: str) -> None:
    """What the model refuses before the first message is the call's own error."""
    with pytest.raises(CallError, match="not_an_input") as caught:
        await call("GenerateStream", {"model": published, "query": QUERY, "extra_inputs": {"not_an_input": 1}})
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "REFUSED_BY_CELL")


REQUESTS: dict[str, dict[str, Any]] = {
    "Publish": definition("/sax/test/none"),
    "Update": definition("/sax/test/none"),
    "Unpublish": {"model": "/sax/test/none"},
    "ListAll": {"sax_cell": "/sax/test"},
    "ListCell": {"model": "/sax/test/none"},
    "Generate": {"model": "/sax/test/none", "query": QUERY},
    "GenerateStream": {"model": "/sax/test/none", "query": QUERY},
    "BatchGenerate": {"model": "/sax/test/none", "queries": [QUERY]},
    "Score": {"model": "/sax/test/none", "suffixes": [QUERY]},
    "BatchScore": {"model": "/sax/test/none", "queries": [{"suffixes": [QUERY]}]},
    "Embed": {"model": "/sax/test/none", "text": QUERY},
    "WaitForReady": {"model": "/sax/test/none"},
    "Stats": {"name": "/sax/test/none"},
    "ListCells": {},
}
"""A valid request for each method, about a model that is not published."""


NAME_FIELDS = {"model", "sax_cell", "name"}
"""Fields that name a model or a cell."""

IN_EACH_OUTCOME = {"BatchGenerate", "BatchScore"}
"""Methods that tell what is wrong with a model beside each query, and not for the call."""


@pytest.mark.parametrize("method", sorted(REQUESTS.keys() - {"Publish", "ListAll", "ListCells"} - IN_EACH_OUTCOME))
async def test_model_not_published(call: Caller, method: str) -> None:
    """A model that is not published is NOT_FOUND, and named."""
    with pytest.raises(CallError) as caught:
        await call(method, REQUESTS[method])
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert "/sax/test/none" in caught.value.message


@pytest.mark.parametrize("method", sorted(IN_EACH_OUTCOME))
async def test_batch_for_a_model_not_published(call: Caller, method: str) -> None:
    """Each query of a batch has the error that it would have alone."""
    (outcome,) = (await call(method, REQUESTS[method]))["outcomes"]
    assert outcome["error"]["code"] == code_pb2.NOT_FOUND
    assert "/sax/test/none" in outcome["error"]["message"]
    assert outcome["error"]["details"][0]["reason"] == "MODEL_NOT_FOUND"


@pytest.mark.parametrize("method", sorted(REQUESTS.keys() - {"ListCells"} - IN_EACH_OUTCOME))
async def test_no_such_cell(call: Caller, method: str) -> None:
    """A cell that is not under SAX_ROOT is NOT_FOUND, and named."""
    request = {
        k: v.replace("/sax/test", "/sax/other") if isinstance(v, str) else v for k, v in REQUESTS[method].items()
    }
    with pytest.raises(CallError) as caught:
        await call(method, request)
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "CELL_NOT_FOUND")
    assert "/sax/other" in caught.value.message


@pytest.mark.parametrize("method", sorted(REQUESTS.keys() - {"ListCells"}))
async def test_malformed_name(call: Caller, method: str) -> None:
    """A malformed name is INVALID_ARGUMENT, and its field is named."""
    (field,) = NAME_FIELDS & REQUESTS[method].keys()
    with pytest.raises(CallError) as caught:
        await call(method, {**REQUESTS[method], field: REQUESTS[method][field].replace("test", "Test")})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.fields == [field]
    assert '"Test"' in caught.value.message


@pytest.mark.parametrize("door", DOORS[:2])
async def test_endless_name(gateway: Gateway, door: str) -> None:
    """However long the input that an error quotes, the error arrives whole."""
    async with connected(gateway, door) as call:
        with pytest.raises(CallError) as caught:
            await call("Unpublish", {"model": "/sax/test/" + "É" * 100_000})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.fields == ["model"]
    assert len(caught.value.message) < 2000


@pytest.mark.parametrize(
    ("method", "field"),
    [
        (method.name, field)
        for method in SERVICE.methods
        for field in REQUESTS[method.name]
        if field not in NAME_FIELDS  # without it there is no /v1 path; see test_http.py
    ],
)
async def test_missing_field(call: Caller, method: str, field: str) -> None:
    """A request that lacks a required field is refused, naming it."""
    request = {k: v for k, v in REQUESTS[method].items() if k != field}
    with pytest.raises(CallError) as caught:
        await call(method, request)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.fields == [field]


async def test_all_missing_fields_are_named(call: Caller, model: str) -> None:
    """Every missing field is named at once, so that people need not find them one by one."""
    with pytest.raises(CallError) as caught:
        await call("Publish", {"model": model})
    assert caught.value.fields == ["model_path", "checkpoint", "replicas"]


@pytest.mark.parametrize("method", ["Publish", "Update"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("replicas", -1), ("checkpoint", "no spaces"), ("model_path", "1bad"), ("model_path", "a/b")],
)
async def test_malformed_definition(call: Caller, method: str, field: str, value: Any) -> None:
    """A definition that Sax would refuse is refused by field, before anything is sent."""
    with pytest.raises(CallError) as caught:
        await call(method, {**REQUESTS[method], field: value})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.fields == [field]


async def test_names_without_the_leading_slash(call: Caller, published: str) -> None:
    """Names may lack the leading slash; answers always have it."""
    assert (await call("ListCell", {"model": published[1:]}))["model"] == published
    assert published in (await call("ListAll", {"sax_cell": "sax/test"}))["models"]


async def test_deadline(call: Caller, model: str) -> None:
    """A passed deadline is DEADLINE_EXCEEDED: here nothing is ready, and the caller waits no longer than it said."""
    await call("Publish", definition(model, replicas=0))
    with pytest.raises(CallError) as caught:
        await call("Generate", {"model": model, "query": QUERY}, timeout_s=0.2)
    assert caught.value.code == "DEADLINE_EXCEEDED"


async def test_many_generates_at_once(call: Caller, published: str) -> None:
    """500 calls at once are all answered, and alike."""
    request = {
        "model": published,
        "query": QUERY,
        "extra_inputs": {"per_example_max_decode_steps": 4, "temperature": 0},
    }
    first = await call("Generate", request)
    answers = await asyncio.gather(*(call("Generate", request) for _ in range(500)))
    assert all(answer == first for answer in answers)


@pytest.mark.parametrize("method", list(SERVICE.methods), ids=lambda method: method.name)
def test_every_method_has_routes_and_tests(method: Any) -> None:
    """A new RPC fails here until it has HTTP rules, a request above and tests of its own name."""
    rules = http_rules(method)
    assert all(rule.WhichOneof("pattern") for rule in rules)
    assert len(rules) > 1, "a documented route and a /v1 route"
    assert method.name in REQUESTS
    tests = vars(sys.modules[__name__])
    snake_case = "".join(f"_{c.lower()}" if c.isupper() else c for c in method.name)
    assert f"test{snake_case}" in tests
