"""Pools: provider accounts that people add, change and take away; their secrets are written, and never read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from app import providers
from app.errors import ConfigError, Conflict, Fault, Invalid
from app.models import account, limit, outbox, pool, webhook
from app.models.limit import Limit
from app.models.pool import Pool
from app.providers.address import account_in, confined, freed, is_confined
from app.providers.forms import KINDS, Kind, compose, decompose, same_place
from app.providers.smtp import SmtpAccount
from app.runtime import Runtime

ANEW = "Enter it again: what is stored was meant for another server, or another way to it."


def add_pool(
    runtime: Runtime,
    organisation_id: int,
    name: str,
    url: str,
    batch: int = 50,
    *,
    webhook_secret: str | None = None,
    confine: bool = False,
) -> int:
    """Add a provider account; its id. The URL and what its webhooks are signed with are kept encrypted.

    `confine`: whoever typed the URL does not run this machine, so that it reaches public addresses only (but those of
    MILLRACE_PRIVATE_PROVIDERS). Raises Invalid naming "name", "url", "batch" or "secret".
    """
    url = url.strip()
    kept = confined(url) if confine else url
    faults = _faults(name, batch)
    try:
        providers.check(kept, runtime.settings.private_providers)
    except Invalid as error:
        faults.extend(error.faults)
    if faults:
        raise Invalid(faults)
    provider = _provider_of(url)
    if webhook_secret is not None:
        _check_secret(provider, webhook_secret)
    with runtime.db.session() as session:
        account.hold(session.connection(), organisation_id)
        if pool.find_named(session, organisation_id, name.strip()) is not None:
            raise Invalid.one("name", "There is a pool of that name already.")
        added = Pool(
            organisation_id=organisation_id,
            name=name.strip(),
            provider=provider,
            url=runtime.vault.encrypt(kept),
            shown_url=providers.shown(url),
            batch=batch,
            account=_account_of(runtime, kept),
        )
        session.add(added)
        session.flush()
        account.share(session.connection(), organisation_id)
        if webhook_secret is not None:
            webhook.set_secret(session.connection(), added.id, runtime.vault.encrypt(webhook_secret))
        return added.id


def add_account(
    runtime: Runtime, organisation_id: int, kind: Kind, name: str, values: Mapping[str, str], batch: int
) -> int:
    """Add what a user filled in, at a public address; the pool's id.

    Raises Invalid naming fields of the kind, or as `add_pool`.
    """
    faults = _faults(name, batch)
    try:
        url = compose(kind, values)
    except Invalid as error:
        raise Invalid([*faults, *error.faults]) from None
    return add_pool(runtime, organisation_id, name, url, batch, confine=True)


def edit_account(
    runtime: Runtime, organisation_id: int, pool_id: int, name: str, values: Mapping[str, str], batch: int
) -> None:
    """Change a pool: what is left empty of its secrets stays, as long as it goes to the same server in the same way.

    Raises NotFound; Invalid naming "name", "batch" or fields of the pool's kind.
    """
    with runtime.db.session() as session:
        account.hold(session.connection(), organisation_id)
        found = pool.get(session, organisation_id, pool_id)
        stored = _stored(runtime, found)
        kept = _changed_url(runtime, found.provider, stored, values, _faults(name, batch))
        namesake = pool.find_named(session, organisation_id, name.strip())
        if namesake is not None and namesake.id != pool_id:
            raise Invalid.one("name", "There is a pool of that name already.")
        found.name, found.batch = name.strip(), batch
        if kept != stored:
            found.url, found.shown_url = runtime.vault.encrypt(kept), providers.shown(freed(kept))
            found.account = _account_of(runtime, kept)
            session.flush()
            account.share(session.connection(), organisation_id)
            found.checked_at = found.check_said = found.check_good = None


def account_form(runtime: Runtime, organisation_id: int, pool_id: int) -> tuple[Kind, dict[str, str]]:
    """The kind of a pool's account and what its fields hold, all but the secrets. Raises NotFound.

    One that was encrypted under another key has empty fields, to be filled in anew.
    """
    found = _find(runtime, organisation_id, pool_id)
    kind, values = _known(found.provider, _stored(runtime, found))
    return kind, {name: value for name, value in values.items() if name not in kind.secrets}


def delete_pool(runtime: Runtime, organisation_id: int, pool_id: int) -> None:
    """Take away a pool that nothing was ever sent through. Raises NotFound; Conflict where something refers to it."""
    _find(runtime, organisation_id, pool_id)
    with runtime.db.begin() as conn:
        account.hold(conn, organisation_id)
        if not pool.delete(conn, organisation_id, pool_id):
            raise Conflict("Senders use this pool, or emails were sent through it: reports still name it.")
        account.share(conn, organisation_id)


def ensure_pool(runtime: Runtime, organisation_id: int, name: str, url: str) -> int:
    """The operator's pool of that name, made where there is none, pointed to `url` if it points elsewhere; its id."""
    with runtime.db.session() as session:
        account.hold(session.connection(), organisation_id)
        found = pool.find_named(session, organisation_id, name)
        if found is not None:
            if not holds(runtime, found, url):
                providers.check(url)
                found.url, found.shown_url = runtime.vault.encrypt(url), providers.shown(url)
                found.provider = _provider_of(url)
                found.account = _account_of(runtime, url)
                session.flush()
                account.share(session.connection(), organisation_id)
            return found.id
    return add_pool(runtime, organisation_id, name, url)


