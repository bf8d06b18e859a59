"""From the parts of HTTP requests to request messages, and from response messages to HTTP bodies."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf import json_format

from saxgw.transcoding import InvalidInput, InvalidMessage, MethodNotAllowed, RouteNotFound, Transcoder, Violation
from tests.transcoding.schema import POOL, message_class, methods, methods_for

TRANSCODER = Transcoder(methods(), pool=POOL)
LENIENT = Transcoder(methods(), pool=POOL, ignore_unknown_fields=True)


def decode(http_method: str, target: str, body: bytes = b"", *, transcoder: Transcoder = TRANSCODER) -> Any:
    """The request message, as json_format shows it."""
    path, _, query = target.partition("?")
    message = transcoder.match(http_method, path, query).decode(body)
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def refuse(http_method: str, target: str, body: bytes = b"", *, transcoder: Transcoder = TRANSCODER) -> str:
    """The sentence with which a request is refused."""
    with pytest.raises(InvalidInput) as raised:
        decode(http_method, target, body, transcoder=transcoder)
    return str(raised.value)


@pytest.mark.parametrize(
    ("http_method", "target", "body", "request_fields"),
    [
        pytest.param("GET", "/v1/shelves/7", b"", {"shelf_id": "7"}, id="path variable"),
        pytest.param("GET", "/v1/rooms/a%2Fb/shelves/7", b"", {"room": "a/b", "shelf_id": "7"}, id="two variables"),
        pytest.param("GET", "/v1/search/5", b"", {"page": {"size": 5}}, id="nested path variable"),
        pytest.param(
            "GET", "/v1/shelves/7?deep=true&room=x", b"", {"shelf_id": "7", "deep": True, "room": "x"}, id="query"
        ),
        pytest.param("GET", "/v1/shelves/7?shelf_id=7", b"", {"shelf_id": "7"}, id="same value in path and query"),
        pytest.param("GET", "/v1/shelves/7", b'{"shelf_id": 7}', {"shelf_id": "7"}, id="same value in path and body"),
        pytest.param("GET", "/v1/shelves/7", b'{"deep":true}', {"shelf_id": "7", "deep": True}, id="body on GET"),
        pytest.param("HEAD", "/v1/shelves/7?room=x", b"", {"shelf_id": "7", "room": "x"}, id="HEAD"),
        pytest.param("DELETE", "/v1/shelves/7", b'{"room":"x"}', {"shelf_id": "7", "room": "x"}, id="body on DELETE"),
        pytest.param(
            "GET", "/v1/search?page.size=3", b'{"page":{"token":"t"}}', {"page": {"size": 3, "token": "t"}}, id="merged"
        ),
        pytest.param("GET", "/v1/search?query=a", b'{"query":null}', {"query": "a"}, id="null in the body is no value"),
        pytest.param("GET", "/v1/search?page.size=1", b'{"page":null}', {"page": {"size": 1}}, id="null message"),
        pytest.param(
            "GET", "/v1/search?weights[a]=1", b'{"weights":{"b":2}}', {"weights": {"a": 1, "b": 2}}, id="merged map"
        ),
        pytest.param("POST", "/v1/shelves", b'{"title":"x"}', {"shelf": {"title": "x"}}, id="body in a field"),
        pytest.param("POST", "/v1/shelves", b"", {"shelf": {}}, id="no body in a field"),
        pytest.param("POST", "/v1/shelves", b"null", {}, id="null body in a field"),
        pytest.param(
            "POST",
            "/v1/shelves?shelf_id=a&validateOnly=true",
            b"{}",
            {"shelf": {}, "shelf_id": "a", "validate_only": True},
            id="query beside a body field",
        ),
        pytest.param(
            "PATCH",
            "/v1/shelves/7?update_mask=title",
            b'{"title":"x"}',
            {"shelf": {"name": "shelves/7", "title": "x"}, "update_mask": "title"},
            id="path variable inside of the body field",
        ),
        pytest.param(
            "POST",
            "/v1/shelves/1/books/2:move",
            b'{"to":"x"}',
            {"from": "shelves/1/books/2", "to": "x"},
            id="body of the whole request",
        ),
        pytest.param(
            "POST", "/v1/shelves/1/books/2:move", b"", {"from": "shelves/1/books/2"}, id="no body of the whole request"
        ),
        pytest.param(
            "POST",
            "/v1/shelves/1/books",
            b'[{"title":"a"},{"rating":1}]',
            {"shelf_id": "1", "books": [{"title": "a"}, {"rating": 1.0}]},
            id="body in a repeated field",
        ),
        pytest.param("POST", "/v1/shelves/1/books", b"", {"shelf_id": "1"}, id="no body in a repeated field"),
        pytest.param(
            "POST", "/v1/shelves/1/ratings", b'{"a":1}', {"shelf_id": "1", "ratings": {"a": 1.0}}, id="body in a map"
        ),
        pytest.param("POST", "/v1/shelves/1/count", b"7", {"shelf_id": "1", "count": 7}, id="body in a scalar"),
        pytest.param("POST", "/v1/echo", b'{"a":[1]}', {"a": [1.0]}, id="request that is a Value"),
        pytest.param("LOCK", "/v1/shelves/7", b"", {"shelf_id": "7"}, id="custom method"),
        pytest.param("BREW", "/v1/any/7", b"", {"shelf_id": "7"}, id="any method"),
    ],
)
def test_binding(http_method: str, target: str, body: bytes, request_fields: dict[str, Any]) -> None:
    """Path, query and body go where the rule says."""
    assert decode(http_method, target, body) == request_fields


@pytest.mark.parametrize(
    ("query", "request_fields"),
    [
        pytest.param("query=a+b%2Bc%26", {"query": "a b+c&"}, id="plus is a space"),
        pytest.param("query=", {}, id="empty string"),
        pytest.param("query", {}, id="no equals sign"),
        pytest.param("&&query=x&", {"query": "x"}, id="empty parts"),
        pytest.param("query=a=b", {"query": "a=b"}, id="equals sign in the value"),
        pytest.param("qu%65ry=x", {"query": "x"}, id="percent-encoded name"),
        pytest.param("query=grüße", {"query": "grüße"}, id="UTF-8, not encoded"),
        pytest.param("query=%00", {"query": "\0"}, id="NUL"),
        pytest.param("query=x&query=x", {"query": "x"}, id="same value twice"),
        pytest.param("page.size=3", {"page": {"size": 3}}, id="nested"),
        pytest.param("page.next.next.size=3", {"page": {"next": {"next": {"size": 3}}}}, id="nested deeply"),
        pytest.param("years=1&years=-2&years=1", {"years": [1, -2, 1]}, id="repeated"),
        pytest.param("orders=NEWEST&orders=2&orders=9", {"orders": ["NEWEST", "OLDEST", 9]}, id="repeated enum"),
        pytest.param("order=OLDEST", {"order": "OLDEST"}, id="enum by name"),
        pytest.param("order=2", {"order": "OLDEST"}, id="enum by number"),
        pytest.param("weights[a]=1&weights[b.c]=2", {"weights": {"a": 1, "b.c": 2}}, id="map"),
        pytest.param("weights[a[0]]=1", {"weights": {"a[0]": 1}}, id="map with brackets in a key"),
        pytest.param("weights[]=1", {"weights": {"": 1}}, id="map with an empty key"),
        pytest.param("weights%5Ba%5D=1", {"weights": {"a": 1}}, id="map, encoded"),
        pytest.param("ranks[-3]=NEWEST", {"ranks": {"-3": "NEWEST"}}, id="map with numbers as keys"),
        pytest.param("since=2024-05-06T07:08:09.5Z", {"since": "2024-05-06T07:08:09.500Z"}, id="Timestamp"),
        pytest.param("since=2024-05-06T07:08:09%2B02:00", {"since": "2024-05-06T05:08:09Z"}, id="Timestamp, offset"),
        pytest.param(
            "times=1970-01-01T00:00:00Z&times=1970-01-01T00:00:01Z",
            {"times": ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"]},
            id="repeated Timestamp",
        ),
        pytest.param("patience=1.5s", {"patience": "1.500s"}, id="Duration"),
        pytest.param("fields=query,page.size", {"fields": "query,page.size"}, id="FieldMask"),
        pytest.param("fields=firstName,a.lastName", {"fields": "firstName,a.lastName"}, id="FieldMask in camelCase"),
        pytest.param("fields=first_name,a.last_name", {"fields": "firstName,a.lastName"}, id="FieldMask in snake_case"),
        pytest.param("fields=", {"fields": ""}, id="empty FieldMask"),
        pytest.param("strict=false", {"strict": False}, id="BoolValue"),
        pytest.param("phrase=", {"phrase": ""}, id="StringValue"),
        pytest.param("cursor=-_8%3D", {"cursor": "+/8="}, id="bytes"),
        pytest.param("score=1e3&weight=-Infinity", {"score": 1000.0, "weight": "-Infinity"}, id="floats"),
        pytest.param("score=NaN", {"score": "NaN"}, id="NaN"),
        pytest.param("fuzzy=true", {"fuzzy": True}, id="bool"),
        pytest.param("big=18446744073709551615", {"big": "18446744073709551615"}, id="64 bits"),
        pytest.param("limit=0", {"limit": 0}, id="optional with its default value"),
        pytest.param("isbn=0", {"isbn": 0}, id="oneof with its default value"),
        pytest.param("$alt=json&alt=json&$prettyPrint=true&prettyPrint=false&pretty", {}, id="system parameters"),
    ],
)
def test_query_parameters(query: str, request_fields: dict[str, Any]) -> None:
    """Query parameters bind to fields of every kind that text can express."""
    assert decode("GET", f"/v1/search?{query}") == request_fields


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        pytest.param("querry=a", 'querry: unknown query parameter; did you mean "query"?', id="unknown"),
        pytest.param("zzzzz=a", "zzzzz: unknown query parameter", id="unknown, nothing close"),
        pytest.param("page.sizes=1", 'page.sizes: unknown query parameter; did you mean "size"?', id="unknown nested"),
        pytest.param("=1", '"": unknown query parameter', id="no name"),
        pytest.param("a[b]c=1", "a[b]c: unknown query parameter", id="no name at all"),
        pytest.param("page.size=x", 'page.size: expected an integer, got "x"', id="mistyped"),
        pytest.param("page.size=", 'page.size: expected an integer, got ""', id="empty number"),
        pytest.param("page.size=1&page.size=2", "page.size: given several times with different values", id="twice"),
        pytest.param("years=1&years=x", 'years: expected an integer, got "x"', id="mistyped element"),
        pytest.param("fuzzy=yes", 'fuzzy: expected true or false, got "yes"', id="bool"),
        pytest.param("strict=1", 'strict: expected true or false, got "1"', id="BoolValue"),
        pytest.param("order=NEWST", 'order: Order has no value "NEWST"; did you mean "NEWEST"?', id="enum"),
        pytest.param("cursor=!!", 'cursor: expected a base64 string, got "!!"', id="bytes"),
        pytest.param("since=now", 'since: expected a time such as "2024-05-06T07:08:09.5Z", got "now"', id="Timestamp"),
        pytest.param("patience=5", 'patience: expected a duration in seconds such as "1.5s", got "5"', id="Duration"),
        pytest.param("weights=1", "weights: is a map; give its entries as weights[key]=value", id="map without a key"),
        pytest.param("ranks[x]=1", 'ranks[x]: expected an integer, got "x"', id="map with a bad key"),
        pytest.param("weights[a]=x", 'weights[a]: expected an integer, got "x"', id="map with a bad value"),
        pytest.param("weights[a]=1&weights[a]=2", "weights[a]: given several times", id="map key twice"),
        pytest.param("years[0]=1", "years[0]: has brackets, which only maps take", id="repeated with an index"),
        pytest.param("weights[a].b=1", "weights[a].b: unknown query parameter", id="member of a map's scalar"),
        pytest.param("page=1", "page: cannot be a query parameter, as it is a message", id="message"),
        pytest.param("pages=1", "pages: cannot be a query parameter, as it is a message", id="repeated message"),
        pytest.param("pages.size=1", "pages.size: cannot be a query parameter", id="member of a repeated message"),
        pytest.param("extra=1", "extra: cannot be a query parameter, as it is a message", id="Struct"),
        pytest.param("since.seconds=1", "since.seconds: cannot be a query parameter", id="member of a Timestamp"),
        pytest.param("page_map[a]=1", "page_map[a]: cannot be a query parameter", id="map of messages"),
        pytest.param("author=a&isbn=1", "isbn: only one of author and isbn can be set", id="oneof"),
        pytest.param("$fields=a", "$fields: this system parameter is not supported", id="$fields"),
        pytest.param("$alt=proto", '$alt: expected "json", the only form that there is, got "proto"', id="$alt"),
        pytest.param("pretty=1", 'pretty: expected true or false, got "1"', id="pretty"),
        pytest.param("query=%zz", 'percent sign without two hex digits, in "%zz"', id="bad escape"),
        pytest.param("query=%ff", 'are not UTF-8, in "%ff"', id="not UTF-8"),
        pytest.param("query=\udcff", "the URL is not UTF-8", id="raw bytes that are not UTF-8"),
    ],
)
def test_bad_query_parameters(query: str, sentence: str) -> None:
    """A parameter that binds to nothing, or not to what was given, is refused by its name."""
    assert sentence in refuse("GET", f"/v1/search?{query}")


@pytest.mark.parametrize(
    ("http_method", "target", "body", "sentence"),
    [
        pytest.param("GET", "/v1/shelves/x", b"", 'shelf_id: expected an integer, got "x"', id="path variable"),
        pytest.param(
            "GET",
            "/v1/shelves/7?shelf_id=8",
            b"",
            "shelf_id: given in the query and, with another value, in the path; give it once",
            id="path and query differ",
        ),
        pytest.param(
            "GET",
            "/v1/shelves/7",
            b'{"shelfId":"8"}',
            "shelf_id: given in the path and, with another value, in the body; give it once",
            id="path and body differ",
        ),
        pytest.param(
            "GET",
            "/v1/search?page.size=1",
            b'{"page":{"size":0}}',
            "page.size: given in the query and, with another value, in the body; give it once",
            id="query and body differ, by a default value",
        ),
        pytest.param(
            "GET",
            "/v1/search?weights[a]=1",
            b'{"weights":{"a":2}}',
            "weights[a]: given in the query and, with another value, in the body; give it once",
            id="query and body differ in a map",
        ),
        pytest.param(
            "GET",
            "/v1/search?isbn=1",
            b'{"author":"a"}',
            "isbn: only one of author and isbn can be set; leave the others out",
            id="oneof in query and body",
        ),
        pytest.param(
            "POST",
            "/v1/shelves/1/books/2:move?to=x",
            b"{}",
            "to: is taken from the JSON body on this route, not from the query; put it there",
            id="query where the body is everything",
        ),
        pytest.param(
            "POST",
            "/v1/shelves/1/books/2:move?tu=x",
            b"{}",
            "tu: unknown query parameter",
            id="unknown",
        ),
        pytest.param(
            "POST",
            "/v1/shelves?shelf.title=x",
            b"{}",
            "shelf.title: belongs to the JSON body on this route, not to the query; put it there",
            id="query for a part of the body",
        ),
        pytest.param(
            "POST", "/v1/shelves", b'{"titel":"x"}', 'shelf.titel: unknown field; did you mean "title"?', id="unknown"
        ),
        pytest.param(
            "POST", "/v1/shelves", b"[]", "shelf: expected a JSON object, got an array", id="array for a message"
        ),
        pytest.param("POST", "/v1/shelves/1/books", b"{}", "books: expected a JSON array, got an object", id="object"),
        pytest.param(
            "POST",
            "/v1/shelves/1/books",
            b'[{"rating":1},{"rating":"abc"}]',
            'books[1].rating: expected a number, got "abc"',
            id="path to an element",
        ),
        pytest.param("POST", "/v1/shelves/1/count", b'"x"', 'count: expected an integer, got "x"', id="scalar body"),
        pytest.param(
            "POST", "/v1/shelves/1/all", b"[]", "expected a JSON object, got an array", id="array for everything"
        ),
        pytest.param(
            "POST", "/v1/shelves/1/all", b"null", "expected a JSON object, got null", id="null for everything"
        ),
        pytest.param("POST", "/v1/shelves/1/all", b" ", "expected JSON, got nothing", id="blank body"),
        pytest.param("GET", "/v1/search", b"x", "expected JSON, which ends at line 1, column 1", id="no JSON on GET"),
    ],
)
def test_bad_requests(http_method: str, target: str, body: bytes, sentence: str) -> None:
    """What does not fit is refused by the field's name, with both places if it was given in two."""
    assert refuse(http_method, target, body).startswith(sentence)


