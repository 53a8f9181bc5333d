"""The grammar of YQL in the stand-in for Vespa: what is read how, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vespa.building import Builder
from tests.vespa.items import (
    All,
    AnyOf,
    Empty,
    Everything,
    Item,
    Membership,
    Nearest,
    Range,
    Term,
    WeakAnd,
    Without,
)
from tests.vespa.query_errors import QueryError, YqlError
from tests.vespa.schema import parse_schema
from tests.vespa.value_lists import integers_of, strings_of
from tests.vespa.yql import parse_yql
from tests.vespa.yql_lexer import YqlSyntaxError
from tests.vespa.yql_tree import And, Contains, FieldName, Literal, Node, Not, Or, Parameter

SCHEMA = parse_schema(
    """
    schema doc {
      document doc {
        field title type string { indexing: summary | index }
        field body type array<string> { indexing: summary | index }
        field source type string {
          indexing: summary | attribute
          match: cased
        }
        field tag type string { indexing: attribute }
        field year type int { indexing: attribute }
        field price type float { indexing: attribute }
        field note type string { indexing: summary }
        field vector type tensor<float>(x[2]) { indexing: attribute }
      }
      fieldset default { fields: title, body }
    }
    """
)


def condition(text: str) -> Node:
    return parse_yql(f"select * from doc where {text}").where


def built(text: str, **parameters: str) -> Item:
    return Builder(SCHEMA, parameters).item(condition(text))


def contains(name: str, text: str) -> Contains:
    return Contains(FieldName(name), Literal(text))


def refusal(text: str, **parameters: str) -> str:
    with pytest.raises(QueryError) as caught:
        built(text, **parameters)
    return caught.value.message


def test_and_binds_tighter_than_or() -> None:
    found = condition('a contains "1" or b contains "2" and c contains "3"')

    assert found == Or((contains("a", "1"), And((contains("b", "2"), contains("c", "3")))))


def test_parentheses_bind_tighter_than_and() -> None:
    found = condition('(a contains "1" or b contains "2") and c contains "3"')

    assert found == And((Or((contains("a", "1"), contains("b", "2"))), contains("c", "3")))


@pytest.mark.parametrize(
    "text",
    [
        'a contains "1" // and b contains "2"',
        'a contains "1" # and b contains "2"',
        'a /* or */ contains /* "2" */ "1"',
        'A_COMMENT // first line\ncontains "1"',
        'a CONTAINS "1"',
        "a contains '1'",
        'a contains "\\u0031"',
        '((a contains ("1")))',
    ],
)
def test_comments_case_and_quotes_do_not_change_what_is_asked(text: str) -> None:
    found = condition(text.replace("A_COMMENT", "a"))

    assert found == contains("a", "1")


def test_a_comment_within_a_string_is_text() -> None:
    assert condition('a contains "x // y # z /* w */"') == contains("a", "x // y # z /* w */")


def test_a_quote_that_is_not_escaped_ends_the_string_and_hides_the_filter() -> None:
    """The injection that escaping only the quote lets in."""
    typed = 'x\\" or true //'
    pasted = typed.replace('"', '\\"')

    found = condition(f'a contains "{pasted}" and source contains "mine"')

    assert found == Or((contains("a", "x\\"), Literal(value=True)))


@given(st.text(alphabet=st.characters(codec="utf-8")), st.sampled_from(["'", '"']))
def test_any_text_survives_in_a_literal_that_is_escaped(text: str, quote: str) -> None:
    escaped = text.replace("\\", "\\\\").replace(quote, f"\\{quote}")

    assert condition(f"a contains {quote}{escaped}{quote}") == contains("a", text)


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_any_text_survives_as_unicode_escapes(text: str) -> None:
    units = text.encode("utf-16-be").hex()
    escaped = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

    assert condition(f'a contains "{escaped}"') == contains("a", text)


def test_the_escapes_of_strings() -> None:
    assert condition(r'a contains "\b\t\n\f\r\"\'\\\/"') == contains("a", "\b\t\n\f\r\"'\\/")


def test_a_whole_statement() -> None:
    found = parse_yql(
        "select documentid, title from sources docs, others where true order by year desc, title "
        "limit 30 offset @start timeout 500 "
        "| {'continuations':[@page, 'BAAB']} all(group(year) max(5) each(output(count())));"
    )

    assert found.fields == ("documentid", "title")
    assert found.sources == ("docs", "others")
    assert found.where == Literal(value=True)
    assert [(each.field, each.is_descending) for each in found.order] == [
        ("year", True),
        ("title", False),
    ]
    assert (found.limit, found.offset, found.timeout) == (30, Parameter("start"), 500)
    assert found.groupings[0].text == "all(group(year) max(5) each(output(count())))"
    assert found.groupings[0].continuations == (Parameter("page"), "BAAB")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "select * from doc",
        "select * where true",
        "select * from doc, other where true",
        "select * from doc where",
        "select * from doc where true or",
        "select * from doc where true true",
        "select * from doc where (true",
        "select * from doc where a contains",
        'select * from doc where a contains "x',
        "select * from doc where a contains 'x\\q'",
        'select * from doc where a contains "x\\u12"',
        'select * from doc where a contains {prefix:true}"x"',
        'select * from doc where a contains "x" and {stem:false}b contains "y"',
        'select * from doc where a like "x"',
        "select * from doc where a in ()",
        "select * from doc where a in @list",
        "select * from doc where a not in (1)",
        "select * from doc where a = 1 = 2",
        "select * from doc where true limit x",
        "select * from doc where true | all(group(a)",
        "select * from doc where true; select * from doc where true",
        "select * from doc where /* true",
        "select * from doc where a contains “x”",
        "delete from doc where true",
    ],
)
def test_what_is_not_in_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(YqlSyntaxError, match=r"\Aquery:L\d+:\d+ "):
        parse_yql(text)


def test_the_place_of_an_error_is_line_and_column() -> None:
    with pytest.raises(YqlSyntaxError) as caught:
        parse_yql("select * from doc\nwhere a § 1")

    assert str(caught.value) == "query:L2:8 token recognition error at: '§'"


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(YqlSyntaxError, match="too deeply"):
        condition("(" * 1000 + "true" + ")" * 1000)


def test_a_negation_is_taken_within_a_conjunction_only() -> None:
    assert condition('true and !(a contains "1")') == And(
        (Literal(value=True), Not(contains("a", "1")))
    )
    assert built('true and !(title contains "one")') == Without(
        Everything(), (Term(("title",), ("one",)),)
    )
    for text in ('!(title contains "one")', 'true or !(title contains "one")'):
        assert "A negation needs" in refusal(text)


def test_a_literal_of_several_words_is_a_phrase_in_text_and_whole_in_an_attribute() -> None:
    assert built('title contains "Two Words"') == Term(("title",), ("two", "words"))
    assert built('tag contains "Two Words"') == Term(("tag",), ("two words",))
    assert built('source contains "Two Words"') == Term(("source",), ("Two Words",))


def test_parameters_are_put_in_where_values_stand() -> None:
    assert built("title contains @t", t='a" or true') == Term(("title",), ("a", "or", "true"))
    assert built("title contains phrase(@t, 'b')", t="a") == Term(("title",), ("a", "b"))
    assert built("year >= @y", y="7") == Range("year", low=7)
    assert built("source in (@list, 'c')", list="a, 'b,b'") == Membership(
        ("source",), frozenset({"a", "b,b", "c"})
    )


@pytest.mark.parametrize(
    "text",
    [
        "title contains @gone",
        "year >= @gone",
        "source in (@gone)",
        "userInput(@gone)",
        "title contains text(@gone)",
    ],
)
def test_a_missing_parameter_is_refused(text: str) -> None:
    assert refusal(text) == "Could not create query from YQL: Input 'gone' is not set"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('nowhere contains "x"', "Field 'nowhere' does not exist."),
        ('note contains "x"', "Field 'note' does not exist."),
        ("nowhere > 1", "Field 'nowhere' does not exist."),
        ("nowhere in (1)", "Field 'nowhere' does not exist."),
        ('title contains fuzzy("x")', "fuzzy() is not supported by this server."),
        ('title contains sound("x")', "got sound."),
        ("shout(title)", "got shout."),
        ("wand(tag, {'a':1})", "wand() is not supported by this server."),
        ("userInput(title)", "Expected LITERAL or VARREF, got READ_FIELD."),
        ("title contains 5", "Expected a string, got 5."),
        ("title", "got READ_FIELD."),
        ("price in (1)", "only supported for integer and string fields"),
        ('year in ("a")', "Expected int in the list of values"),
        ("source in (1)", "Expected str in the list of values"),
        ("year > 'x'", "is not an int item expression"),
        ('title matches "x"', "'matches' is not supported for it"),
        ('tag matches "("', "Illegal regular expression"),
        ('({targetHit:1}userInput("x"))', "Unknown annotation 'targetHit'."),
        (
            '({targetHits:"1"}userInput("x"))',
            "Expected java.lang.Integer for annotation 'targetHits', got java.lang.String.",
        ),
        ("({language:@lang}userInput('x'))", "got com.yahoo.search.yql.OperatorNode."),
        ('({grammar:"nonesuch"}userInput("x"))', "No query type 'nonesuch'"),
        ('({grammar.syntax:"free"}userInput("x"))', "No query syntax 'free'"),
        (
            '({grammar.tokenization:"linguistics"}userInput("x"))',
            "Linguistics tokenization can only be combined with syntax none",
        ),
        ('userInput("???")', "Parsing '???' only resulted in NullItem."),
        ('userInput("")', "Parsing '' only resulted in NullItem."),
        ("range(year, 1)", "Expected 3 arguments, got 2."),
        ("range(year, a, 2)", "Expected a numerical argument (or 'Infinity') to range but got 'a'"),
        ("title contains equiv('a')", "Expected 2 or more arguments, got 1."),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(YqlError) as caught:
        built(text)

    assert caught.value.code == 4
    assert message in caught.value.message


def test_terms_in_tensors_are_refused() -> None:
    for text in ('vector contains "x"', "vector = 1"):
        with pytest.raises(QueryError, match="Cannot search for terms in 'vector'") as caught:
            built(text)
        assert caught.value.code == 17


def test_user_input_has_the_simple_syntax_and_weak_and_unless_told_otherwise() -> None:
    words = ("title", "body")

    assert built("userInput(@t)", t='cats -dogs "two words" tag:x a.b c:d') == Without(
        WeakAnd(
            (
                Term(words, ("cats",)),
                Term(words, ("two", "words")),
                Term(("tag",), ("x",)),
                Term(words, ("a", "b")),
                Term(words, ("c", "d")),
            )
        ),
        (Term(words, ("dogs",)),),
    )


@pytest.mark.parametrize(
    "annotations",
    [
        'grammar:"tokenize"',
        'grammar:"linguistics"',
        'grammar.syntax:"none", grammar.tokenization:"linguistics", grammar.composite:"weakAnd"',
    ],
)
def test_without_syntax_signs_mean_nothing(annotations: str) -> None:
    item = built(f"({{{annotations}, targetHits:7}}userInput(@t))", t="-a tag:b")

    names = ("title", "body")
    assert item == WeakAnd(tuple(Term(names, (word,)) for word in ("a", "tag", "b")), 7)


def test_the_composite_and_the_default_index_of_user_input() -> None:
    both = (Term(("title",), ("a",)), Term(("title",), ("b",)))

    assert built('({defaultIndex:"title", grammar:"all"}userInput("a b"))') == All(both)
    assert built('({defaultIndex:"title", grammar.composite:"or"}userInput("a b"))') == AnyOf(both)
    assert built('title contains ({targetHits:3}text("a b"))') == WeakAnd(both, 3)
    assert built('({totalTargetHits:9}userInput("a"))') == WeakAnd(
        (Term(("title", "body"), ("a",)),), 9, is_total=True
    )


def test_empty_text_is_taken_where_it_is_allowed() -> None:
    assert built('({allowEmpty:true}userInput("?"))') == Empty()


def test_only_negative_words_are_refused() -> None:
    assert refusal('userInput("-a -b")') == "Can not search for only negative items"


def test_annotations_hold_for_all_of_their_expression() -> None:
    item = built('{targetHits:5}nearestNeighbor(vector, q) or userInput("a")')

    assert isinstance(item, AnyOf)
    nearest, weak = item.children
    assert isinstance(nearest, Nearest)
    assert isinstance(weak, WeakAnd)
    assert (nearest.target_hits, weak.target_hits) == (5, 5)


def test_comparisons_read_in_both_directions() -> None:
    assert built("year < 5") == Range("year", high=5, is_high_open=True)
    assert built("5 > year") == Range("year", high=5, is_high_open=True)
    assert built("year >= -5") == Range("year", low=-5)
    assert built("year = 5") == Term(("year",), (5,))
    assert built('({bounds:"leftOpen"}range(year, 1, 2))') == Range("year", 1, 2, is_low_open=True)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("a", ["a"]),
        (" a , b ", ["a", "b"]),
        ("'a, b', c", ["a, b", "c"]),
        ('"it\'s",x', ["it's", "x"]),
        ("it's,x", ["it's", "x"]),
        ("'a''b'", ["a", "b"]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_lists_of_strings_have_no_escapes(text: str, values: list[str]) -> None:
    assert strings_of(text) == values


def test_a_quote_in_a_list_must_be_closed() -> None:
    """The backslash does not escape: the first value ends before the comma."""
    with pytest.raises(ValueError, match="Expected one of"):
        strings_of("'a\\','b")


def test_lists_of_integers() -> None:
    assert integers_of("1, -2,3") == [1, -2, 3]
    with pytest.raises(
        ValueError, match="Expected an integer between positions 2 and 3, but got x"
    ):
        integers_of("1,x")
