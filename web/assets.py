"""Static files under addresses that change with their content, so that browsers may keep them for a year."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from flask import Flask, Response, request, url_for

log = logging.getLogger(__name__)
A_YEAR = 31_536_000


def init_app(app: Flask) -> None:
    folder = Path(app.static_folder or "")
    versions: dict[str, str] = {}
    missing: set[str] = set()

    def asset(name: str) -> str:
        """The address of a static file, its content's hash in it; a plain one where the file cannot be read."""
        if name not in versions or app.debug:
            try:
                versions[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12]
            except OSError:  # the page that tells of errors has static files too: better plain than none
                versions.pop(name, None)
                if name not in missing:
                    missing.add(name)
                    log.warning("The static file %s cannot be read: run make assets.", name)
                return url_for("static", filename=name)
        return url_for("static", filename=name, v=versions[name])

    app.jinja_env.globals["asset"] = asset
    app.after_request(_keep)


def _keep(response: Response) -> Response:
    if request.endpoint == "static" and response.status_code == 200 and "v" in request.args:
        response.cache_control.clear()
        response.cache_control.public = True
        response.cache_control.max_age = A_YEAR
        response.cache_control.immutable = True
    return response
