"""Reports: what was sent, by whom, when and where to, and what happened to it; the same on both editions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.errors import NotFound
from app.models import report
from app.models.figures import Figures
from app.runtime import Runtime
from tests import record
from tests.world import insert

pytestmark = pytest.mark.editions

DAY = datetime.now(UTC).date() - timedelta(days=6)
A_DAY = timedelta(days=1)


@pytest.fixture
def running(database_url: str) -> Iterator[Runtime]:
    """Two users of one organisation, two campaigns; a second organisation with one of its own."""
    started = record.runtime(database_url)
    with started.db.begin() as conn:
        for organisation, users in (("Ours", ("Ada", "Ben")), ("Theirs", ("Eve",))):
            organisation_id = insert(conn, "organisation", name=organisation)
            for name in users:
                user_id = insert(
                    conn,
                    "user",
                    organisation_id=organisation_id,
                    email=f"{name.lower()}@example.com",
                    name=name,
                    password_hash="!",
                )
                insert(
                    conn,
                    "campaign",
                    organisation_id=organisation_id,
                    owner_id=user_id,
                    name=f"{name}'s news",
                    state="finished",
                    run=1,
                    launched_at=at(9),
                )
        for name in ("mail.example", "post.example", "letters.example"):
            insert(conn, "domain", name=name)
    yield started
    started.close()


def at(hour: float, day: int = 0) -> datetime:
    """A moment of DAY, or of so many days after it; the hour is UTC's."""
    return datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) + timedelta(days=day, hours=hour)


def test_a_campaigns_figures_are_sums_of_weights_with_machines_apart(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(9), "sent", 10)
        record.append(conn, at(9), "unknown", [11, 12])
        record.append(conn, at(10), "unknown", [11], weight=-1)
        record.append(conn, at(10), "sent", [11])
        record.append(conn, at(10), "refused", [13])
        record.append(conn, at(11), "opened", 4)
        record.append(conn, at(11), "opened", 7, machine=True)
        record.append(conn, at(12), "clicked", [1], link_id=3)
        record.append(conn, at(9), "sent", 99, organisation_id=2, campaign_id=3)
        figures = report.sum_campaign(conn, 1, 1)
    assert figures == Figures(sent=11, unknown=1, refused=1, opened=4, opened_by_machines=7, clicked=1)
    assert figures.emails == 13


def test_runs_are_told_apart(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(9), "sent", 8)
        record.append(conn, at(9), "failed", [9, 10])
        record.append(conn, at(12), "sent", [9, 10], run=2)
        runs = report.sum_runs(conn, 1, 1)
    assert runs == {1: Figures(sent=8, failed=2), 2: Figures(sent=2)}


def test_hours_come_in_order_and_within_their_bounds(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(11.5), "opened", 2)
        record.append(conn, at(9.1), "sent", 3)
        record.append(conn, at(9.9), "sent", 4)
        hours = report.sum_campaign_hours(conn, 1, 1)
        late = report.sum_campaign_hours(conn, 1, 1, since=at(10))
    assert hours == [report.Hour(at(9), Figures(sent=7)), report.Hour(at(11), Figures(opened=2))]
    assert late == hours[1:]


def test_domains_are_those_that_most_emails_went_to(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(9), "sent", 3, domain_id=1)
        record.append(conn, at(9), "sent", 7, domain_id=2)
        record.append(conn, at(9), "refused", 2, domain_id=2)
        record.append(conn, at(9), "sent", 1, domain_id=3)
        record.append(conn, at(9), "opened", 50, domain_id=3)
        domains = report.sum_campaign_domains(conn, 1, 1, limit=2)
    assert domains == [
        report.Named(2, "post.example", Figures(sent=7, refused=2)),
        report.Named(1, "mail.example", Figures(sent=3)),
    ]


def test_links_are_named_and_the_most_clicked_comes_first(running: Runtime) -> None:
    with running.db.begin() as conn:
        for position in (1, 2):
            conn.execute(
                text("INSERT INTO link (campaign_id, position, url) VALUES (1, :p, 'https://example.com/' || :p)"),
                {"p": position},
            )
        record.append(conn, at(9), "clicked", 1, link_id=1)
        record.append(conn, at(9), "clicked", 9, link_id=1, machine=True)
        record.append(conn, at(9), "clicked", 2, link_id=2)
        links = report.sum_links(conn, 1, 1)
    assert [(link.name, link.figures.clicked, link.figures.clicked_by_machines) for link in links] == [
        ("https://example.com/2", 2, 0),
        ("https://example.com/1", 1, 9),
    ]


def test_how_many_emails_a_user_sent_on_a_day_and_what_happened_to_them(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(9), "sent", 10)
        record.append(conn, at(23.9), "bounced", 1)
        record.append(conn, at(0, day=1), "opened", 3)
        record.append(conn, at(9), "sent", 20, user_id=2, campaign_id=2)
        record.append(conn, at(9), "sent", 99, organisation_id=2, user_id=3, campaign_id=3)
    record.refresh_all(running)
    with running.db.begin() as conn:
        yesterday = report.period(DAY, DAY)
        assert report.sum_days(conn, 1, yesterday, user_id=1) == [
            report.Day(DAY, 1, "Ada", Figures(sent=10, bounced=1))
        ]
        assert report.sum_days(conn, 1, yesterday) == [
            report.Day(DAY, 1, "Ada", Figures(sent=10, bounced=1)),
            report.Day(DAY, 2, "Ben", Figures(sent=20)),
        ]
        assert [user.name for user in report.sum_users(conn, 1, yesterday)] == ["Ben", "Ada"]


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("UTC", {-1: 1, 0: 2, 1: 2}),
        ("Europe/Berlin", {0: 2, 1: 3}),
        ("America/New_York", {-1: 1, 0: 4}),
        ("Asia/Kathmandu", {0: 1, 1: 4}),
        ("Pacific/Kiritimati", {0: 1, 1: 4}),
    ],
)
def test_days_are_cut_in_the_readers_time_zone(running: Runtime, zone: str, days: dict[int, int]) -> None:
    """One lead a moment; Kathmandu is 5:45 ahead of UTC, so its days begin at 18:15."""
    moments = [at(23.5, -1), at(18.25), at(23.1), at(0, 1), at(0.1, 1)]
    with running.db.begin() as conn:
        for moment in moments:
            record.append(conn, moment, "sent", 1)
    record.refresh_all(running)
    with running.db.begin() as conn:
        found = report.sum_days(conn, 1, report.period(DAY - 3 * A_DAY, DAY + 3 * A_DAY, zone))
    assert {(day.day - DAY).days: day.figures.sent for day in found} == days