def holds(runtime: Runtime, found: Pool, url: str) -> bool:
    """Whether this is the pool's URL now."""
    return _stored(runtime, found) == url


def set_webhook_secret(runtime: Runtime, organisation_id: int, pool_id: int, secret: str) -> None:
    """Take the pool's webhooks, signed with this, from now on; "" takes none. Kept encrypted, and never shown again.

    Raises NotFound; Invalid naming "secret".
    """
    secret = secret.strip()
    found = _find(runtime, organisation_id, pool_id)
    if secret:
        _check_secret(found.provider, secret)
    with runtime.db.begin() as conn:
        webhook.set_secret(conn, pool_id, runtime.vault.encrypt(secret) if secret else None)


def webhook_address(runtime: Runtime, token: str, provider: str) -> str:
    """Where a provider posts to: what a person pastes into its console."""
    return f"{runtime.settings.base_url}/webhooks/{token}/{provider}"


def resume_pool(runtime: Runtime, organisation_id: int, pool_id: int) -> None:
    """A person says that a paused pool may send again. Raises NotFound."""
    with runtime.db.begin() as conn:
        pool.resume(conn, organisation_id, pool_id)
        outbox.hurry(conn, pool_id)
    runtime.ring("send", runtime.settings.worker_threads)


def find_lines(runtime: Runtime, organisation_id: int, pool_id: int) -> SmtpAccount | None:
    """How many connections an SMTP pool has, and emails over each; None for any other. Raises NotFound."""
    found = _find(runtime, organisation_id, pool_id)
    stored = _stored(runtime, found) if found.provider == "smtp" else None
    try:
        return None if stored is None else SmtpAccount.read(stored)
    except Invalid:  # a file of authorities that is gone: the account's own check says so
        return None


def set_limits(runtime: Runtime, organisation_id: int, pool_id: int, limits: Sequence[Limit]) -> None:
    """Give a pool these limits and no others. Raises NotFound; Invalid as app.models.limit."""
    _find(runtime, organisation_id, pool_id)
    with runtime.db.begin() as conn:
        account.hold(conn, organisation_id)
        limit.set_limits(conn, pool_id, limits)
        account.share(conn, organisation_id)
    runtime.ring("send")


