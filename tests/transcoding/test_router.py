"""From HTTP methods and paths to rules and variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.transcoding import InvalidInput
from saxgw.transcoding.router import Router, capture
from saxgw.transcoding.template import Template, parse_template

RULES = (
    "GET /",
    "GET /v1/shelves",
    "POST /v1/shelves",
    "GET /v1/shelves/{id}",
    "GET /v1/shelves/top",
    "DELETE /v1/shelves/{id}",
    "GET /v1/{name=shelves/*/books/*}",
    "GET /v1/*/*/books/first",
    "POST /v1/{name=shelves/*}:merge",
    "POST /v1/{name=shelves/*}:slow:merge",
    "POST /v1/{rest=**}:merge",
    "GET /v2/{path=**}",
    "GET /v2/{a}/{b}",
    "POST /v2/{path=x/**}:go",
    "GET /sp%20ace/{x}",
    "LOCK /v1/shelves/{id}",
    "* /any/{x}",
    "GET /any/{x}",
    "HEAD /headed",
    "GET /headed",
    "GET /deep/{a.b.c=x/*/y}/z",
    "GET /plain/{x}",
    "POST /plain/it",
    "GET /plain/it:go",
    "GET /plain/{name=this}",
    "GET /plain/grün",
)


def router(rules: tuple[str, ...] = RULES) -> Router[tuple[str, Template]]:
    made: Router[tuple[str, Template]] = Router()
    for rule in rules:
        http_method, text = rule.split(" ")
        template = parse_template(text)
        assert made.add(http_method, template, (rule, template)) is None
    return made


def find(http_method: str, path: str) -> tuple[str, dict[str, str]] | None:
    found = router().find(http_method, path)
    if found is None:
        return None
    (rule, template), segments = found
    return rule, capture(template, segments)


@pytest.mark.parametrize(
    ("http_method", "path", "rule", "variables"),
    [
        pytest.param("GET", "/", "GET /", {}, id="root"),
        pytest.param("GET", "/v1/shelves", "GET /v1/shelves", {}, id="literals"),
        pytest.param("POST", "/v1/shelves", "POST /v1/shelves", {}, id="another method"),
        pytest.param("GET", "/v1/shelves/7", "GET /v1/shelves/{id}", {"id": "7"}, id="variable"),
        pytest.param("GET", "/v1/shelves/top", "GET /v1/shelves/top", {}, id="literal before variable"),
        pytest.param("DELETE", "/v1/shelves/top", "DELETE /v1/shelves/{id}", {"id": "top"}, id="method decides"),
        pytest.param("LOCK", "/v1/shelves/7", "LOCK /v1/shelves/{id}", {"id": "7"}, id="custom method"),
        pytest.param(
            "GET",
            "/v1/shelves/1/books/2",
            "GET /v1/{name=shelves/*/books/*}",
            {"name": "shelves/1/books/2"},
            id="many segments",
        ),
        pytest.param(
            "GET",
            "/v1/shelves/1/books/first",
            "GET /v1/{name=shelves/*/books/*}",
            {"name": "shelves/1/books/first"},
            id="leftmost literal decides",
        ),
        pytest.param("GET", "/v1/rooms/1/books/first", "GET /v1/*/*/books/first", {}, id="backs out of a dead end"),
        pytest.param(
            "POST", "/v1/shelves/1:merge", "POST /v1/{name=shelves/*}:merge", {"name": "shelves/1"}, id="verb"
        ),
        pytest.param(
            "POST",
            "/v1/shelves/1:slow:merge",
            "POST /v1/{name=shelves/*}:slow:merge",
            {"name": "shelves/1"},
            id="longest verb",
        ),
        pytest.param(
            "POST",
            "/v1/shelves/a:b:merge",
            "POST /v1/{name=shelves/*}:merge",
            {"name": "shelves/a:b"},
            id="colon before the verb",
        ),
        pytest.param("POST", "/v1/a/b:merge", "POST /v1/{rest=**}:merge", {"rest": "a/b"}, id="verb after the rest"),
        pytest.param("POST", "/v1:merge", "POST /v1/{rest=**}:merge", {"rest": ""}, id="verb after an empty rest"),
        pytest.param("POST", "/v1/a:m%65rge", "POST /v1/{rest=**}:merge", {"rest": "a"}, id="percent-encoded verb"),
        pytest.param("GET", "/v1/shelves/1:merge", "GET /v1/shelves/{id}", {"id": "1:merge"}, id="verb of others"),
        pytest.param("GET", "/v1/shelves/a%3Amerge", "GET /v1/shelves/{id}", {"id": "a:merge"}, id="encoded colon"),
        pytest.param("GET", "/v2", "GET /v2/{path=**}", {"path": ""}, id="rest of nothing"),
        pytest.param("GET", "/v2/a", "GET /v2/{path=**}", {"path": "a"}, id="rest of one"),
        pytest.param("GET", "/v2/a/b", "GET /v2/{a}/{b}", {"a": "a", "b": "b"}, id="one before rest"),
        pytest.param("GET", "/v2/a/b/c", "GET /v2/{path=**}", {"path": "a/b/c"}, id="rest of three"),
        pytest.param("POST", "/v2/x/y/z:go", "POST /v2/{path=x/**}:go", {"path": "x/y/z"}, id="rest in a variable"),
        pytest.param("GET", "/v1/shelves/a%2Fb%20c", "GET /v1/shelves/{id}", {"id": "a/b c"}, id="%2F decoded in one"),
        pytest.param(
            "GET", "/v2/a%2Fb/c%20d/%2f", "GET /v2/{path=**}", {"path": "a%2Fb/c d/%2f"}, id="%2F kept in many"
        ),
        pytest.param("GET", "/sp%20ace/x+y", "GET /sp%20ace/{x}", {"x": "x+y"}, id="plus is a plus in paths"),
        pytest.param("GET", "/v1/%73helves", "GET /v1/shelves", {}, id="literal that is needlessly encoded"),
        pytest.param("GET", "/v1/shelves/gr%C3%BC%C3%9Fe", "GET /v1/shelves/{id}", {"id": "grüße"}, id="UTF-8"),
        pytest.param("GET", "/v1/shelves/grüße", "GET /v1/shelves/{id}", {"id": "grüße"}, id="UTF-8, not encoded"),
        pytest.param("GET", "/any/1", "GET /any/{x}", {"x": "1"}, id="method before any method"),
        pytest.param("BREW", "/any/1", "* /any/{x}", {"x": "1"}, id="any method"),
        pytest.param("HEAD", "/v1/shelves", "GET /v1/shelves", {}, id="HEAD is GET"),
        pytest.param("HEAD", "/headed", "HEAD /headed", {}, id="HEAD of its own"),
        pytest.param("HEAD", "/any/1", "GET /any/{x}", {"x": "1"}, id="HEAD is GET before any method"),
        pytest.param("GET", "/plain/it", "GET /plain/{x}", {"x": "it"}, id="literals are for another method"),
        pytest.param("POST", "/plain/i%74", "POST /plain/it", {}, id="literals, one encoded"),
        pytest.param("GET", "/plain/it:go", "GET /plain/it:go", {}, id="literals and a verb"),
        pytest.param("GET", "/plain/it:g%6F", "GET /plain/it:go", {}, id="literals and an encoded verb"),
        pytest.param("GET", "/plain/it:stop", "GET /plain/{x}", {"x": "it:stop"}, id="literals and a colon"),
        pytest.param("GET", "/plain/this", "GET /plain/{name=this}", {"name": "this"}, id="variable of a literal"),
        pytest.param("GET", "/plain/gr%C3%BCn", "GET /plain/grün", {}, id="literal of other letters"),
        pytest.param("GET", "/plain/grün", "GET /plain/grün", {}, id="literal of other letters, not encoded"),
        pytest.param("GET", "/deep/x/1/y/z", "GET /deep/{a.b.c=x/*/y}/z", {"a.b.c": "x/1/y"}, id="nested field"),
    ],
)
def test_matching(http_method: str, path: str, rule: str, variables: dict[str, str]) -> None:
    """A request goes to the most specific rule, and the path is taken apart as google/api/http.proto says."""
    assert find(http_method, path) == (rule, variables)


@pytest.mark.parametrize(
    ("http_method", "path", "methods"),
    [
        pytest.param("GET", "/v3", (), id="unknown"),
        pytest.param("GET", "/v1", (), id="too short"),
        pytest.param("GET", "/v1/shelves/", (), id="trailing slash"),
        pytest.param("GET", "/v1//shelves", (), id="empty segment"),
        pytest.param("GET", "//v1/shelves", (), id="leading empty segment"),
        pytest.param("GET", "/v2/", (), id="trailing slash before a rest"),
        pytest.param("GET", "/v2/a//b", (), id="empty segment in a rest"),
        pytest.param("GET", "/v2/a/", (), id="trailing slash in a rest"),
        pytest.param("GET", "/V1/shelves", (), id="upper case"),
        pytest.param("GET", "v1/shelves", (), id="no slash"),
        pytest.param("GET", "", (), id="empty"),
        pytest.param("OPTIONS", "*", (), id="asterisk"),
        pytest.param("GET", "/v1/a/b/c%2Fbooks/first", (), id="encoded slash is no separator"),
        pytest.param("PUT", "/v1/shelves", ("GET", "HEAD", "POST"), id="another method"),
        pytest.param("get", "/v1/shelves", ("GET", "HEAD", "POST"), id="methods have their case"),
        pytest.param("PUT", "/v1/shelves/7", ("DELETE", "GET", "HEAD", "LOCK"), id="methods of a variable path"),
        pytest.param("PUT", "/v1/x:merge", ("POST",), id="methods of a verb"),
        pytest.param("OPTIONS", "/v1/shelves/1:merge", ("DELETE", "GET", "HEAD", "LOCK", "POST"), id="verb or not"),
    ],
)
def test_no_match(http_method: str, path: str, methods: tuple[str, ...]) -> None:
    """What matches no rule has the methods that its path takes, if any."""
    assert find(http_method, path) is None
    assert router().methods(path) == methods


def test_methods_of_a_rule_for_all_methods() -> None:
    """A rule for all methods shows as the methods that one would try."""
    assert router().methods("/any/1") == ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/v1/shelves/%", id="percent sign alone"),
        pytest.param("/v1/shelves/%4", id="one digit"),
        pytest.param("/v1/shelves/%zz", id="no digits"),
        pytest.param("/v2/a/%zz", id="in a rest"),
        pytest.param("/v1/shelves/%FF", id="not UTF-8"),
        pytest.param("/v1/shelves/%ED%A0%80", id="a surrogate"),
        pytest.param("/v1/shelves/%C3", id="cut off"),
        pytest.param("/v1/shelves/\udcff", id="raw bytes that are not UTF-8"),
        pytest.param("/v1/shelves/x:%zz", id="in a verb"),
    ],
)
def test_malformed_paths(path: str) -> None:
    """Malformed percent-encoding and bytes that are not UTF-8 are the caller's fault, and said to be so."""
    with pytest.raises(InvalidInput, match="the URL "):
        find("GET", path)


