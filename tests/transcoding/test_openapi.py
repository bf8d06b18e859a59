"""OpenAPI documents: paths, parameters, bodies, answers, and what is told of them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.api.http_pb2 import CustomHttpPattern, HttpRule
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from openapi_spec_validator import OpenAPIV31SpecValidator

from saxgw.transcoding import InvalidRule, Transcoder
from saxgw.transcoding.openapi import document
from saxgw.transcoding.v1 import options_pb2
from tests.transcoding.documents import (
    ECHOES,
    FAILURES,
    LENDING,
    LIBRARY,
    operation,
    request_schema,
    response_schema,
)
from tests.transcoding.schema import FILES, POOL, add_file, copy_file, methods, methods_with

PRETTY = {"$ref": "#/components/parameters/pretty"}


def of_rules(*rules: HttpRule) -> dict[str, Any]:
    """The document of methods from SearchRequest to AddBooksResponse with these rules."""
    return document(Transcoder(methods_with(rules)).routes, title="Made up", version="1")


def operations(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (http_method, path, found["operationId"])
        for path, item in document["paths"].items()
        for http_method, found in item.items()
    ]


@pytest.mark.parametrize("made", [LIBRARY, LENDING, ECHOES], ids=["library", "lending", "kinds"])
def test_valid(made: dict[str, Any]) -> None:
    """Documents are valid OpenAPI 3.1."""
    assert made["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(made).validate()


def test_deterministic() -> None:
    """The same routes make the same document, byte for byte, with components in the order of their names."""
    again = document(Transcoder(methods(), pool=POOL).routes, title="Library", version="1", files=FILES)
    assert orjson.dumps(again) == orjson.dumps(LIBRARY)
    assert list(LIBRARY["components"]["schemas"]) == sorted(LIBRARY["components"]["schemas"])


def test_operations() -> None:
    """First rules come first; paths that differ in names only are one; `*` is five methods; names are unique."""
    assert operations(LIBRARY) == [
        ("get", "/v1/shelves/{shelf_id}", "Library_GetShelf"),
        ("delete", "/v1/shelves/{shelf_id}", "Library_DeleteShelf"),
        ("patch", "/v1/shelves/{shelf_id}", "Library_UpdateShelf"),
        ("get", "/v1/shelves", "Library_ListShelves"),
        ("post", "/v1/shelves", "Library_CreateShelf"),
        ("post", "/v1/shelves/{from_1}/books/{from_2}:move", "Library_MoveBooks"),
        ("post", "/v1/shelves/{shelf_id}/books", "Library_AddBooks"),
        ("get", "/v1/search", "Library_Search"),
        ("get", "/v1/files/{path}", "Library_ReadFile"),
        ("put", "/v1/files/{path}", "Library_WriteFile"),
        ("post", "/v1/raw", "Library_Raw"),
        ("post", "/v1/echo", "Library_Echo"),
        ("get", "/v1/rooms/{room}/shelves/{shelf_id}", "Library_GetShelf_2"),
        ("post", "/v1/shelves/{shelf_id}/ratings", "Library_AddBooks_2"),
        ("get", "/v1/search/{page.size}", "Library_Search_2"),
        ("post", "/v1/shelves/{shelf_id}/count", "Library_AddBooks_3"),
        ("post", "/v1/shelves/{shelf_id}/all", "Library_AddBooks_4"),
        ("get", "/v1/any/{shelf_id}", "Library_Lock"),
        ("put", "/v1/any/{shelf_id}", "Library_Lock_2"),
        ("post", "/v1/any/{shelf_id}", "Library_Lock_3"),
        ("delete", "/v1/any/{shelf_id}", "Library_Lock_4"),
        ("patch", "/v1/any/{shelf_id}", "Library_Lock_5"),
    ]


def test_left_out() -> None:
    """What OpenAPI has no words for is named: other HTTP methods, streams of requests, * and ** in one place."""
    assert "- `LOCK /v1/shelves/{shelf_id}` (transcoding.test.Library.Lock)" in LIBRARY["info"]["description"]
    assert "- `POST /v1/loans:collect` (transcoding.test.Lending.Collect)" in LENDING["info"]["description"]
    assert "no words" not in ECHOES["info"]["description"]
    made = of_rules(HttpRule(get="/v1/{query}"), HttpRule(get="/v1/{author=**}"), HttpRule(put="/v1/{author=**}"))
    assert operations(made) == [("get", "/v1/{query}", "Service_M0"), ("put", "/v1/{query}", "Service_M2")]
    assert "- `GET /v1/{author=**}` (made.up.Service.M1)" in made["info"]["description"]


@pytest.mark.parametrize(
    ("template", "path", "names"),
    [
        ("/v1/a", "/v1/a", []),
        ("/", "/", []),
        ("/v1/{query}", "/v1/{query}", ["query"]),
        ("/v1/{query}:verb", "/v1/{query}:verb", ["query"]),
        ("/v1/{query=a/*}", "/v1/a/{query}", ["query"]),
        ("/v1/{query=a/*/b/*}/c", "/v1/a/{query_1}/b/{query_2}/c", ["query_1", "query_2"]),
        ("/v1/{query=a}", "/v1/a", []),
        ("/v1/*/b/*", "/v1/{segment_1}/b/{segment_2}", ["segment_1", "segment_2"]),
        ("/v1/{query=**}", "/v1/{query}", ["query"]),
        ("/v1/{query=a/*/**}:verb", "/v1/a/{query_1}/{query_2}:verb", ["query_1", "query_2"]),
        ("/v1/{page.token}/{author}", "/v1/{page.token}/{author}", ["page.token", "author"]),
        ("/v1/%7Bx%7D/é", "/v1/%7Bx%7D/%C3%A9", []),
    ],
)
def test_path(template: str, path: str, names: list[str]) -> None:
    """Each wildcard of a template is a parameter of one segment, with a name that tells where it belongs."""
    made = of_rules(HttpRule(get=template))
    OpenAPIV31SpecValidator(made).validate()
    assert list(made["paths"]) == [path]
    parameters = made["paths"][path]["get"]["parameters"]
    in_path = [parameter for parameter in parameters if parameter.get("in") == "path"]
    assert [parameter["name"] for parameter in in_path] == names
    assert all(parameter["required"] for parameter in in_path)


def test_path_parameters() -> None:
    """A parameter has its field's type where it is all of its value, and tells what it is a part of where it is not."""
    (shelf_id,) = (p for p in operation(LIBRARY, "GetShelf")["parameters"] if p.get("in") == "path")
    assert shelf_id["schema"] == {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}
    (shelf,) = (p for p in operation(LIBRARY, "UpdateShelf")["parameters"] if p.get("in") == "path")
    assert shelf == {
        "name": "shelf_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "description": "Here `shelf.name` is `shelves/{shelf_id}`.",
    }
    (path,) = (p for p in operation(LIBRARY, "ReadFile")["parameters"] if p.get("in") == "path")
    assert "any number of segments" in path["description"]


