"""Templates made to hurt, each tried within 200 MB: `python -m tests.hostile_templates` prints what came of them.

They are tried in a process of their own, so that one that breaks the limit breaks nothing else.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from app.errors import Invalid, Unrenderable
from app.models.field import Field, Fields
from app.models.template import LeadView, compile_content, preview

MEMORY = 200_000_000  # bytes beyond what the process needs to begin with
FIELDS: Fields = {
    f"attributes.{name}": Field(f"attributes.{name}", kind, name)  # type: ignore[arg-type]
    for name, kind in {"name": "text", "points": "number", "url": "text"}.items()
}
MANY = 500_000
LEADS: list[dict[str, Any]] = [
    {},
    {"name": "<script>alert(1)</script>{{ lead.email }}{% if %}", "points": 10**15, "url": "javascript:alert(1)"},
    {"name": "x" * 1_000_000, "points": -1e308, "url": "https://" + "y" * 100_000},
    {"name": "&" * 16_000, "points": 100, "url": "https://x.example"},
]


def _loops(depth: int, turns: str, inside: str = "x") -> str:
    return f"{{% for i in (1..{turns}) %}}" * depth + inside + "{% endfor %}" * depth


HOSTILE: dict[str, str] = {
    "nested loops": _loops(8, "1000"),
    "nested loops within the bound": _loops(5, "100"),
    "nested loops over a field": _loops(3, "lead.points"),
    "a loop of a billion": _loops(1, "1000000000"),
    "a loop of more than memory": _loops(1, "9" * 900),
    "a loop over a field": _loops(1, "lead.points", "{{ lead.name }}"),
    "many loops side by side": _loops(1, "100", "{{ lead.name }}") * 300,
    "a loop with much in it": _loops(1, "100", "{% if lead.name %}x{% endif %}" * 450),
    "a loop that writes much": _loops(1, "100", "x" * 100_000),
    "doubling": "{% if true %}{% assign a = 'xxxxxxxxxx' %}"
    + "{% assign a = a | append: a %}" * 60
    + "{{ a }}{% endif %}",
    "doubling in a loop": "{% for i in (1..100) %}{% assign a = a | append: a | append: 'x' %}{% endfor %}",
    "a chain of appends": "{{ lead.name" + " | append: lead.name" * 45 + " }}",
    "tripling letters": "{{ lead.name" + " | upcase | url_encode" * 40 + " }}",
    "powers": "{{ 999999999999999" + " | times: 999999999999999" * 30 + " }}",
    "a number of a thousand digits": "{{ " + "9" * 900 + " | plus: 1 }}",
    "division by nothing": "{{ 1 | divided_by: 0 }}{{ 1 | modulo: 0 }}{{ 1.5 | modulo: 0 }}",
    "a date as wide as memory": "{{ 'now' | date: '%1000000000d' }}",
    "many dates": "{{ 'now' | date: '" + "%A" * 50 + "' }}",
    "the year 99999": "{{ '99999-01-01' | date: '%Y' }}",
    "rounding to a billion places": "{{ lead.points | round: 999999999 }}",
    "truncating to a billion": "{{ lead.name | truncate: 1000000000 }}{{ lead.name | truncatewords: 1000000000 }}",
    "a class": "{{ lead.__class__ }}",
    "a class by index": "{{ lead['__class__']['__mro__'] }}",
    "a method": "{{ lead.name.upper }}{{ lead.items }}",
    "globals": "{{ self }}{{ __builtins__ }}{{ config }}{{ request }}",
    "a loop's own attributes": "{% for i in (1..2) %}{{ forloop.__init__ }}{{ forloop.it }}{% endfor %}",
    "a parent loop": "{% for i in (1..2) %}{{ forloop.parentloop.parentloop }}{% endfor %}",
    "reading files": "{% include '/etc/passwd' %}",
    "rendering files": "{% render '../../etc/passwd' %}",
    "inheritance": "{% extends 'x' %}{% block y %}{% endblock %}",
    "marking as safe": "{{ lead.name | safe }}",
    "replacing": "{{ lead.name | replace: 'x', 'xxxxxxxxxx' }}",
    "splitting": "{{ lead.name | split: '' | join: 'xxxxxxxxxx' }}",
    "a table row": "{% tablerow i in (1..1000000) %}x{% endtablerow %}",
    "cycles and counters": "{% cycle 'a', 'b' %}{% increment x %}{% decrement x %}",
    "a liquid tag": "{% liquid\nassign x = 1\necho x %}",
    "nesting without end": "{% if true %}" * 1000 + "{% endif %}" * 1000,
    "brackets without end": "{{ lead" + "[lead" * 190 + "]" * 190 + " }}",
    "parentheses without end": "{% if " + "(" * 900 + " %}x{% endif %}",
    "ranges without end": "{% for i in " + "(1.." * 200 + "1" + ")" * 200 + " %}x{% endfor %}",
    "a condition without end": "{% if " + "lead.name and " * 65 + "true %}x{% endif %}",
    "an expression of half a megabyte": "{{ lead.name | append: '" + "x" * (MANY - 100) + "' }}",
    "openings never closed": "{{" * (MANY // 2),
    "tags never closed": "{%" * (MANY // 2),
    "raw never closed": "{% raw %}" * (MANY // 9),
    "docs never closed": "{% doc %}" * (MANY // 9),
    "comments never closed": "{% comment %}" * (MANY // 13),
    "comments full of openings": "{% comment %}" + "{{" * (MANY // 2 - 100) + "{% endcomment %}",
    "raw full of openings": "{% raw %}" + "{{" * (MANY // 2 - 100) + "{% endraw %}",
    "spaces without end": "{{" + " " * (MANY - 10) + "}}",
    "quotes without end": "{{ " + "'\"" * 490 + " }}",
    "many merge fields": "{{ lead.name }}" * 950,
    "more merge fields": "{{ lead.name }}" * 30_000,
    "many different merge fields": "".join(f"{{{{ lead.name | truncate: {n} }}}}" for n in range(950)),
    "many unknown fields": "".join(f"{{{{ lead.x{n} }}}}" for n in range(950)),
    "many blocks": "".join(f"{{% if lead.points > {n} %}}x{{% endif %}}" for n in range(490)),
    "too long": "x" * 600_000,
    "tags without end": "<p>" * 19_000,
    "more tags": "<" * MANY,
    "deep tags": "<div>" * 19_000 + "x",
    "deep tables": "<table><tr><td>" * 6_000 + "x",
    "deep lists": "<ul><li>" * 9_000 + "x",
    "huge margins": "<p style='margin-top:99999em; padding-left: 99999em; margin: 1.2.3px'>x</p>" * 5_000,
    "one tag with everything": "<p " + "a=b " * 39_000 + ">x",
    "one tag with even more": "<p " + "a=b " * 100_000 + ">x",
    "an attribute without end": "<p title='" + "x" * (MANY - 100),
    "comments of html": "<!--" * 19_000,
    "entities": "&amp;" * (MANY // 5),
    "addresses from fields": "<a href='{{ lead.url }}'>x</a>" * 600,
    "addresses in blocks": "{% if lead.url %}<a href='{{ lead.url }}'>x</a>{% endif %}" * 300,
    "code in an address": "<a href='javascript:{{ lead.name }}'>x</a>",
    "markers of ours": "\ue0001\ue001 \ue0020\ue001 \ue00099999\ue001 {{ lead.name }}",
    "a surrogate": "\ud800",
    "a nul": "a\0b",
}


def attempt(html: str) -> dict[str, object]:
    """Save it, and render it for hostile leads; what came of it, the slowest step in seconds, what was shown."""
    slowest = 0.0

    def timed(step: Callable[[], Any]) -> Any:
        nonlocal slowest
        began = time.process_time()
        try:
            return step()
        finally:
            slowest = max(slowest, time.process_time() - began)

    outcomes = []
    shown = []
    try:
        compiled = timed(lambda: compile_content("Hello", html, "", FIELDS))
        for attributes in LEADS:
            lead = LeadView(1, "ann@example.com", None, attributes)
            try:
                parts = timed(lambda lead=lead: preview(compiled, lead))  # type: ignore[misc]
                outcomes.append("rendered")
                shown.append(max(map(len, parts)))
                assert "<script>" not in parts[1]
                assert "'javascript:" not in parts[1]
            except Unrenderable as error:
                outcomes.append(f"unrenderable: {str(error)[:80]}")
    except Invalid as error:
        outcomes.append(f"invalid: {str(error)[:120]}")
    return {"outcomes": outcomes, "seconds": slowest, "largest": max(shown, default=0)}


def main() -> None:
    attempt(
        "<p>{{ lead.name | upcase }}{% if lead.name %}x{% endif %}</p>"
    )  # everything is loaded before memory is bounded
    with open("/proc/self/statm") as statm:  # noqa: PTH123
        begins = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begins + MEMORY, begins + MEMORY))
    for name in sys.argv[1:] or HOSTILE:
        print(json.dumps({"name": name, **attempt(HOSTILE[name])}), flush=True)


if __name__ == "__main__":
    main()
