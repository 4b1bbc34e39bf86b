"""The headers that every response carries, and the two policies: one for our pages, one for strangers' HTML."""

from __future__ import annotations

from flask import Flask, Response, g, request

from web.context import runtime

PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "frame-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
# A campaign's own HTML, shown inside one of our pages: it may style itself and load pictures, and do nothing else.
# `sandbox` without allow-same-origin puts it in an origin of its own even when it is opened outside of its frame.
PREVIEW_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src https: data:",
        "style-src 'unsafe-inline'",
        "font-src https: data:",
        "frame-ancestors 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "sandbox",
    )
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
A_YEAR = 31_536_000


def init_app(app: Flask) -> None:
    app.after_request(_add_headers)


def as_preview() -> None:
    """The response to this request is a stranger's HTML for a sandboxed frame of ours."""
    g.policy = PREVIEW_POLICY


def _add_headers(response: Response) -> Response:
    policy = g.get("policy", PAGE_POLICY)
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Frame-Options"] = "SAMEORIGIN" if policy is PREVIEW_POLICY else "DENY"
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if runtime().settings.base_url.startswith("https://"):
        response.headers["Strict-Transport-Security"] = f"max-age={A_YEAR}; includeSubDomains"
    if request.endpoint != "static":
        # What a page showed is gone after the logout, from the browser's own memory too.
        response.headers.setdefault("Cache-Control", "no-store")
    return response
