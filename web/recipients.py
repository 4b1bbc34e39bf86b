"""Who a campaign went to and what happened to each: by outcome, paged by key, as CSV."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request
from werkzeug.exceptions import NotFound as NoPage

from app.flows.export import export_recipients
from app.mail import Kind
from app.models import campaign_list, recipient, report
from app.models.campaign_list import Line
from app.models.figures import Figures
from web.context import me, runtime
from web.paging import LIMIT, after_number, page_of

blueprint = Blueprint("recipients", __name__)


@blueprint.get("/campaigns/<int:campaign_id>/recipients")
def index(campaign_id: int) -> str:
    line, kind = _find(campaign_id), _kind()
    with runtime().reports.begin() as conn:
        figures = report.sum_campaign(conn, me().organisation_id, campaign_id)
        found = recipient.find_page(
            conn, me().organisation_id, campaign_id, kind=kind, after=after_number() or 0, limit=LIMIT + 1
        )
    return render_template(
        "recipients/index.html",
        each=line,
        page=page_of(found, lambda row: row.lead_id),
        kind=kind,
        figures=figures,
        kinds=_kinds(figures, kind),
    )


@blueprint.get("/campaigns/<int:campaign_id>/recipients.csv")
def export(campaign_id: int) -> Response:
    line, kind = _find(campaign_id), _kind()
    name = f"campaign-{line.id}-{kind or 'recipients'}.csv"
    blocks = export_recipients(runtime(), me().organisation_id, campaign_id, kind)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(blocks, content_type="text/csv; charset=utf-8", headers=headers)


def _find(campaign_id: int) -> Line:
    with runtime().db.begin() as conn:
        return campaign_list.find(conn, me().organisation_id, campaign_id)


def _kind() -> Kind | None:
    asked = request.args.get("kind", "")
    if asked and asked not in {kind.value for kind in Kind}:
        raise NoPage
    return Kind(asked) if asked else None


def _kinds(figures: Figures, chosen: Kind | None) -> list[tuple[Kind, int]]:
    """What there is to filter by: every kind that happened, and the one that was chosen."""
    counted = [(kind, int(getattr(figures, kind.value))) for kind in Kind]
    return [(kind, count) for kind, count in counted if count or kind == chosen]
