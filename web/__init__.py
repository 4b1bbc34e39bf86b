"""The web door: `create_app` puts the pages together. Run it as `gunicorn 'web:create_app()'`."""

from __future__ import annotations

import gc
import hashlib
import os
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from app import config
from app.config import Settings
from web import assets, csrf, formats, navigation, problems, security, throttle, visitor
from web.account import blueprint as account
from web.alerts import blueprint as alerts
from web.api import blueprint as api
from web.api_docs import blueprint as api_docs
from web.api_keys import blueprint as api_keys
from web.campaign_rate import blueprint as campaign_rate
from web.campaigns import blueprint as campaigns
from web.endpoints import blueprint as endpoints
from web.health import blueprint as health
from web.imports import blueprint as imports
from web.leads import blueprint as leads
from web.mailboxes import blueprint as mailboxes
from web.message_templates import blueprint as message_templates
from web.messages import blueprint as messages
from web.pool_purpose import blueprint as pool_purpose
from web.pools import blueprint as pools
from web.previews import blueprint as previews
from web.recipients import blueprint as recipients
from web.reports import blueprint as reports
from web.schedules import blueprint as schedules
from web.segments import blueprint as segments
from web.senders import blueprint as senders
from web.shaping import blueprint as shaping
from web.standing import blueprint as standing
from web.suppressions import blueprint as suppressions
from web.tracking import Tracking
from web.unknowns import blueprint as unknowns
from web.unsubscribe import blueprint as unsubscribe
from web.variants import blueprint as variants
from web.warm_ups import blueprint as warm_ups
from web.webhooks import blueprint as webhooks

if TYPE_CHECKING:
    from app.runtime import Runtime

BLUEPRINTS = (
    alerts,
    api,
    api_docs,
    api_keys,
    campaign_rate,
    campaigns,
    previews,
    recipients,
    reports,
    account,
    endpoints,
    health,
    imports,
    leads,
    mailboxes,
    message_templates,
    messages,
    pool_purpose,
    pools,
    schedules,
    segments,
    senders,
    shaping,
    standing,
    suppressions,
    unknowns,
    unsubscribe,
    variants,
    warm_ups,
    webhooks,
)
BODY_LIMIT = 4 * 1024 * 1024  # bytes of a request: a campaign of 1 MB, percent-encoded; the upload of leads has its own


def create_app(runtime: Runtime | None = None) -> Flask:
    """The application; without a runtime it opens its own from the environment. Raises ConfigError."""
    if runtime is None:
        runtime = _open_runtime()
        _collect_seldom()
    app = Flask(__name__)
    app.config.from_mapping(_settings(runtime.settings))
    app.extensions["millrace"] = runtime
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.wsgi_app = Tracking(app.wsgi_app, runtime)  # type: ignore[method-assign,assignment]
    if runtime.settings.trusted_proxies:
        hops = runtime.settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    # The order matters: who asks is settled before a body is read, and a body before its token is compared.
    for part in (security, assets, formats, navigation, problems, visitor, csrf):
        part.init_app(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    csrf.spare(app, api)
    throttle.init_app(app)
    return app


def _open_runtime() -> Runtime:
    from app.runtime import Runtime
    from workers.broker import Bell, open_broker  # only where none is given: a test needs no broker

    settings = config.read(os.environ)
    return Runtime(settings, Bell(open_broker(settings.redis_url)), name="millrace web")


def _collect_seldom() -> None:
    """A thousand messages are ten thousand objects, none of them in a ring: to look for rings took longer than they
    did (5 ms instead of 1.3 to check them).
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _settings(settings: Settings) -> dict[str, object]:
    secure = settings.base_url.startswith("https://")
    return {
        # A key of the web's own: what signs sessions signs nothing else.
        "SECRET_KEY": hashlib.blake2b(settings.secret_key.encode()[:64], person=b"web session").hexdigest(),
        # "__Host-" binds a cookie to this host and path; browsers accept it over https only.
        "SESSION_COOKIE_NAME": "__Host-millrace" if secure else "millrace",
        "SESSION_COOKIE_SECURE": secure,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "MAX_CONTENT_LENGTH": BODY_LIMIT,
        "MAX_FORM_MEMORY_SIZE": BODY_LIMIT,
        "WTF_CSRF_TIME_LIMIT": None,  # a token lives as long as the session: a form left open overnight still saves
    }
