"""Endpoints set up: added, changed, given a new secret, tested, disabled and enabled, removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import Fault, Invalid, NotFound
from app.flows import endpoint_words
from app.mail import Kind
from app.models import alert, campaign, endpoint, endpoint_post
from app.models.endpoint import Endpoint, Line, Wish
from app.models.endpoint_post import Result
from app.providers import endpoint_post as posting
from app.providers.endpoint_post import Reply
from app.runtime import Runtime

KINDS: Final = tuple(kind.value for kind in Kind)
LONGEST_NAME: Final = 80
TEST_DEADLINE: Final = 10.0  # seconds: somebody waits for it
TAKEN: Final = "There is an endpoint of that name already."


@dataclass(frozen=True, slots=True)
class Entry:
    """An endpoint as a form has it. `url` "" leaves a known one as it is; `campaign_id` None: events of all campaigns.

    `with_email`: whether the leads' addresses are told, too.
    """

    name: str
    url: str
    kinds: Sequence[str] = KINDS
    campaign_id: int | None = None
    with_email: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """A new endpoint, and the secret that signs its posts: shown now and never again."""

    id: int
    secret: str


def add(runtime: Runtime, organisation_id: int, entry: Entry) -> Added:
    """Add an endpoint; it hears of what happens from now on (each process knows of it within two seconds).

    Raises Invalid naming "name", "url", "kinds" or "campaign".
    """
    secret = posting.new_secret()
    with runtime.db.session() as session:
        wish = _read(runtime, session, organisation_id, entry, None)
        added = endpoint.add(session.connection(), organisation_id, wish, runtime.vault.encrypt(secret))
        if added is None:
            raise Invalid.one("name", TAKEN)
    return Added(added, secret)


def change(runtime: Runtime, organisation_id: int, endpoint_id: int, entry: Entry) -> None:
    """Change what it is told and where; what waits is posted to the new address. Raises NotFound, and as `add` does."""
    with runtime.db.session() as session:
        conn = session.connection()
        known = _lock(conn, organisation_id, endpoint_id)
        wish = _read(runtime, session, organisation_id, entry, known)
        try:
            changed = endpoint.change(conn, endpoint_id, wish)
        except IntegrityError as error:
            raise Invalid.one("name", TAKEN) from error
        if not changed:
            raise Invalid.one("name", TAKEN)


def rotate(runtime: Runtime, organisation_id: int, endpoint_id: int) -> str:
    """A new secret; posts are signed with the one before as well for a day. Raises NotFound."""
    secret = posting.new_secret()
    with runtime.db.begin() as conn:
        _lock(conn, organisation_id, endpoint_id)
        endpoint.rotate(conn, endpoint_id, runtime.vault.encrypt(secret))
    return secret


def disable(runtime: Runtime, organisation_id: int, endpoint_id: int, user_id: int | None = None) -> None:
    """Post nothing until it is enabled; what it would hear is kept for a week. Raises NotFound."""
    with runtime.db.begin() as conn:
        _lock(conn, organisation_id, endpoint_id)
        endpoint.disable(conn, endpoint_id, user_id, None)


def enable(runtime: Runtime, organisation_id: int, endpoint_id: int) -> None:
    """Post to it, and all anew that is kept for it: given up or never tried. Raises NotFound."""
    with runtime.db.begin() as conn:
        _lock(conn, organisation_id, endpoint_id)
        endpoint.enable(conn, endpoint_id)
        endpoint_post.revive(conn, endpoint_id)
        alert.clear(conn, alert.Kind.ENDPOINT_DISABLED, endpoint_id)


def remove(runtime: Runtime, organisation_id: int, endpoint_id: int) -> None:
    """Delete it, with what waits for it. Raises NotFound."""
    with runtime.db.begin() as conn:
        _lock(conn, organisation_id, endpoint_id)
        endpoint.remove(conn, endpoint_id)


def send_test(runtime: Runtime, organisation_id: int, endpoint_id: int) -> Reply:
    """Post a signed test without events, once and now, disabled or not; what it answered. Raises NotFound."""
    with runtime.db.begin() as conn:
        known = _lock(conn, organisation_id, endpoint_id)
        trial = endpoint_post.add_test(conn, endpoint_id)
    body = endpoint_words.test_body(organisation_id, endpoint_id, trial.created_at)
    secrets = [runtime.vault.decrypt(each) for each in (known.secret, known.old_secret) if each is not None]
    url, private = runtime.vault.decrypt(known.url), runtime.settings.private_providers
    began = monotonic()
    reply = posting.post(url, str(trial.key), body, secrets, private=private, deadline=TEST_DEADLINE)
    result = Result(reply.status, reply.said, monotonic() - began)
    with runtime.db.begin() as conn:
        if reply.taken:
            endpoint_post.took(conn, trial.id, result)
        else:
            endpoint_post.failed(conn, trial.id, result, 0.0, asked=False)
    return reply


def find(runtime: Runtime, organisation_id: int | None, endpoint_id: int) -> Line:
    """One endpoint as pages show it; of any organisation where none is given. Raises NotFound."""
    with runtime.db.begin() as conn:
        found = endpoint.find_lines(conn, organisation_id, endpoint_id)
    if not found:
        raise NotFound("There is no such endpoint.")
    return found[0]


def _lock(conn: Connection, organisation_id: int, endpoint_id: int) -> Endpoint:
    known = endpoint.lock(conn, endpoint_id, organisation_id)
    if known is None:
        raise NotFound("There is no such endpoint.")
    return known


def _read(runtime: Runtime, session: Session, organisation_id: int, entry: Entry, known: Endpoint | None) -> Wish:
    """What a form asks for, or Invalid with every fault."""
    faults = list(_faults(entry))
    url, host = entry.url.strip(), known.host if known else ""
    if url or known is None:
        try:
            host = posting.read_host(url, runtime.settings.private_providers)
        except Invalid as error:
            faults.extend(error.faults)
    if entry.campaign_id is not None and (known is None or entry.campaign_id != known.campaign_id):
        try:
            campaign.get(session, organisation_id, entry.campaign_id)
        except NotFound:
            faults.append(Fault("campaign", "There is no such campaign."))
    if faults:
        raise Invalid(faults)
    sealed = known.url if known is not None and not url else runtime.vault.encrypt(url)
    kinds = [kind for kind in KINDS if kind in entry.kinds]
    return Wish(entry.name.strip(), sealed, host, kinds, entry.campaign_id, entry.with_email)


def _faults(entry: Entry) -> list[Fault]:
    faults = []
    name = entry.name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        faults.append(Fault("name", f"Give the endpoint a name of one line, {LONGEST_NAME} characters at most."))
    strange = sorted(set(entry.kinds) - set(KINDS))
    if strange:
        faults.append(Fault("kinds", f"There is no kind of event “{strange[0][:40]}”; there are {', '.join(KINDS)}."))
    elif not entry.kinds:
        faults.append(Fault("kinds", "Choose at least one kind of event."))
    return faults
