"""The grammar of path templates."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.transcoding import InvalidRule
from saxgw.transcoding.template import Variable, Wildcard, parse_template

ONE, REST = Wildcard.ONE, Wildcard.REST


@pytest.mark.parametrize(
    ("text", "segments", "variables", "verb"),
    [
        pytest.param("/", (), (), "", id="root"),
        pytest.param("/v1", ("v1",), (), "", id="one literal"),
        pytest.param("/v1/shelves", ("v1", "shelves"), (), "", id="literals"),
        pytest.param("/*", (ONE,), (), "", id="one wildcard"),
        pytest.param("/**", (REST,), (), "", id="all the rest"),
        pytest.param("/a/*/b/**", ("a", ONE, "b", REST), (), "", id="wildcards"),
        pytest.param("/{name}", (ONE,), (Variable("name", 0, 1),), "", id="variable"),
        pytest.param("/{name=*}", (ONE,), (Variable("name", 0, 1),), "", id="variable with its default pattern"),
        pytest.param("/{name=**}", (REST,), (Variable("name", 0, None),), "", id="variable with the rest"),
        pytest.param("/v1/{a.b.c}", ("v1", ONE), (Variable("a.b.c", 1, 2),), "", id="nested field"),
        pytest.param(
            "/v1/{name=shelves/*/books/**}",
            ("v1", "shelves", ONE, "books", REST),
            (Variable("name", 1, None),),
            "",
            id="variable of many segments",
        ),
        pytest.param(
            "/v1/{a=x/*}/y/{b}",
            ("v1", "x", ONE, "y", ONE),
            (Variable("a", 1, 3), Variable("b", 4, 5)),
            "",
            id="two variables",
        ),
        pytest.param("/v1/a:read", ("v1", "a"), (), "read", id="verb after a literal"),
        pytest.param("/v1/*:read", ("v1", ONE), (), "read", id="verb after a wildcard"),
        pytest.param("/v1/{n=a/*}:read", ("v1", "a", ONE), (Variable("n", 1, 3),), "read", id="verb after a variable"),
        pytest.param("/v1/**:read", ("v1", REST), (), "read", id="verb after the rest"),
        pytest.param("/v1/a:b:c", ("v1", "a"), (), "b:c", id="verb with a colon"),
        pytest.param("/v1:x/a", ("v1:x", "a"), (), "", id="colon in a segment that is not the last"),
        pytest.param("/a%20b/%2F", ("a b", "/"), (), "", id="percent-encoded literals"),
        pytest.param("/{n=a%2Fb}", ("a/b",), (Variable("n", 0, 1),), "", id="percent-encoded literal in a variable"),
        pytest.param("/grüße", ("grüße",), (), "", id="literal beyond ASCII"),
        pytest.param("/$metadata/~x/a.b-c_d", ("$metadata", "~x", "a.b-c_d"), (), "", id="unreserved characters"),
    ],
)
def test_valid_templates(
    text: str, segments: tuple[str | Wildcard, ...], variables: tuple[Variable, ...], verb: str
) -> None:
    """Templates of the grammar in google/api/http.proto are taken apart, and what is printed means the same."""
    template = parse_template(text)
    assert (template.segments, template.variables, template.verb) == (segments, variables, verb)
    assert parse_template(str(template)) == template


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        pytest.param("/v1/{name=*}:x", "/v1/{name}:x", id="default pattern is left out"),
        pytest.param("/v1/{name=shelves/*}", "/v1/{name=shelves/*}", id="as written"),
        pytest.param("/{a=x/**}", "/{a=x/**}", id="rest in a variable"),
        pytest.param("/a%20b%2f:c%3Ad", "/a%20b%2F:c:d", id="escapes that are needed"),
        pytest.param("/", "/", id="root"),
    ],
)
def test_printing(text: str, printed: str) -> None:
    """A template prints in its normal form."""
    assert str(parse_template(text)) == printed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "does not start with a slash", id="empty"),
        pytest.param("v1/shelves", "does not start with a slash", id="no slash"),
        pytest.param("/v1/", "a segment is empty", id="trailing slash"),
        pytest.param("//v1", "a segment is empty", id="double slash"),
        pytest.param("/v1/{name=}", "is no variable", id="empty pattern"),
        pytest.param("/v1/{name=a//b}", "a segment is empty", id="empty segment in a variable"),
        pytest.param("/v1/{}", "is no variable", id="variable without a name"),
        pytest.param("/v1/{.a}", "is no variable", id="name starts with a dot"),
        pytest.param("/v1/{a..b}", "is no variable", id="name with two dots"),
        pytest.param("/v1/{1a}", "is no variable", id="name starts with a digit"),
        pytest.param("/v1/{a-b}", "is no variable", id="name with a dash"),
        pytest.param("/v1/{name", "is no variable", id="brace never closed"),
        pytest.param("/v1/name}", "is no segment", id="brace never opened"),
        pytest.param("/v1/{a={b}}", "is no variable", id="variable in a variable"),
        pytest.param("/v1/{a}{b}", "is no variable", id="two variables in a segment"),
        pytest.param("/v1/{a}b", "is no variable", id="text after a variable"),
        pytest.param("/v1/a{b}", "is no segment", id="text before a variable"),
        pytest.param("/v1/a*", "is no segment", id="wildcard in a literal"),
        pytest.param("/v1/***", "is no segment", id="three asterisks"),
        pytest.param("/v1/a b", "is no segment", id="space"),
        pytest.param("/v1/a?b", "is no segment", id="question mark"),
        pytest.param("/v1/%zz", "is no segment", id="bad escape"),
        pytest.param("/v1/a:", "is no verb", id="empty verb"),
        pytest.param("/v1/a:b*", "is no verb", id="wildcard in a verb"),
        pytest.param("/v1/a:{b}", "is no segment", id="variable as a verb"),
        pytest.param("/v1/**/a", "** stands where it is not the last segment", id="rest in the middle"),
        pytest.param("/v1/{a=**}/b", "** stands where it is not the last segment", id="rest variable in the middle"),
        pytest.param("/v1/{a=**/x}", "** stands where it is not the last segment", id="rest in a variable's middle"),
        pytest.param("/v1/**/**", "** stands where it is not the last segment", id="two rests"),
        pytest.param("/v1/{a}/{a}", "it binds one field twice", id="one field twice"),
    ],
)
def test_invalid_templates(text: str, reason: str) -> None:
    """Other templates are refused with the template and the reason."""
    with pytest.raises(InvalidRule) as raised:
        parse_template(text)
    assert reason in str(raised.value)
    assert f'"{text}"' in str(raised.value)


@given(st.text(alphabet="/{}=*:.%2Fab ü", max_size=20))
def test_any_text(text: str) -> None:
    """Whatever the text, it is a template that prints as itself, or InvalidRule."""
    with suppress(InvalidRule):
        template = parse_template(f"/{text}")
        assert parse_template(str(template)) == template