def test_resource_names() -> None:
    """Where a field refers to a resource, parameters have the names of its pattern, and parts of its example."""
    lend = operation(LENDING, "Lend")["parameters"][:2]
    assert [(p["name"], p["example"]) for p in lend] == [("branch", "north"), ("reader", "7")]
    assert lend[0]["description"] == "Here `reader` is `branches/{branch}/readers/{reader}`. Who borrows."
    assert "/v1/loans/{loan}" in LENDING["paths"]


def test_specific_rule_before_any_method() -> None:
    """A rule for all methods is shown for those that no other rule has."""
    made = of_rules(
        HttpRule(custom=CustomHttpPattern(kind="*", path="/v1/{query}")), HttpRule(get="/v1/{author}", body="page")
    )
    assert made["paths"]["/v1/{author}"]["get"]["operationId"] == "Service_M1"
    assert set(made["paths"]["/v1/{author}"]) == {"get", "put", "post", "delete", "patch"}


def test_query() -> None:
    """All fields that neither path nor body binds are parameters, those of messages with dots."""
    parameters = {p["name"]: p for p in operation(LIBRARY, "Search")["parameters"] if p != PRETTY}
    int32 = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
    order = {"$ref": "#/components/schemas/SearchRequest.Order"}
    assert {
        name: p["schema"] for name, p in parameters.items() if name in ("query", "page.size", "years", "order")
    } == {
        "query": {"type": "string"},
        "page.size": int32,
        "years": {"type": "array", "items": int32},
        "order": order,
    }
    assert parameters["strict"]["schema"] == {"type": "boolean"}
    assert parameters["times"]["schema"]["items"]["format"] == "date-time"
    assert parameters["weights"] == {
        "name": "weights",
        "in": "query",
        "schema": {"type": "object", "additionalProperties": int32},
        "style": "deepObject",
        "explode": True,
    }
    assert parameters["ranks"]["schema"]["additionalProperties"] == order
    assert {"page.token", "big", "author", "isbn", "limit"} < parameters.keys()
    assert not any(name.startswith("page.next") for name in parameters)
    left_out = "or as they are inside of themselves: page.next, extra, pages, page_map."
    assert left_out in operation(LIBRARY, "Search")["description"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GetShelf_2", {"deep"}),
        ("Search_2", {"page.token"}),
        ("CreateShelf", {"shelf_id", "validate_only"}),
        ("UpdateShelf", {"update_mask"}),
        ("AddBooks", {"ratings", "count"}),
        ("MoveBooks", set()),
    ],
)
def test_query_beside_path_and_body(name: str, expected: set[str]) -> None:
    """What the path or the body binds is no parameter of the query."""
    in_query = {p["name"] for p in operation(LIBRARY, name)["parameters"] if p.get("in") == "query"}
    assert expected <= in_query
    assert not in_query & {"room", "shelf_id", "page.size", "from", "to"} - expected