@pytest.mark.parametrize(
    ("there", "another", "clash"),
    [
        pytest.param("GET /a/{x}", "GET /a/{y}", True, id="same but for names"),
        pytest.param("GET /a/{x=*}", "GET /a/*", True, id="variable and wildcard"),
        pytest.param("GET /{x=a/*}", "GET /a/{y}", True, id="variables cut elsewhere"),
        pytest.param("GET /a/{x}:v", "GET /a/{y}:v", True, id="same verb"),
        pytest.param("GET /a%20b", "GET /%61%20b", True, id="same but for encoding"),
        pytest.param("GET /a", "POST /a", False, id="another method"),
        pytest.param("GET /a", "* /a", False, id="any method"),
        pytest.param("GET /a/{x}:v", "GET /a/{y}:w", False, id="another verb"),
        pytest.param("GET /a/{x}", "GET /a/{x}:v", False, id="with and without a verb"),
        pytest.param("GET /a/{x}", "GET /a/b", False, id="variable and literal"),
        pytest.param("GET /a/{x}", "GET /a/{x=**}", False, id="one and rest"),
        pytest.param("GET /a/%2A", "GET /a/*", False, id="a literal asterisk is no wildcard"),
    ],
)
def test_clashes(there: str, another: str, clash: bool) -> None:  # noqa: FBT001 - a column of the table
    """Two rules clash if nothing could ever tell their requests apart."""
    made = router((there,))
    http_method, text = another.split(" ")
    template = parse_template(text)
    found = made.add(http_method, template, (another, template))
    assert (found[0] if found else None) == (there if clash else None)


@given(st.text(alphabet="/:%2Fvshelmrgx1*{}+ü\udcff", max_size=40), st.sampled_from(["GET", "POST", "BREW"]))
def test_any_path(path: str, http_method: str) -> None:
    """Whatever the path, there is a rule that takes its method, or none, or InvalidInput."""
    try:
        methods = router().methods(f"/{path}")
        found = find(http_method, f"/{path}")
    except InvalidInput:
        return
    assert found is None or http_method in methods or found[0].startswith("*")


def test_many_colons() -> None:
    """A path of nothing but colons is looked up in no time, as no verb is that long."""
    assert find("GET", "/v1/shelves/" + ":" * 100_000) == ("GET /v1/shelves/{id}", {"id": ":" * 100_000})
