"""What a route of the API is: declared beside the function that answers, read by the door and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict

from app.models.api_key import ApiKey
from app.runtime import Runtime

BODY_LIMIT: Final = 1024 * 1024  # bytes, where a route does not say otherwise
MANY: Final = 1_000  # things in one request
MANY_LIMIT: Final = 5 * 1024 * 1024  # bytes of so many
View = TypeVar("View", bound=Callable[..., object])


class Asking(BaseModel):
    """What is sent to us: nothing that is not known, and no number where a text belongs."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """What stands behind the question mark: texts, read as what they should be."""

    model_config = ConfigDict(extra="forbid")


class Answering(BaseModel):
    """What is answered, read off our own values."""

    model_config = ConfigDict(from_attributes=True)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, with the hands to do it."""

    key: ApiKey
    runtime: Runtime

    @property
    def organisation_id(self) -> int:
        return self.key.organisation_id

    @property
    def user_id(self) -> int:
        return self.key.user_id


@dataclass(frozen=True, slots=True)
class Made:
    """An answer about a thing that is new: `location` is its path below the API's root."""

    value: object
    location: str


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    `body` and `query` are what the function is given under these names; `many`: a list of up to so many bodies is
    taken, too, and the function is given a list either way. `largest` is in bytes. `secret`: the answer
    shows one. `once` False: it speaks with strangers, and no transaction may be open meanwhile. `at` says where in the
    body a flow's fault is, where its name is not the field's.
    """

    method: str
    path: str
    scope: str
    act: Callable[..., object]
    tag: str
    body: type[BaseModel] | None = None
    query: type[Query] | None = None
    answer: Any = None
    status: int = 200
    many: int = 0
    largest: int = BODY_LIMIT
    secret: bool = False
    once: bool = True
    at: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.tag}_{self.act.__name__}"

    @property
    def is_safe(self) -> bool:
        return self.method == "GET"

    @property
    def takes_key(self) -> bool:
        """Whether an Idempotency-Key is heeded."""
        return self.once and not self.is_safe


class Routes:
    """The routes of one noun, in the order in which they are declared."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.found: list[Route] = []

    def get(self, path: str, scope: str, **more: Any) -> Callable[[View], View]:
        return self._declare("GET", path, scope, **more)

    def post(self, path: str, scope: str, **more: Any) -> Callable[[View], View]:
        return self._declare("POST", path, scope, **more)

    def patch(self, path: str, scope: str, **more: Any) -> Callable[[View], View]:
        return self._declare("PATCH", path, scope, **more)

    def delete(self, path: str, scope: str, **more: Any) -> Callable[[View], View]:
        return self._declare("DELETE", path, scope, **{"status": 204, **more})

    def _declare(self, method: str, path: str, scope: str, **more: Any) -> Callable[[View], View]:
        def declare(act: View) -> View:
            self.found.append(Route(method, path, scope, act, self.tag, **more))
            return act

        return declare
