"""Pools and senders: provider accounts, and the identities that send through them."""

from __future__ import annotations

from urllib.parse import urlsplit

from app import providers
from app.addresses import read_address
from app.errors import Fault, Invalid, NotFound
from app.models import outbox, pool, sender, webhook
from app.models.pool import Pool
from app.models.sender import Sender
from app.runtime import Runtime


def add_pool(
    runtime: Runtime, organisation_id: int, name: str, url: str, batch: int = 50, *, webhook_secret: str | None = None
) -> int:
    """Add a provider account; its id. The URL and what its webhooks are signed with are kept encrypted.

    Raises Invalid naming "name", "url", "batch" or "secret".
    """
    faults = [] if name.strip() else [Fault("name", "Give the pool a name.")]
    if any(ord(character) < 32 for character in name.strip()):
        faults.append(Fault("name", "Write the pool's name in one line."))
    try:
        providers.check(url)
    except Invalid as error:
        faults.extend(error.faults)
    if not 1 <= batch <= 1000:
        faults.append(Fault("batch", "A batch has 1 to 1,000 leads."))
    if faults:
        raise Invalid(faults)
    provider = urlsplit(url).scheme.partition("+")[0]
    if webhook_secret is not None:
        _check_secret(provider, webhook_secret)
    with runtime.db.session() as session:
        if pool.find_named(session, organisation_id, name.strip()) is not None:
            raise Invalid.one("name", "There is a pool of that name already.")
        added = Pool(
            organisation_id=organisation_id,
            name=name.strip(),
            provider=provider,
            url=runtime.vault.encrypt(url),
            shown_url=providers.shown(url),
            batch=batch,
        )
        session.add(added)
        session.flush()
        if webhook_secret is not None:
            webhook.set_secret(session.connection(), added.id, runtime.vault.encrypt(webhook_secret))
        return added.id


def ensure_pool(runtime: Runtime, organisation_id: int, name: str, url: str) -> int:
    """The pool of that name, made where there is none, and pointed to `url` where it points elsewhere; its id."""
    with runtime.db.session() as session:
        found = pool.find_named(session, organisation_id, name)
        if found is not None:
            if runtime.vault.decrypt(found.url) != url:
                found.url, found.shown_url = runtime.vault.encrypt(url), providers.shown(url)
            return found.id
    return add_pool(runtime, organisation_id, name, url)


def set_webhook_secret(runtime: Runtime, organisation_id: int, pool_id: int, secret: str) -> None:
    """Take the pool's webhooks, signed with this, from now on; "" takes none. Kept encrypted, and never shown again.

    Raises NotFound; Invalid naming "secret".
    """
    secret = secret.strip()
    with runtime.db.session() as session:
        found = session.get(Pool, pool_id)
        if found is None or found.organisation_id != organisation_id:
            raise NotFound("There is no such pool.")
        if secret:
            _check_secret(found.provider, secret)
        webhook.set_secret(session.connection(), pool_id, runtime.vault.encrypt(secret) if secret else None)


def webhook_address(runtime: Runtime, token: str, provider: str) -> str:
    """Where a provider posts to: what a person pastes into its console."""
    return f"{runtime.settings.base_url}/webhooks/{token}/{provider}"


def resume_pool(runtime: Runtime, organisation_id: int, pool_id: int) -> None:
    """A person says that a paused pool may send again. Raises NotFound."""
    with runtime.db.begin() as conn:
        pool.resume(conn, organisation_id, pool_id)
        outbox.hurry(conn, pool_id)
    runtime.ring("send", runtime.settings.worker_threads)


def add_sender(
    runtime: Runtime, organisation_id: int, pool_id: int | None, name: str, address: str, reply_to: str | None = None
) -> int:
    """Add a From identity; its id. Raises Invalid naming "name", "address", "reply_to" or "pool"."""
    faults: list[Fault] = []
    if not name.strip() or any(ord(character) < 32 for character in name):
        faults.append(Fault("name", "Say in one line who the email is from."))
    parsed = _read("address", address, faults)
    answered = _read("reply_to", reply_to, faults) if reply_to else None
    with runtime.db.session() as session:
        through = session.get(Pool, pool_id) if pool_id is not None else None
        if through is None or through.organisation_id != organisation_id:
            faults.append(Fault("pool", "Choose a pool to send through."))
        if faults:
            raise Invalid(faults)
        assert through is not None and parsed is not None
        if sender.find_named(session, organisation_id, parsed, name.strip()) is not None:
            raise Invalid.one("address", "There is a sender with this name and address already.")
        added = Sender(
            organisation_id=organisation_id, pool_id=through.id, name=name.strip(), address=parsed, reply_to=answered
        )
        session.add(added)
        session.flush()
        return added.id


def _check_secret(provider: str, secret: str) -> None:
    spoken = providers.WEBHOOKS.get(provider)
    if spoken is None:
        raise Invalid.one("secret", "This provider has no webhooks.")
    spoken.check_secret(secret)


def _read(pointer: str, address: str, faults: list[Fault]) -> str | None:
    try:
        return read_address(address)[0]
    except Invalid as error:
        faults.extend(Fault(pointer, fault.message) for fault in error.faults)
        return None