def test_violations() -> None:
    """The field and what is wrong with it are there on their own, too."""
    with pytest.raises(InvalidInput) as raised:
        decode("POST", "/v1/shelves/1/books", b'[{"author":{"phone":[]}}]')
    assert raised.value.violations == (Violation("books[0].author.phone", "expected an integer, got an array"),)


@pytest.mark.parametrize(
    ("http_method", "target", "body", "request_fields"),
    [
        pytest.param(
            "GET", "/v1/shelves/7?foo=1&room=&page.x=1&a[b]c=1", b'{"bar":[{"":1}],"":2}', {"shelf_id": "7"}, id="names"
        ),
        pytest.param(
            "GET", "/v1/search?order=X&orders=X&orders=NEWEST", b"", {"orders": ["NEWEST"]}, id="enum in a query"
        ),
        pytest.param("GET", "/v1/search", b'{"ranks":{"1":"X"},"order":"X"}', {}, id="enum in a body"),
    ],
)
def test_ignoring_the_unknown(http_method: str, target: str, body: bytes, request_fields: dict[str, Any]) -> None:
    """With ignore_unknown_fields, unknown names are skipped wherever they are."""
    assert decode(http_method, target, body, transcoder=LENIENT) == request_fields


@pytest.mark.parametrize(
    ("target", "body", "paths"),
    [
        pytest.param("", b'{"title":"x","tags":[]}', ["title", "tags"], id="keys of the body"),
        pytest.param("", b'{"owner":{"firstName":"y"}}', ["owner.first_name"], id="nested"),
        pytest.param("", b'{"owner":{}}', ["owner"], id="empty message"),
        pytest.param("", b'{"title":null,"owner":{"phone":null}}', ["title", "owner.phone"], id="nulls clear"),
        pytest.param(
            "",
            b'{"labels":{"a":"b"},"opened":"1970-01-01T00:00:00Z","floor":1}',
            ["labels", "opened", "floor"],
            id="leaves",
        ),
        pytest.param("", b'{"name":"shelves/7","title":"x"}', ["title"], id="without what the path says"),
        pytest.param("?update_mask=", b'{"title":"x"}', ["title"], id="empty mask"),
        pytest.param("?update_mask=tags", b'{"title":"x"}', ["tags"], id="given mask"),
        pytest.param("?updateMask=firstName", b'{"title":"x"}', ["first_name"], id="given mask in camelCase"),
        pytest.param("?update_mask=*", b'{"title":"x"}', ["*"], id="given mask of everything"),
        pytest.param("", b"{}", [], id="empty body"),
        pytest.param("", b"", [], id="no body"),
    ],
)
def test_update_mask(target: str, body: bytes, paths: list[str]) -> None:
    """PATCH with a JSON body fills an empty `update_mask` with what the body says (AIP-134)."""
    request: Any = TRANSCODER.match("PATCH", "/v1/shelves/7", target[1:]).decode(body)
    assert list(request.update_mask.paths) == paths
    assert request.HasField("update_mask") is bool(paths)


