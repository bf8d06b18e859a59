"""What the commands do and print, straight at a cell and through a gateway."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
import pytest

from saxgw.devcell import DevCell
from tests.conftest import LM2B
from tests.ways import Saxgw

CPU = ("CHIP_TYPE_CPU", "CHIP_TOPOLOGY_1")

FEW_STEPS = ("-e", "per_example_max_decode_steps=4")


async def printed(saxgw: Saxgw, *arguments: str, given: bytes = b"") -> str:
    """What a command prints that succeeds and has nothing to complain of."""
    code, output, errors = await saxgw(*arguments, given=given)
    assert (code, errors) == (0, ""), output
    return output


async def test_the_life_of_a_model(saxgw: Saxgw, model: str) -> None:
    code, output, errors = await saxgw("publish", model, LM2B, "None", "1", "NUM_SAMPLES=2", "--wait")
    assert (code, output) == (0, f"{model} is published\n{model} has ready replicas: 1\n")
    assert errors in ("", f"{model}: 0 of 1 replicas ready\n")
    assert model in (await printed(saxgw, "ls", "/sax/test")).splitlines()
    assert await printed(saxgw, "update", model, "--replicas", "2") == (
        f"{model} is to have checkpoint None and 2 replicas\n"
    )
    code, output, _ = await saxgw("wait", model, "-n", "2")
    assert (code, output) == (0, f"{model} has ready replicas: 2\n")
    described = await printed(saxgw, "ls", model)
    assert described.startswith(
        f"model       {model}\nmodel path  {LM2B}\ncheckpoint  None\nreplicas    2 ready of 2 asked for\nmethods     "
    )
    assert described.endswith("overrides   NUM_SAMPLES=2\n")
    assert await printed(saxgw, "unpublish", model) == f"{model} is not published any more\n"
    assert model not in (await printed(saxgw, "ls", "/sax/test")).splitlines()
    for command in (["unpublish", model], ["ls", model], ["generate", model, "x"], ["wait", model], ["stats", model]):
        assert await saxgw(*command) == (1, "", f"saxgw: {model} is not published; publish it first\n")


@pytest.mark.parametrize("arguments", [[], ["/sax"], ["/sax/"], ["/"]])
async def test_cells(saxgw: Saxgw, arguments: list[str]) -> None:
    assert await printed(saxgw, "ls", *arguments) == "/sax/test\n"


async def test_models_in_detail(saxgw: Saxgw, published: str) -> None:
    output = await printed(saxgw, "ls", "-l", "/sax/test/")
    header, *rows = output.splitlines()
    assert header.split("  ")[0] == "MODEL"
    [row] = [row.split() for row in rows if row.startswith(f"{published} ")]
    assert row[1:4] == [LM2B, "None", "1"]
    assert rows[0].index(LM2B) == header.index("MODEL PATH")


async def test_stats(saxgw: Saxgw, published: str) -> None:
    output = await printed(saxgw, "stats", "/sax/test")
    assert output.startswith(
        "CHIP TYPE      CHIP TOPOLOGY    SERVERS\nCHIP_TYPE_CPU  CHIP_TOPOLOGY_1        2\n\nMODEL PATH  "
    )
    assert f"\n{LM2B}        2\n" in output
    assert f"\n{LM2B}        1\n" in await printed(saxgw, "stats", published)


async def test_a_model_is_updated_only_where_it_is_told(saxgw: Saxgw, published: str) -> None:
    assert await printed(saxgw, "update", "-replicas=0", published) == (
        f"{published} is to have checkpoint None and 0 replicas\n"
    )
    assert await printed(saxgw, "update_checkpoint", published, "a/b") == (
        f"{published} is to have checkpoint a/b and 0 replicas\n"
    )
    assert await printed(saxgw, "update", published[1:], "--checkpoint", "c", "--replicas", "1", "-o", "json") == (
        f'{{"model":"{published}","model_path":"{LM2B}","checkpoint":"c","replicas":1}}\n'
    )


async def test_scores(saxgw: Saxgw, published: str) -> None:
    output = await printed(saxgw, "lm.score", published, "The White", " Rabbit", ' "\n')
    header, rabbit, quote = output.splitlines()
    assert (header.split(), rabbit.split('"', 1)[1], quote.split('"', 1)[1]) == (
        ["SCORE", "SUFFIX"],
        ' Rabbit"',
        ' \\"\\n"',
    )
    assert float(rabbit.split()[0]) > float(quote.split()[0])


async def test_embeddings(saxgw: Saxgw, published: str) -> None:
    numbers = [float(line) for line in (await printed(saxgw, "lm.embed", published, "rabbit")).splitlines()]
    assert len(numbers) == 256
    assert sum(number**2 for number in numbers) == pytest.approx(1, abs=1e-3)


async def test_texts_from_standard_input(saxgw: Saxgw, published: str) -> None:
    """One line break at its end does not count, so that `echo` is as good as an argument."""
    said = await printed(saxgw, "generate", published, "Alice was", *FEW_STEPS)
    for given in (b"Alice was", b"Alice was\n", b"Alice was\r\n"):
        assert await printed(saxgw, "generate", published, "-", *FEW_STEPS, given=given) == said
    said = await printed(saxgw, "score", published, "The White", " Rabbit")
    assert await printed(saxgw, "score", published, "-", " Rabbit", given=b"The White\n") == said
    assert await printed(saxgw, "embed", published, "-", given="é\n".encode()) == await printed(
        saxgw, "embed", published, "é"
    )


async def test_flags_as_saxutil_has_them(saxgw: Saxgw, cell: DevCell, published: str) -> None:
    """`-flag`, `-flag=value` and `--flag_with_underscores` are understood; behind `--` there are none."""
    few = "per_example_max_decode_steps:4,temperature:0"
    said = await printed(saxgw, "generate", published, "Alice was", "--terse", "-n", "1", "--extra", few)
    saxutil = ["lm.generate", f"-sax_root={cell.root}", "-terse", "-n=1", f"-extra={few}", published, "Alice was"]
    assert await printed(saxgw, *saxutil) == said
    assert await saxgw("ls", "--", "-terse") == (2, "", usage("ls", "-terse"))


def usage(command: str, name: str) -> str:
    return (
        f"Usage: saxgw {command} [OPTIONS] [NAME]\nTry 'saxgw {command} --help' for help.\n\n"
        f'Error: "{name}" names neither a cell nor a model; write /sax/CELL or /sax/CELL/MODEL\n'
    )


async def test_json_is_that_of_the_api(saxgw: Saxgw, http: aiohttp.ClientSession, model: str) -> None:
    """With `--output json` each command prints what the HTTP API answers."""

    async def cli(*arguments: str) -> list[Any]:
        return [orjson.loads(line) for line in (await printed(saxgw, *arguments, "-o", "json")).splitlines()]

    async def api(verb: str, path: str, **body: Any) -> list[Any]:
        async with http.request(verb, f"/v1{path}", json=body or None) as response:
            assert response.status == 200
            return [orjson.loads(line) for line in (await response.read()).splitlines()]

    definition = {"model": model, "path": LM2B, "checkpoint": "None", "replicas": 1}
    code, output, _ = await saxgw("publish", model, LM2B, "None", "1", "NUM_SAMPLES=3", "--wait", "-o", "json")
    assert (code, orjson.loads(output)) == (0, {**definition, "active_replicas": 1})
    assert await cli("ls") == await api("GET", "/cells")
    assert await cli("ls", "/sax/test") == await api("GET", "/sax/test/models")
    assert await cli("stats", "/sax/test") == await api("GET", "/sax/test/stats")
    assert await cli("wait", model) == await api("POST", f"{model}:waitForReady", replicas=1)
    while not (await cli("ls", model))[0]["details"]["methods"]:
        pass  # a model server tells them with its next status
    assert await cli("ls", model) == await api("GET", f"{model}?details=true")
    assert (await cli("ls", model))[0] in await cli("ls", "--details", "/sax/test")
    few = {"per_example_max_decode_steps": 4}
    query: dict[str, Any] = {"query": "Alice was", "extra_inputs": few}
    generate = ["generate", model, "Alice was", *FEW_STEPS]
    whole = await api("POST", f"{model}:generate", **query)
    assert await cli(*generate, "--no-stream") == whole
    assert await cli(*generate, "-n", "2") == [{"results": whole[0]["results"][:2]}]
    assert await cli(*generate) == await api("POST", f"{model}:streamGenerate", **query, increments=True)
    assert await cli("score", model, "The White", " Rabbit", " potato") == await api(
        "POST", f"{model}:score", prefix="The White", suffixes=[" Rabbit", " potato"]
    )
    assert await cli("embed", model, "rabbit") == await api("POST", f"{model}:embed", text="rabbit")
    assert await cli("update", model, "--replicas", "1") == await api(
        "PUT", model, model_path=LM2B, checkpoint="None", replicas=1
    )
    assert await cli("unpublish", model) == [{"model": model}]
    published = await api("POST", f"{model}:publish", model_path=LM2B, checkpoint="None", replicas=1)
    assert await api("DELETE", model) == [{"model": model}]
    assert await cli("publish", model, LM2B, "None", "1") == published