def test_pretty() -> None:
    """Every operation takes `pretty`, but one that has a field of that name has the field."""
    assert PRETTY in operation(LIBRARY, "GetShelf")["parameters"]
    pretty = [p for p in operation(LIBRARY, "ListShelves")["parameters"] if p.get("name") == "pretty" or p == PRETTY]
    assert pretty == [{"name": "pretty", "in": "query", "schema": {"type": "string"}}]


def test_request_bodies() -> None:
    """A body is the request, a field of it, raw bytes, or not there; what the path binds is not in it."""
    assert set(request_schema(LIBRARY, "AddBooks_4")["properties"]) == {"books", "ratings", "count"}
    assert request_schema(LIBRARY, "AddBooks")["items"] == {"$ref": "#/components/schemas/Book-Input"}
    assert request_schema(LIBRARY, "AddBooks_2")["type"] == ["object", "null"]
    assert request_schema(LIBRARY, "AddBooks_3")["format"] == "int32"
    assert request_schema(LIBRARY, "CreateShelf")["anyOf"][0] == {"$ref": "#/components/schemas/Shelf-Input"}
    assert "name" not in request_schema(LIBRARY, "UpdateShelf")["properties"]
    assert request_schema(LIBRARY, "Echo") == {"description": "Any JSON value."}
    assert operation(LIBRARY, "Raw")["requestBody"]["content"] == {"*/*": {}}
    assert operation(LIBRARY, "WriteFile")["requestBody"]["content"] == {"*/*": {}}
    assert "requestBody" not in operation(LIBRARY, "Search")
    assert "a JSON body with the same fields is taken" in operation(LIBRARY, "Search")["description"]