def test_update_mask_beside_another_message() -> None:
    """What the path says of another message than the body leaves the mask alone."""
    rule = HttpRule(patch="/v1/{other.some_text}/{line.score}", body="line")
    match = Transcoder(methods_for([("Pair", rule)])).match("PATCH", "/v1/x/1")
    request: Any = match.decode(b'{"some_text":"y","score":1,"last":true}')
    assert list(request.update_mask.paths) == ["some_text", "last"]


def test_raw_request_bodies() -> None:
    """A google.api.HttpBody takes the body as it is, with its content type."""
    match = TRANSCODER.match("POST", "/v1/raw")
    assert match.takes_raw_body
    request: Any = match.decode(b"\xff{", content_type="text/plain")
    assert (request.data, request.content_type) == (b"\xff{", "text/plain")


def test_raw_request_bodies_of_a_broken_type() -> None:
    """A content type that is not UTF-8, which servers show as lone surrogates, is refused."""
    with pytest.raises(InvalidInput, match=r'Content-Type: expected a media type, got "\?", which is not UTF-8'):
        TRANSCODER.match("POST", "/v1/raw").decode(b"x", content_type="\udcff")


def test_raw_body_in_a_field() -> None:
    """A field of that type does so too, next to path and query."""
    match = TRANSCODER.match("PUT", "/v1/files/a/b.png", "revision=3")
    assert match.takes_raw_body
    request: Any = match.decode(b"\x89PNG", content_type="image/png")
    assert (request.path, request.revision) == ("a/b.png", 3)
    assert (request.content.data, request.content.content_type) == (b"\x89PNG", "image/png")
    assert not TRANSCODER.match("GET", "/v1/files/a").takes_raw_body


