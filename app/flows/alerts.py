"""Telling of alerts: what is due is mailed to its readers and posted to the operator's webhook.

Each notice is claimed, with the time of its next try, before it is sent, and no transaction is open meanwhile: two
clocks never send one at the same time, and one that a clock died over is sent a minute later, under the same id. So a
notice may arrive twice, but is not lost while its day lasts. An alert that cleared or was dismissed before it was told
is not told at all; whoever was told that it began is told that it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from app.errors import Invalid, ProviderDown, ProviderError, ProviderRefusesUs
from app.flows import alert_words
from app.models import notice
from app.models.notice import Notice
from app.providers.alert_mail import AlertMail
from app.providers.alert_post import AlertPost
from app.runtime import Runtime

log = logging.getLogger(__name__)

Tell = Callable[[Runtime, Notice], None]

DEADLINE: Final = 15.0  # seconds for one notice: well below the minute after which another clock may try
MOST: Final = 100  # notices of one turn


def deliver(runtime: Runtime) -> int:
    """Send what is due by mail and by webhook; how many arrived. Where a way is not set up, alerts are only shown."""
    with runtime.db.begin() as conn:
        notice.drop_moot(conn)
    by_mail = _deliver if runtime.settings.alert_smtp_url else _forgo
    by_post = _deliver if runtime.settings.alert_webhook_url else _forgo
    return by_mail(runtime, _mail, by_mail=True) + by_post(runtime, _post, by_mail=False)


def _mail(runtime: Runtime, due: Notice) -> None:
    settings = runtime.settings
    try:
        mail = AlertMail(settings.alert_smtp_url or "", settings.alert_from or "", deadline=DEADLINE)
        mail.send(alert_words.letter(due, settings.base_url))
    except Invalid as invalid:
        raise ProviderRefusesUs(f"ALERT_SMTP_URL cannot be used. {invalid.faults[0].message}") from invalid


def _post(runtime: Runtime, due: Notice) -> None:
    settings = runtime.settings
    post = AlertPost(settings.alert_webhook_url or "", settings.alert_webhook_secret or "", deadline=DEADLINE)
    try:
        post.send(str(due.key), alert_words.body(due, settings.base_url))
    finally:
        post.close()


def _forgo(runtime: Runtime, tell: Tell, *, by_mail: bool) -> int:
    with runtime.db.begin() as conn:
        notice.forgo(conn, by_mail=by_mail)
    return 0


def _deliver(runtime: Runtime, tell: Tell, *, by_mail: bool) -> int:
    """One after the other. Where the way itself is down the rest stays due: each turn finds that out once."""
    delivered = 0
    for _ in range(MOST):
        if runtime.stopping.is_set():
            break
        with runtime.db.begin() as conn:
            due = notice.claim(conn, by_mail=by_mail)
        if due is None:
            break
        try:
            tell(runtime, due)
        except (ProviderDown, ProviderRefusesUs) as error:
            _failed(runtime, due, error)
            break
        except ProviderError as error:
            _failed(runtime, due, error)
        else:
            delivered += 1
            with runtime.db.begin() as conn:
                notice.done(conn, due.id)
    return delivered


def _failed(runtime: Runtime, due: Notice, error: ProviderError) -> None:
    with runtime.db.begin() as conn:
        again = notice.failed(conn, due.id, str(error))
    outlook = f"tried again at {again:%H:%M} UTC" if again else "given up after a day"
    raw = " ".join(error.raw.split())
    log.warning("alert %s was not told: %s %s; %s", due.alert_id, error, raw, outlook)