def test_response_bodies() -> None:
    """An answer is the response, a field of it, arrays if the field's option says so, or raw bytes."""
    shelf = {"$ref": "#/components/schemas/Shelf-Output"}
    assert response_schema(LIBRARY, "GetShelf") == shelf
    assert response_schema(LIBRARY, "ListShelves") == {"type": "array", "items": shelf}
    assert response_schema(LIBRARY, "AddBooks_3")["type"] == "integer"
    assert operation(LIBRARY, "ReadFile")["responses"]["200"]["content"] == {"*/*": {}}
    row = response_schema(LIBRARY, "AddBooks")["items"]
    assert [part["title"] for part in row["prefixItems"]] == ["rating", "title", "author"]
    assert (row["minItems"], row["maxItems"]) == (3, 3)
    owner = {"$ref": "#/components/schemas/Owner-Output"}
    assert row["prefixItems"][2] == {"title": "author", "anyOf": [owner, {"type": "null"}]}
    books = LIBRARY["components"]["schemas"]["AddBooksResponse"]["properties"]["books"]
    assert books == {"type": "array", "items": {"$ref": "#/components/schemas/Book-Output"}}


def test_stream() -> None:
    """A stream of responses has three framings."""
    content = operation(LENDING, "Watch")["responses"]["200"]["content"]
    loan = {"$ref": "#/components/schemas/Loan-Output"}
    assert content["application/json"]["schema"] == {"type": "array", "items": loan}
    for framing in ("text/event-stream", "application/x-ndjson"):
        assert content[framing]["schema"]["contentSchema"] == loan
    (one,) = content["application/json"]["example"]
    assert orjson.loads(content["application/x-ndjson"]["example"]) == one
    assert orjson.loads(content["text/event-stream"]["example"].removeprefix("data: ")) == one


def test_comments() -> None:
    """Comments are descriptions, with lines joined that were wrapped; what is for maintainers only is left out."""
    (tag,) = LENDING["tags"]
    assert tag == {
        "name": "Lending",
        "description": "Lends books.\n\nWhat is lent has to come back:\n- in time,\n- dry.",
    }
    lend = operation(LENDING, "Lend")
    assert lend["summary"] == "Lends a book to a reader, e.g. to you"
    assert lend["description"] == "Lends a book to a reader, e.g. to you. It is theirs for a month."
    assert operation(LENDING, "GetLoan")["summary"] == "GetLoan"
    assert request_schema(LENDING, "Lend")["properties"]["loan"]["description"] == "What is lent."
    state = LENDING["components"]["schemas"]["Loan.State"]
    assert state["description"] == "How far it is.\n\n- `STATE_UNSPECIFIED`: Nobody knows.\n- `BACK`: It is back."
    assert lend["responses"]["200"]["description"] == "A book that was lent."
    assert LENDING["info"]["description"].startswith("All about lending.\n\n")


def test_behaviours() -> None:
    """What is required, read-only, write-only or deprecated says so."""
    body = request_schema(LENDING, "Lend")
    assert body["required"] == ["loan", "reasons", "days"]
    assert body["properties"]["reasons"]["minItems"] == 1
    (reader,) = (p for p in operation(LENDING, "Lend_2")["parameters"] if p.get("name") == "reader")
    assert reader["required"]
    assert reader["schema"]["minLength"] == 1
    loan = LENDING["components"]["schemas"]["Loan-Input"]["properties"]
    assert loan["name"]["readOnly"]
    assert loan["secret"]["writeOnly"]
    assert loan["shelf"]["deprecated"]
    assert operation(LENDING, "GetLoan")["deprecated"]