@pytest.mark.parametrize(
    ("http_method", "path", "response", "payload", "content_type"),
    [
        pytest.param(
            "POST", "/v1/raw", {"data": b"\xff", "content_type": "image/gif"}, b"\xff", "image/gif", id="whole"
        ),
        pytest.param("POST", "/v1/raw", {"data": b"x"}, b"x", "application/octet-stream", id="without a type"),
        pytest.param("PUT", "/v1/files/a", {"content": {"data": b"x"}}, b"x", "application/octet-stream", id="field"),
        pytest.param("PUT", "/v1/files/a", {}, b"", "application/octet-stream", id="field that is not set"),
    ],
)
def test_raw_response_bodies(
    http_method: str, path: str, response: dict[str, Any], payload: bytes, content_type: str
) -> None:
    """A google.api.HttpBody is sent as it is."""
    match = TRANSCODER.match(http_method, path)
    message = message_class(match.route.method.output_type.full_name)(**response)
    assert (match.encode(message), match.response_type(message)) == (payload, content_type)


BOOKS = {"books": [{"title": "a", "rating": 1.5}, {"author": {"phone": 3}}], "ratings": {"x": float("nan")}, "count": 2}


@pytest.mark.parametrize(
    ("path", "response", "payload"),
    [
        pytest.param(
            "/v1/shelves/1/books",
            BOOKS,
            [[1.5, "a", None], [0.0, "", {"first_name": "", "phone": "3"}]],
            id="arrays in the order of field numbers",
        ),
        pytest.param("/v1/shelves/1/books", {}, [], id="arrays, empty"),
        pytest.param("/v1/shelves/1/ratings", BOOKS, {"x": "NaN"}, id="map"),
        pytest.param("/v1/shelves/1/count", BOOKS, 2, id="scalar"),
        pytest.param("/v1/shelves/1/count", {}, 0, id="scalar with its default"),
        pytest.param(
            "/v1/shelves/1/all",
            BOOKS,
            {
                "books": [
                    {"title": "a", "rating": 1.5},
                    {"title": "", "rating": 0.0, "author": {"first_name": "", "phone": "3"}},
                ],
                "ratings": {"x": "NaN"},
                "count": 2,
            },
            id="whole response, where the form of arrays does not apply",
        ),
    ],
)
def test_response_bodies(path: str, response: dict[str, Any], payload: Any) -> None:
    """The body of a response is the field that the rule names, in the form that the field asks for."""
    match = TRANSCODER.match("POST", path)
    message = message_class("AddBooksResponse")(**response)
    assert orjson.loads(match.encode(message)) == payload
    assert match.response_type(message) == "application/json"


