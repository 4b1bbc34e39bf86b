"""A pool, and a sender, out of the environment: what a platform that knows only variables can set up."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Final

from app.errors import ConfigError, Invalid
from app.flows import pools, senders
from app.models import pool, sender
from app.models import user as users
from app.runtime import Runtime

POOL: Final = "From PROVIDER_URL"


def seed_provider(runtime: Runtime) -> str | None:
    """Make or mend the pool of PROVIDER_URL and the sender of PROVIDER_SENDER; a sentence about it, None for nothing.

    They belong to the oldest user's organisation: before there is a user nothing is made. A pool of another name that
    has this URL already, like a demo's, is left alone. Raises ConfigError where a variable makes no sense.
    """
    url = runtime.settings.provider_url
    with runtime.db.session() as session:
        owner = users.oldest(session)
        if url is None or owner is None:
            return None
        organisation_id = owner.organisation_id
        known = pool.list_all(session, organisation_id)
    if any(each.name != POOL and pools.holds(runtime, each, url) for each in known):
        return None
    try:
        pool_id = pools.ensure_pool(runtime, organisation_id, POOL, url)
    except Invalid as error:
        raise ConfigError(f"PROVIDER_URL: {error.faults[0].message}") from None
    return f"The pool “{POOL}” sends to {_shown(runtime, pool_id)}.{_seed_sender(runtime, organisation_id, pool_id)}"


def _seed_sender(runtime: Runtime, organisation_id: int, pool_id: int) -> str:
    written = runtime.settings.provider_sender
    if written is None:
        return ""
    name, address = parseaddr(written)
    name = name or address.partition("@")[0]
    with runtime.db.session() as session:
        if sender.find_named(session, organisation_id, address, name) is not None:
            return ""
    try:
        senders.add_sender(runtime, organisation_id, pool_id, name, address)
    except Invalid:
        raise ConfigError("PROVIDER_SENDER must look like Old Mill Bakery <hello@example.com>.") from None
    return f" {name} <{address}> sends through it."


def _shown(runtime: Runtime, pool_id: int) -> str:
    with runtime.db.session() as session:
        return session.get_one(pool.Pool, pool_id).shown_url
