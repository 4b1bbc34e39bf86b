"""Conditions to begin with, made from the fields that an organisation's leads really have."""

from __future__ import annotations

from collections.abc import Iterator

from app.models.field import Field, Fields, Type

# One rule for the first attribute of each type; what a marketer would ask of it.
BY_TYPE: dict[Type, tuple[str, object]] = {
    "text": ("in", ["France", "Germany"]),
    "number": (">=", 30),
    "boolean": ("=", True),
    "date": (">", "1 year ago"),
    "timestamp": (">", "30 days ago"),
}


def examples(fields: Fields) -> list[dict[str, object]]:
    """Complete conditions, each valid for `fields`; the last one shows how groups are nested."""
    rules = [_rule("created_at", ">", "30 days ago"), _rule("email", "endsWith", "@example.com"), *_attributes(fields)]
    nested = _group("or", *rules[:2])
    single = [_group("and", rule) for rule in rules]
    return [_group("and"), *single, _group("and", _rule("status", "=", "active"), nested)]


def _attributes(fields: Fields) -> Iterator[dict[str, object]]:
    seen: set[Type] = set()
    for field in sorted(fields.values(), key=_liking):
        if field.attribute and field.type not in seen:
            seen.add(field.type)
            operator, value = BY_TYPE[field.type]
            yield _rule(field.name, operator, value)


def _liking(field: Field) -> tuple[bool, str]:
    return field.attribute not in ("country", "age"), field.name


def _rule(field: str, operator: str, value: object) -> dict[str, object]:
    return {"field": field, "operator": operator, "value": value}


def _group(combinator: str, *rules: dict[str, object]) -> dict[str, object]:
    return {"combinator": combinator, "rules": list(rules)}