def test_pretty() -> None:
    """`pretty` indents, in each of its spellings."""
    message = message_class("AddBooksResponse")(count=1)
    for query in ("pretty=true", "prettyPrint=true", "%24prettyPrint=true", "$prettyPrint", "pretty"):
        match = TRANSCODER.match("POST", "/v1/shelves/1/all", query)
        assert match.pretty
        assert match.encode(message) == b'{\n  "books": [],\n  "ratings": {},\n  "count": 1\n}'
    match = TRANSCODER.match("POST", "/v1/shelves/1/all", "pretty=false")
    assert not match.pretty
    assert match.encode(message) == b'{"books":[],"ratings":{},"count":1}'


def test_a_field_named_like_a_system_parameter() -> None:
    """A field of the request wins over a system parameter without a dollar sign."""
    match = TRANSCODER.match("GET", "/v1/shelves", "pretty=very&$prettyPrint=true")
    request: Any = match.decode(b"")
    assert (request.pretty, match.pretty) == ("very", True)


def test_match_tells_what_it_found() -> None:
    """A match has its route and what the path bound."""
    match = TRANSCODER.match("GET", "/v1/rooms/x/shelves/7")
    assert match.route.method.name == "GetShelf"
    assert dict(match.variables) == {"room": "x", "shelf_id": "7"}