def test_a_day_of_any_zone_holds_what_its_events_say(running: Runtime) -> None:
    with running.db.begin() as conn:
        for hour in range(48):
            record.append(conn, at(hour + 0.25 * (hour % 4), -1), "sent", hour + 1)
    record.refresh_all(running)
    for zone in ("UTC", "Asia/Kolkata", "Australia/Eucla", "America/St_Johns", "Europe/London"):
        with running.db.begin() as conn:
            truth = conn.execute(
                text(
                    "SELECT CAST(time AT TIME ZONE :zone AS date) AS day, sum(weight) FROM event GROUP BY 1 ORDER BY 1"
                ),
                {"zone": zone},
            ).all()
            found = report.sum_days(conn, 1, report.period(DAY - 3 * A_DAY, DAY + 3 * A_DAY, zone))
        assert [(day.day, day.figures.sent) for day in found] == [tuple(row) for row in truth], zone


def test_days_by_campaign_and_by_domain(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(9), "sent", 10, domain_id=1)
        record.append(conn, at(9), "sent", 20, campaign_id=2, user_id=2, domain_id=2)
        record.append(conn, at(9, 2), "sent", 40)
        days = report.period(DAY, DAY)
        assert report.sum_campaigns_of_days(conn, 1, days) == [
            report.Named(2, "Ben's news", Figures(sent=20)),
            report.Named(1, "Ada's news", Figures(sent=10)),
        ]
        assert report.sum_campaigns_of_days(conn, 1, days, user_id=1) == [
            report.Named(1, "Ada's news", Figures(sent=10))
        ]
        assert [(row.name, row.figures.sent) for row in report.sum_domains_of_days(conn, 1, days)] == [
            ("post.example", 20),
            ("mail.example", 10),
        ]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_every_breakdown_may_be_of_one_domain(running: Runtime, zone: str) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(9), "sent", 10, domain_id=1)
        record.append(conn, at(9), "sent", 20, campaign_id=2, user_id=2, domain_id=2)
        record.append(conn, at(10), "opened", 3, domain_id=2)
        days = report.period(DAY, DAY, zone)
        assert [day.figures for day in report.sum_days(conn, 1, days, domain_id=2)] == [
            Figures(opened=3),
            Figures(sent=20),
        ]
        assert [(row.name, row.figures.sent) for row in report.sum_users(conn, 1, days, domain_id=1)] == [("Ada", 10)]
        assert [row.id for row in report.sum_campaigns_of_days(conn, 1, days, domain_id=2, user_id=2)] == [2]
        assert [row.id for row in report.sum_domains_of_days(conn, 1, days, domain_id=2)] == [2]


def test_campaigns_are_listed_the_newest_first_by_key(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(9), "sent", 10)
        listed = report.find_campaigns(conn, 1)
        assert [campaign.name for campaign in listed] == ["Ben's news", "Ada's news"]
        assert [campaign.id for campaign in report.find_campaigns(conn, 1, before=2)] == [1]
        assert [campaign.id for campaign in report.find_campaigns(conn, 1, user_id=2)] == [2]
        assert report.sum_campaigns(conn, 1, [1, 2]) == {1: Figures(sent=10), 2: Figures()}


def test_another_organisations_campaign_has_no_report(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(9), "sent", 99, organisation_id=2, user_id=3, campaign_id=3)
        with pytest.raises(NotFound):
            report.find_campaign(conn, 1, 3)
        assert report.sum_campaign(conn, 1, 3) == Figures()
        assert report.sum_campaign_hours(conn, 1, 3) == []
        assert report.sum_days(conn, 1, report.period(DAY, DAY)) == []


def test_analysts_read_the_numbers_with_names_and_nothing_else(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, at(9), "sent", 10, domain_id=2)
        record.append(conn, at(9), "sent", 5, domain_id=1)
    with running.db.begin() as conn:
        conn.execute(text("SET LOCAL ROLE millrace_reader"))
        rows = conn.execute(
            text("SELECT user_name, campaign, domain, sum(total) FROM report_day_named GROUP BY 1, 2, 3 ORDER BY 4")
        ).all()
        assert [tuple(row) for row in rows] == [
            ("Ada", "Ada's news", "mail.example", 5),
            ("Ada", "Ada's news", "post.example", 10),
        ]
    for table in ("event", "lead", "content", '"user"', "outbox", "pool"):
        with running.db.begin() as conn:
            conn.execute(text("SET LOCAL ROLE millrace_reader"))
            assert not conn.execute(text(f"SELECT has_table_privilege('{table}', 'SELECT')")).scalar_one()