def set_purpose(runtime: Runtime, organisation_id: int, pool_id: int, purpose: str) -> None:
    """Say what a pool is there for. Raises NotFound; Invalid naming "purpose" where senders use it otherwise."""
    with runtime.db.session() as session:
        account.hold(session.connection(), organisation_id)
        found = pool.get(session, organisation_id, pool_id)
        if purpose not in pool.PURPOSES:
            raise Invalid.one("purpose", "Choose what the pool is there for.")
        said = pool.misuse(pool.find_users(session.connection(), pool_id), purpose)
        if said:
            raise Invalid.one("purpose", said)
        found.purpose = purpose


def tell_accounts(runtime: Runtime) -> int:
    """Tell the accounts of pools that are older than the question; how many. What cannot be decrypted is left."""
    with runtime.db.begin() as conn:
        found = account.find_untold(conn)
    told = {each: url for each in found if (url := _decrypt(runtime, each.url)) is not None}
    for organisation_id in {each.organisation_id for each in told}:
        with runtime.db.begin() as conn:
            account.hold(conn, organisation_id)
            for each, url in told.items():
                if each.organisation_id == organisation_id:
                    account.tell(conn, each, _account_of(runtime, url))
            account.share(conn, organisation_id)
    return len(told)


def _changed_url(
    runtime: Runtime, provider: str, stored: str | None, values: Mapping[str, str], faults: list[Fault]
) -> str:
    """The URL that is to be kept. One that goes elsewhere is the user's own: what an operator allowed was the other."""
    kind, known = _known(provider, stored)
    left = [name for name in kind.secrets if not values.get(name, "").strip() and known.get(name)]
    url = freed(stored or "")
    try:
        url = compose(kind, {**values, **{name: known[name] for name in left}})
    except Invalid as error:
        faults.extend(error.faults)
    same = stored is not None and same_place(stored, url)
    kept = url if same and not is_confined(stored or "") else confined(url)
    if not same and not faults:
        faults.extend(Fault(name, ANEW) for name in left)
    if not faults and _provider_of(url) != provider:
        faults.append(Fault("url", f"This pool is at {provider}: make another one for another provider."))
    if not faults and kept != stored:
        try:
            providers.check(kept, runtime.settings.private_providers)
        except Invalid as error:
            faults.extend(error.faults)
    if faults:
        raise Invalid(faults)
    return kept


def _stored(runtime: Runtime, found: Pool) -> str | None:
    """The pool's URL; None where another key encrypted it."""
    return _decrypt(runtime, found.url)


def _decrypt(runtime: Runtime, url: bytes) -> str | None:
    try:
        return runtime.vault.decrypt(url)
    except ConfigError:
        return None


def _account_of(runtime: Runtime, url: str) -> bytes:
    """What two pools have in common that speak with the same account; b"" where there is none."""
    known = account_in(url)
    return runtime.vault.digest(known) if known else b""


def _known(provider: str, stored: str | None) -> tuple[Kind, dict[str, str]]:
    return (KINDS.get(provider, KINDS["url"]), {}) if stored is None else decompose(stored)


def _find(runtime: Runtime, organisation_id: int, pool_id: int) -> Pool:
    with runtime.db.session() as session:
        return pool.get(session, organisation_id, pool_id)


def _faults(name: str, batch: int) -> list[Fault]:
    faults = [] if name.strip() else [Fault("name", "Give the pool a name.")]
    if any(ord(character) < 32 for character in name.strip()):
        faults.append(Fault("name", "Write the pool's name in one line."))
    if not 1 <= batch <= 1000:
        faults.append(Fault("batch", "A batch has 1 to 1,000 leads."))
    return faults


def _provider_of(url: str) -> str:
    return urlsplit(url).scheme.partition("+")[0]


def _check_secret(provider: str, secret: str) -> None:
    spoken = providers.WEBHOOKS.get(provider)
    if spoken is None:
        raise Invalid.one("secret", "This provider has no webhooks.")
    spoken.check_secret(secret)