def test_unknown_path() -> None:
    """A path without a rule is not found, and says so."""
    with pytest.raises(RouteNotFound, match='there is nothing at "/v9"'):
        TRANSCODER.match("GET", "/v9")
    assert TRANSCODER.allowed("/v9") == ()


def test_other_method() -> None:
    """A path with rules, none for the method, says which methods it takes."""
    with pytest.raises(MethodNotAllowed) as raised:
        TRANSCODER.match("PUT", "/v1/shelves")
    assert raised.value.allow == ("GET", "HEAD", "POST") == TRANSCODER.allowed("/v1/shelves")
    assert str(raised.value) == '"/v1/shelves" does not take PUT; it takes GET, HEAD and POST'


def test_a_response_without_a_json_form() -> None:
    """What JSON cannot express is not the caller's fault."""
    message = message_class("Shelf")(opened={"seconds": 10**15})
    with pytest.raises(InvalidMessage, match="a Timestamp outside the years 1 to 9999 has no JSON form"):
        TRANSCODER.match("GET", "/v1/shelves/7").encode(message)


def test_depth_limit() -> None:
    """`max_depth` is how many levels of arrays and objects a body may have."""
    shallow = Transcoder(methods(), max_depth=3)
    assert shallow.match("POST", "/v1/echo").decode(b"[[[1]]]")
    assert refuse("POST", "/v1/echo", b"[[[[1]]]]", transcoder=shallow).endswith(
        "nested too deeply; send fewer levels of arrays and objects"
    )
