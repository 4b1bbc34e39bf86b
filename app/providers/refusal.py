"""What a provider's own error codes mean for a whole call, and what a person can do; the tables are the providers'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import orjson

from app.errors import ProviderDown, ProviderError, ProviderUnsure
from app.providers.halving import CallRefused
from app.providers.http import Answer, retry_after, taken


@dataclass(frozen=True, slots=True)
class Meant:
    """`error` is raised for the call; `advice` is one sentence for a person. `retry_in`: seconds, for ProviderDown."""

    error: type[ProviderError]
    advice: str = ""
    retry_in: float | None = None


REFUSED: Final = Meant(CallRefused)
Codes = Mapping[str, Meant]
Row = tuple[int, str, Meant]


def judge(answer: Answer, codes: Codes, member: str, wait: float | None = None) -> Answer:
    """The answer itself when it is a whole 2xx; else raises what its code means, or its status where no code is known.

    `member` is where a JSON error names its code. A row "403 code" goes before "code". Only 4xx are judged by code: of
    a 5xx nobody knows what was done before it. `wait`: seconds that the provider named outside of Retry-After.
    """
    return judge_code(answer, code_of(answer, member), codes, wait)


def judge_code(answer: Answer, code: str, codes: Codes, wait: float | None = None) -> Answer:
    """The same for a code that stands elsewhere."""
    if not 400 <= answer.status < 500:
        return taken(answer)
    meant = codes.get(f"{answer.status} {code}", codes.get(code))
    return _refuse(answer, meant, f"HTTP {answer.status} {code}: {answer.raw[:300]}", wait)


def judge_words(answer: Answer, rows: Sequence[Row], told: str, wait: float | None = None) -> Answer:
    """As `judge`, where errors have no codes: by the first row whose words, in small letters, stand in `told`.

    `told` is what the answer says to people; a row's status 0 is any 4xx.
    """
    if not 400 <= answer.status < 500:
        return taken(answer)
    small = told.lower()
    found = (meant for status, words, meant in rows if status in (0, answer.status) and words in small)
    return _refuse(answer, next(found, None), f"HTTP {answer.status}: {told[:300]}", wait)


def _refuse(answer: Answer, meant: Meant | None, told: str, wait: float | None) -> Answer:
    """Raises what is meant, or else what the status means."""
    if meant is None:
        try:
            return taken(answer)
        except ProviderDown as down:
            down.retry_in = wait if down.retry_in is None else down.retry_in
            raise
    said = f"{meant.advice} {told}".strip()
    if meant.error is ProviderDown:
        named = (meant.retry_in, retry_after(answer.headers), wait)
        raise ProviderDown(said, answer.raw, next((seconds for seconds in named if seconds is not None), None))
    raise meant.error(said, answer.raw)


def code_of(answer: Answer, member: str) -> str:
    """The code in a JSON error's `member`, "" where there is none."""
    try:
        told = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return ""
    value = told.get(member) if isinstance(told, dict) else None
    return str(value) if isinstance(value, str | int) else ""


@contextmanager
def making_sense(answer: Answer) -> Iterator[None]:
    """Whatever goes wrong while a reply to a call that was taken is read makes the whole call unknown."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        why = f"The reply makes no sense ({type(error).__name__}: {error})."
        raise ProviderUnsure(why[:500], answer.raw) from error
