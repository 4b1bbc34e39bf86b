"""Everything that is wrong with a template is found when it is saved, named by part, line and way out."""

from __future__ import annotations

import pytest

from app.errors import Invalid
from app.models.template import compile_content
from tests.test_template import FIELDS, faults


def fault(html: str) -> str:
    found = faults(html)
    assert [pointer for pointer, _ in found] == ["html"], found
    return found[0][1]


def test_a_fault_names_its_part_and_its_line() -> None:
    found = faults("<p>\n\n{{ lead.frist_name }}</p>\n{{ lead.nme | upcas }}", "{{ lead.zzz }}", "a\n{{ b }}")
    assert found == [
        ("subject", "Line 1: There is no lead.zzz."),
        ("html", "Line 3: There is no lead.frist_name. Did you mean lead.first_name?"),
        ("html", "Line 4: There is no filter named upcas. Did you mean upcase?"),
        ("html", "Line 4: There is no lead.nme."),
        ("text", "Line 2: There is no b. A lead's attributes are written lead.<name>."),
    ]


@pytest.mark.parametrize(
    ("html", "says"),
    [
        ("a\n{{ lead.email", "Line 2: This {{ is never closed"),
        ("a\n{% if lead.vip ", "Line 2: This {% is never closed"),
        ("{% raw %} x", "Line 1: There is no endraw"),
        ("{% comment %} x", "Line 1: There is no endcomment"),
        ("\n{% if lead.vip %} x", "Line 2: This if is never closed"),
        ("{% if lead.vip %}\n{% endfor %}", "Line 2: This endfor cannot stand here: the if of line 1 is open"),
        ("\n{% else %}", "Line 2: This else cannot stand here"),
        ("\n{% endif %}", "Line 2: This endif cannot stand here: no block is open"),
        ("\n{{ lead.email | }}", "Line 2: Expected a filter's name"),
        ("{{ lead.email lead.email }}", "Line 1: "),
        ("\n{{ }}", "Line 2: Expected a value"),
        ("{% if lead.vip %}a{% else x %}b{% endif %}", "Line 1: "),
        ("{% if lead.vip %}a{% else %}b{% else %}c{% endif %}", "had its else already"),
        ("{% if lead.vip = true %}a{% endif %}", "is written =="),
        ("{% include 'x' %}", "Line 1: Templates cannot load other templates"),
        ("{% render 'x' %}", "Line 1: Templates cannot load other templates"),
        ("{% capture x %}a{% endcapture %}", "Line 1: Capture is not supported"),
        ("{% foo %}", "Line 1: There is no tag named foo: use if"),
        ("{% assign x = 1 %}", "Line 1: assign works inside a block only"),
        ("{% if lead.vip %}{% assign lead = 1 %}{% endif %}", "Line 1: lead is taken"),
        ("{% if lead.vip %}{% assign x = 1 %}{% endif %}{{ x }}", "Line 1: There is no x."),
        ("{{ lead }}", "There is no lead."),
        ("{{ lead[0] }}", "Write a merge field with dots"),
        ("{{ lead[lead.email] }}", "Write a merge field with dots"),
        ("{{ lead.email.size }}", "There is no lead.email.size."),
        ("{{ lead.email | truncate: 'x' }}", "truncate takes a number here"),
        ("{{ lead.email | truncate: 1, '.', 3 }}", "truncate takes 0 to 2 arguments"),
        ("{{ lead.email | default }}", "default takes 1 argument."),
        ("{{ lead.email | default: 'x', allow_false: true }}", "default takes 1 argument."),
        ("{{ lead.email | truncate: most: 3 }}", "truncate takes no argument named most"),
        ("{{ lead.born | date: '%Q' }}", "%Q is not known in a date's format"),
        ("{{ lead.born | date: lead.email }}", "Write out the format"),
        ("{% if lead.points > '3' %}a{% endif %}", "lead.points is a number, '3' is text"),
        ("{% if lead.vip == 'true' %}a{% endif %}", "never equal. lead.vip is true or false, 'true' is text"),
        ("{% case lead.points %}{% when '1' %}a{% endcase %}", "These are never equal"),
        ("{% if lead.vip > true %}a{% endif %}", "compared by size"),
        ("{% if lead.points contains 3 %}a{% endif %}", "contains looks for text in text"),
        ("{% for x in lead.first_name %}a{% endfor %}", "goes over a range of numbers only"),
        ("{% for x in (1..9) limit: 3 %}a{% endfor %}", "Change the loop's range"),
        ("a\x07b", "Line 1: The character U+0007 cannot be sent"),
        ("", "Write what the email says"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(html: str, says: str) -> None:
    assert says in faults(html)[0][1]


@pytest.mark.parametrize(
    "subject", ["", "  ", "a\nb", "a\r\nBcc: b", "a\u2028b", "{% if lead.vip %}\n{% endif %}", "x" * 501]
)
def test_a_subject_is_one_line_that_is_not_empty(subject: str) -> None:
    assert faults("x", subject)[0][0] == "subject"


@pytest.mark.parametrize(
    ("html", "says"),
    [
        ("<a href={{ lead.shop }}>x</a>", "Put quotes around the value"),
        ("<a href=https://x.example/{{ lead.shop }}>x</a>", "Put quotes around the value"),
        ("<p {{ lead.email }}>", "not among a tag's attributes"),
        ("<p{{ lead.email }}>", "not among a tag's attributes"),
        ("<{{ lead.email }}>", "cannot be a tag's name"),
        ("</{{ lead.email }}>", "cannot be a tag's name"),
        ("<script>var x = '{{ lead.email }}'</script>", "script or a style sheet"),
        ("<style>p { color: {{ lead.email }} }</style>", "script or a style sheet"),
        ("<p onclick=\"go('{{ lead.email }}')\">", "cannot stand in onclick"),
        ("<iframe srcdoc='{{ lead.email }}'>", "cannot stand in srcdoc"),
        ("<p style='color: {{ lead.email }}'>", "Only a number can stand in a style"),
        ("<p style='width: {{ lead.points | append: \"px\" }}'>", "Only a number can stand in a style"),
        ("<a href='java{{ lead.email }}'>", "part of a link's beginning"),
        ("<a href='{% if lead.vip %}https://x/?a={% endif %}{{ lead.email }}'>", "part of a link's beginning"),
        ("<a href='javascript:alert(1)'>", "a scheme that runs code"),
        ("<a href=' JavaScript:alert(1)'>", "a scheme that runs code"),
        ("<a href='&#106;avascript:alert(1)'>", "a scheme that runs code"),
        ("<p {% if lead.vip %}title='a{% endif %}>", "same HTML tags and quotes"),
        ("<a {% if lead.vip %}href='a'>{% else %}href='{{ lead.shop }}'{% endif %}>", "same HTML tags and quotes"),
    ],
)
def test_a_merge_field_cannot_stand_where_escaping_would_not_make_it_safe(html: str, says: str) -> None:
    assert says in fault(html)


@pytest.mark.parametrize(
    "html",
    [
        "<a href='{{ lead.shop }}'>x</a>",
        "<a href='{{ lead.shop }}/{{ lead.email }}'>x</a>",
        "<a href='mailto:{{ lead.email }}'>x</a>",
        '<a href = "https://x.example/?a={{ lead.email | url_encode }}&amp;b={{ lead.points }}#{{ lead.email }}">x</a>',
        "<a href='/{{ lead.email }}'>x</a>",
        "<a href='{% if lead.vip %}{{ lead.shop }}{% else %}https://x.example/{{ lead.email }}{% endif %}'>x</a>",
        "<a {% if lead.vip %}class='gold'{% endif %} href='{{ lead.shop }}'>x</a>",
        "{% if lead.vip %}<b>{{ lead.email }}</b>{% else %}<i title='{{ lead.email }}'></i>{% endif %}",
        "{% case lead.points %}<i title='{% when 1 %}<b>x</b>{% when 2 %}<i>y</i>{% endcase %}",
        "<p style='width: {{ lead.points }}px; height: {{ lead.points | times: 2 | default: 3 }}px'>",
        "<style>p { color: red }</style><script>1 < 2</script>{{ lead.email }}",
        "<!--[if mso]><v:rect href='https://x.example/{{ lead.email }}'><![endif]-->{{ lead.email }}",
        "<!--[if !mso]><!-->{{ lead.email }}<!--<![endif]-->",
        "<!doctype html><br/><img src='cid:logo' alt={% raw %}x{% endraw %}>a < b {{ lead.points }} <3",
        '<input disabled value="{{ lead.email }}"><td width="100"">{{ lead.email }}</td>',
    ],
)
def test_what_emails_are_made_of_is_accepted(html: str) -> None:
    compile_content("Hello", html, "x", FIELDS)


def test_faults_are_many_but_bounded() -> None:
    with pytest.raises(Invalid) as caught:
        compile_content("x", "{{ lead.no }}" * 500, "x", FIELDS)
    assert len(caught.value.faults) == 20
