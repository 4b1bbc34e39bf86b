"""A campaign's variants on its page: what came of each, what that tells, and the choice of a winner by hand."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.errors import Conflict, Invalid
from app.flows import choose_winner
from app.flows.variant_words import Conclusion, conclude
from app.models import campaign_list, report, variant
from app.models.campaign_list import Line
from app.models.figures import Figures
from app.models.significance import Share
from app.models.variant import LETTERS, Heading, Standing, Tally
from web.context import me, runtime

blueprint = Blueprint("variants", __name__)


@dataclass(frozen=True, slots=True)
class Row:
    """A variant: `tested` is the test's own, `rest` what followed with it; `figures` are of both, from the reports."""

    heading: Heading
    tested: Tally
    rest: Tally | None
    share: Share
    figures: Figures

    @property
    def sent(self) -> int:
        return self.tested.sent + (self.rest.sent if self.rest else 0)

    @property
    def opened(self) -> int:
        return self.tested.opened + (self.rest.opened if self.rest else 0)

    @property
    def clicked(self) -> int:
        return self.tested.clicked + (self.rest.clicked if self.rest else 0)


@dataclass(frozen=True, slots=True)
class View:
    """A test as its campaign's page shows it. `most` is where its scale of shares ends; `waiting` are leads."""

    test: Standing
    rows: list[Row]
    conclusion: Conclusion
    waiting: int
    open: int
    then: Conclusion | None

    @property
    def most(self) -> float:
        ends = [row.share.interval[1] for row in self.rows if row.share.of]
        return max(ends, default=0.0) or 1.0


@blueprint.get("/campaigns/<int:campaign_id>/variants")
def show(campaign_id: int) -> str:
    line = _find(campaign_id)
    return render_template("variants/_campaign.html", each=line, view=read_view(line))


@blueprint.post("/campaigns/<int:campaign_id>/variants/choose")
def choose(campaign_id: int) -> AnyResponse:
    _find(campaign_id)
    asked = request.form.get("variant", "")
    number = LETTERS.find(asked) if len(asked) == 1 else -1
    try:
        choose_winner.choose(runtime(), me().organisation_id, me().id, campaign_id, number)
    except Conflict as conflict:  # the wait was over, or somebody else chose
        flash(str(conflict), "info")
    except Invalid as invalid:
        flash(invalid.faults[0].message, "bad")
    else:
        flash(f"The rest gets variant {asked}.", "good")
    return redirect(url_for("campaigns.show", campaign_id=campaign_id))


def read_view(line: Line) -> View | None:
    """A launched campaign's test as it stands; None where it has one content only."""
    with runtime().db.begin() as conn:
        test = variant.find(conn, line.id)
        if test is None:
            return None
        headings = variant.find_headings(conn, line.id)
        tallies = variant.tally(conn, line.id)
    with runtime().reports.begin() as conn:
        figures = report.sum_campaign_variants(conn, me().organisation_id, line.id)
    tested = variant.tested(tallies, test.variants)
    rest = {each.variant: each for each in tallies if each.rest}
    rows = [
        Row(
            heading,
            tested[heading.variant],
            rest.get(heading.variant),
            tested[heading.variant].share(test.goal),
            figures.get(heading.variant, Figures()),
        )
        for heading in headings
    ]
    return View(
        test,
        rows,
        conclude(test, tallies),
        sum(each.open for each in tallies if each.variant == variant.WAITS),
        sum(each.open for each in tested.values()),
        conclude(test, list(test.figures)) if test.figures else None,
    )


def _find(campaign_id: int) -> Line:
    with runtime().db.begin() as conn:
        return campaign_list.find(conn, me().organisation_id, campaign_id)