def test_examples() -> None:
    """Examples are those of the .proto: of fields as they stand there, of messages composed, of answers as written."""
    (reader,) = (p for p in operation(LENDING, "Lend_2")["parameters"] if p.get("name") == "reader")
    assert reader["example"] == "branches/north/readers/7"
    media = operation(LENDING, "Lend_2")["requestBody"]["content"]["application/json"]
    assert media["example"] == {"title": "Emma", "number": 12, "due": "2026-05-06T07:08:09Z"}
    answer = operation(LENDING, "GetLoan")["responses"]["200"]["content"]["application/json"]["example"]
    assert (answer["number"], answer["state"], answer["name"]) == ("12", "STATE_UNSPECIFIED", "loans/12")
    assert LENDING["components"]["schemas"]["Loan-Input"]["properties"]["number"]["examples"] == [12]
    assert LENDING["components"]["schemas"]["Loan-Output"]["properties"]["number"]["examples"] == ["12"]
    # There is no example of its days and reasons, which are required.
    assert "example" not in operation(LENDING, "Lend")["requestBody"]["content"]["application/json"]


@pytest.mark.parametrize(
    ("example", "said"), [('"a"', "expected an integer"), ("{", "expected JSON"), ("5000000000", "2147483647")]
)
def test_wrong_example(example: str, said: str) -> None:
    """An example that does not fit its field is refused, naming the field."""
    file = FileDescriptorProto()
    POOL.FindFileByName("library.proto").CopyToProto(file)
    (request,) = (message for message in file.message_type if message.name == "ListShelvesRequest")
    request.field[0].options.Extensions[options_pb2.example] = example
    pool = DescriptorPool()
    for dependency in file.dependency:
        copy_file(dependency, pool)
    add_file(pool, file)
    routes = Transcoder(pool.FindServiceByName("transcoding.test.Library").methods, pool=pool).routes
    with pytest.raises(InvalidRule, match=rf"ListShelvesRequest\.page_size does not fit: .*{said}"):
        document(routes, title="Wrong", version="1")


def test_event_streams_of_unary_routes() -> None:
    """An operation that answers with events if asked says so, and what they are."""
    routes = Transcoder(methods("Shelves"), pool=POOL).routes
    shelves = document(routes, title="Shelves", version="1", files=FILES)
    found = operation(shelves, "Search")
    content = found["responses"]["200"]["content"]
    assert list(content) == ["application/json", "text/event-stream"]
    watch = operation(shelves, "Watch")["responses"]["200"]["content"]
    assert content["text/event-stream"] == watch["text/event-stream"]
    assert list(watch) == ["text/event-stream", "application/x-ndjson", "application/json"]
    assert "answers as Watch does" in found["description"]


def test_failures() -> None:
    """The codes that method and service name, and what may always happen, are answers by HTTP status."""
    found = operation(LENDING, "GetLoan")["responses"]
    assert list(found) == ["200", "400", "404", "500", "503"]
    lend = operation(LENDING, "Lend")["responses"]
    assert list(lend) == ["200", "400", "404", "409", "500", "503"]
    shared = LENDING["components"]["responses"]
    assert lend["404"] == {"$ref": "#/components/responses/Error404"}
    assert shared["Error404"] == {
        "description": "Nothing there.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    assert shared["Error503"]["headers"] == {"Retry-After": {"schema": {"type": "integer"}}}
    assert shared["Error503"]["content"]["application/json"]["example"] == {"error": 1}
    # The first method has two ways to fail with 400, the others have one.
    assert shared["Error400"]["description"] == "Malformed.\n\nNot now."
    assert found["400"]["description"] == "Malformed."
    assert LENDING["components"]["schemas"]["Error"] == FAILURES.schema


def test_parameters_of_the_server() -> None:
    """Every operation has the parameters that the server takes beside those of requests."""
    for _, path, _ in operations(LENDING):
        for found in LENDING["paths"][path].values():
            assert {"$ref": "#/components/parameters/Trace"} in found["parameters"]


def test_no_routes() -> None:
    """Without routes there is a document all the same."""
    made = document([], title="Nothing", version="0")
    OpenAPIV31SpecValidator(made).validate()
    assert made["paths"] == {}
