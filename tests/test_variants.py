"""A/B tests: who gets which variant, who wins, that the rest gets the winner once, and that nobody is lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.config import Settings
from app.errors import Conflict, Invalid
from app.flows import choose_winner, edit_campaign, finish, launch, send_range, steer, track, unknowns, unsubscribe
from app.flows.edit_campaign import Draft
from app.flows.edit_variants import Parts, TestDraft
from app.models import outbox, variant
from app.models import track as tracking
from app.models.outbox import Progress
from app.models.track import Hit
from app.models.variant import Standing, Tally
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.world import World

HTML = (
    '<p>Hello {{ lead.first_name | default: "friend" }}. <a href="https://shop.example.com/a">A</a>'
    ' <a href="https://shop.example.com/b">B</a></p><p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'
)
OTHER_HTML = (
    '<p>Hi. <a href="https://shop.example.com/b">B</a> <a href="https://shop.example.com/c">C</a></p>'
    '<p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'
)
SUBJECTS = ("First", "Second", "Third")
VARIANTS = (Parts("Second"), Parts("Third", OTHER_HTML))
WAIT = timedelta(hours=1)
LEADS = 300


@dataclass(frozen=True, slots=True)
class House:
    """A campaign with three variants; `peer` is what its emails reach."""

    runtime: Runtime
    peer: Peer
    world: World
    campaign_id: int

    def launch(self) -> None:
        launch.launch(self.runtime, self.world.organisation_id, self.campaign_id)

    def send(self) -> None:
        send_range.drain(self.runtime)

    def choose(self) -> int:
        return choose_winner.choose_due(self.runtime)

    def choose_by_hand(self, number: int) -> None:
        choose_winner.choose(self.runtime, self.world.organisation_id, self.world.user_id, self.campaign_id, number)

    def wait(self) -> None:
        """The wait begins, and is over."""
        with self.runtime.db.begin() as conn:
            variant.note_sent(conn)
        self.run("UPDATE variant_test SET decide_at = decide_at - wait - interval '1 second'")

    def click(self, number: int, leads: int, position: int = 2) -> None:
        """So many leads of a variant follow a link of it, once, an hour after they were sent it."""
        chosen = [lead_id for lead_id, given in sorted(self.given().items()) if given == number][:leads]
        assert len(chosen) == leads
        at = self.ask("SELECT max(settled_at) + interval '1 minute' FROM handoff")[0][0]
        with self.runtime.db.begin() as conn:
            tracking.keep(conn, [Hit(self.campaign_id, lead_id, position, at, None) for lead_id in chosen])  # type: ignore[arg-type]
        track.read_hits(self.runtime, wait=-3600)

    def given(self) -> dict[int, int]:
        """lead -> the variant of the call that had it."""
        return dict(self.ask("SELECT unnest(lead_ids), variant FROM handoff"))  # type: ignore[arg-type]

    def subjects(self) -> Counter[str]:
        """What reached people, by subject."""
        return Counter(str(letter["subject"]) for letter in self.peer.sink.book.messages(100_000))

    def test(self) -> Standing:
        with self.runtime.db.begin() as conn:
            found = variant.find(conn, self.campaign_id)
        assert found is not None
        return found

    def tested(self) -> dict[int, Tally]:
        with self.runtime.db.begin() as conn:
            return variant.tested(variant.tally(conn, self.campaign_id), 3)

    def progress(self) -> Progress:
        with self.runtime.db.begin() as conn:
            found = outbox.progress(conn, self.campaign_id)
        assert found.adds_up and found.audience == LEADS
        return found

    @property
    def state(self) -> object:
        return self.ask("SELECT state FROM campaign WHERE id = :id", id=self.campaign_id)[0][0]

    def ask(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        with self.runtime.db.begin() as conn:
            return [tuple(row) for row in conn.execute(text(statement), values)]

    def run(self, statement: str) -> None:
        with self.runtime.db.begin() as conn:
            conn.execute(text(statement))


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=20, look_every=0.1))
    yield runtime
    runtime.close()


@pytest.fixture
def house(runtime: Runtime, peer: Peer) -> House:
    return build(runtime, peer)


def build(
    runtime: Runtime, peer: Peer, test: TestDraft | None = None, variants: tuple[Parts, ...] = VARIANTS, **draft: str
) -> House:
    made = world.build(
        runtime.db, secret_key=runtime.settings.secret_key, leads=LEADS, provider_url=f"{peer.url}?batch=10"
    )
    wanted = {"html": HTML, "track_opens": "on", "track_clicks": "on"} | draft
    campaign_id = edit_campaign.create(
        runtime,
        made.organisation_id,
        made.user_id,
        Draft(
            "Tested",
            made.sender_id,
            subject="First",
            variants=variants,
            test=test or TestDraft(50, WAIT),
            **wanted,  # type: ignore[arg-type]
        ),
    )
    return House(runtime, peer, made, campaign_id)


# -- Who gets what -----------------------------------------------------------------------------------------------------


def test_the_test_share_is_sent_equally_to_all_variants_and_the_rest_waits(house: House) -> None:
    house.launch()
    house.send()
    subjects = house.subjects()
    assert set(subjects) == set(SUBJECTS)
    assert all(30 <= count <= 70 for count in subjects.values()), subjects  # of 300 by chance: 50 each
    progress = house.progress()
    assert progress.sent == sum(subjects.values())
    assert progress.open == LEADS - progress.sent > 100
    assert house.state == "sending"
    assert finish.finish_due(house.runtime) == 0
    assert house.ask("SELECT DISTINCT due_at = 'infinity', state FROM outbox WHERE variant = -1") == [(True, "ready")]


def test_every_lead_gets_the_content_of_the_variant_that_it_counts_for(house: House) -> None:
    house.launch()
    house.send()
    by_email = {str(letter["to"]): letter for letter in house.peer.sink.book.messages(1000)}
    addresses = dict(house.ask("SELECT id, email FROM lead"))
    for lead_id, given in house.given().items():
        letter = by_email[str(addresses[lead_id])]
        assert letter["subject"] == SUBJECTS[given]
        assert ("Hi." in str(letter["html"])) == (given == 2)  # the second has the first one's HTML
    events = house.ask("SELECT variant, count(*) FROM event WHERE kind = 'sent' GROUP BY variant ORDER BY variant")
    assert [count for _, count in events] == [house.subjects()[subject] for subject in SUBJECTS]


def test_chance_parts_another_campaign_otherwise(runtime: Runtime, peer: Peer) -> None:
    house = build(runtime, peer)
    copied = edit_campaign.duplicate(runtime, house.world.organisation_id, house.world.user_id, house.campaign_id)
    both = []
    for each in (house, replace(house, campaign_id=copied)):
        each.launch()
        with runtime.db.begin() as conn:
            rows = conn.execute(
                text("SELECT unnest(lead_ids) FROM outbox WHERE campaign_id = :id AND variant >= 0"),
                {"id": each.campaign_id},
            )
            both.append(set(rows.scalars()))
    assert len(both[0] & both[1]) < 0.75 * len(both[0])


def test_a_split_of_everybody_has_no_rest_and_is_finished_without_a_winner(runtime: Runtime, peer: Peer) -> None:
    house = build(runtime, peer, TestDraft(100, WAIT))
    house.launch()
    house.send()
    assert (house.progress().sent, house.state) == (LEADS, "finished")
    assert house.choose() == 0
    with pytest.raises(Conflict, match="Nobody waits"):
        house.choose_by_hand(1)


# -- Who wins ----------------------------------------------------------------------------------------------------------


def test_after_the_wait_the_rest_gets_the_variant_that_most_people_clicked(house: House) -> None:
    house.launch()
    house.send()
    tested = house.subjects()
    house.click(0, 2)
    house.click(2, 9)
    assert house.choose() == 0  # the wait begins now
    decide_at, sent_at = house.ask("SELECT decide_at, (SELECT max(handed_at) FROM handoff) FROM variant_test")[0]
    assert decide_at - sent_at == WAIT  # type: ignore[operator]
    assert house.choose() == 0
    house.wait()
    assert house.choose() == 1
    house.send()
    assert house.progress().sent == LEADS
    assert house.state == "finished"
    assert house.subjects() == tested + Counter({"Third": LEADS - tested.total()})
    test = house.test()
    assert (test.winner, test.by_hand, test.chosen_by) == (2, False, None)
    assert [(each.variant, each.clicked) for each in test.figures if each.variant >= 0] == [(0, 2), (1, 0), (2, 9)]


def test_the_share_decides_and_not_the_number(house: House) -> None:
    """Of fewer leads fewer clicks may be more."""
    house.launch()
    house.send()
    sizes = [house.subjects()[subject] for subject in SUBJECTS]
    greatest, smallest = sizes.index(max(sizes)), sizes.index(min(sizes))
    assert greatest != smallest
    house.click(greatest, 10)
    house.click(smallest, 10)
    house.wait()
    assert house.choose() == 1
    assert house.test().winner == smallest


@pytest.mark.parametrize("clicks", [(0, 0, 0)])
def test_where_nobody_clicked_the_first_one_wins(house: House, clicks: tuple[int, ...]) -> None:
    house.launch()
    house.send()
    house.wait()
    assert house.choose() == 1
    assert house.test().winner == 0


def test_machines_choose_nothing(house: House) -> None:
    house.launch()
    house.send()
    lead_id = next(lead_id for lead_id, given in house.given().items() if given == 1)
    at = house.ask("SELECT max(settled_at) + interval '1 minute' FROM handoff")[0][0]
    with house.runtime.db.begin() as conn:
        tracking.keep(conn, [Hit(house.campaign_id, lead_id, 1, at, "scanner")])  # type: ignore[arg-type]
    track.read_hits(house.runtime, wait=-3600)
    assert house.ask("SELECT machine FROM event WHERE kind = 'clicked'") == [(True,)]
    house.wait()
    assert house.choose() == 1
    assert house.test().winner == 0


def test_a_person_may_choose_before_the_wait_is_over(house: House) -> None:
    house.launch()
    house.send()
    house.click(0, 5)
    house.choose_by_hand(1)
    test = house.test()
    assert (test.winner, test.by_hand, test.chosen_by) == (1, True, "Owner")
    with pytest.raises(Conflict, match="Variant B was chosen already"):
        house.choose_by_hand(2)
    house.wait()
    assert house.choose() == 0
    house.send()
    assert house.progress().sent == LEADS
    assert house.state == "finished"


@pytest.mark.parametrize("number", [-1, 3])
def test_what_is_no_variant_cannot_be_chosen(house: House, number: int) -> None:
    house.launch()
    with pytest.raises(Invalid, match="no such variant"):
        house.choose_by_hand(number)
    assert house.test().winner is None


def test_a_campaign_of_another_organisation_is_not_ones_own_to_choose_for(house: House) -> None:
    house.launch()
    other = world.build(house.runtime.db, secret_key=house.runtime.settings.secret_key, name="Other")
    with pytest.raises(Exception, match="no such campaign"):
        choose_winner.choose(house.runtime, other.organisation_id, other.user_id, house.campaign_id, 1)


def test_of_many_who_choose_at_once_one_does(house: House) -> None:
    house.launch()
    house.send()
    house.wait()
    barrier, chosen = threading.Barrier(6), []

    def clock() -> None:
        barrier.wait()
        chosen.append(house.choose())

    def person() -> None:
        barrier.wait()
        try:
            house.choose_by_hand(2)
            chosen.append(1)
        except Conflict:
            chosen.append(0)

    threads = [threading.Thread(target=act) for act in (clock, person) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(chosen) == 1
    house.send()
    assert house.progress().sent == LEADS
    rest = house.ask("SELECT DISTINCT variant FROM outbox WHERE rest")
    assert rest == [(house.test().winner,)]
    assert house.peer.sink.book.stats()["duplicates"] == 0


def test_a_winner_that_was_chosen_stays_the_winner(house: House) -> None:
    house.launch()
    house.send()
    house.wait()
    with house.runtime.db.begin() as conn:
        assert variant.choose(conn, house.campaign_id, 1, [])
        assert not variant.choose(conn, house.campaign_id, 2, [])
        assert not variant.choose(conn, house.campaign_id, 2, [], by_hand=True)
    assert house.test().winner == 1


def test_a_choice_that_is_cut_off_before_its_commit_has_chosen_nothing(house: House) -> None:
    house.launch()
    house.send()
    house.wait()
    with pytest.raises(RuntimeError), house.runtime.db.begin() as conn:
        assert variant.choose(conn, house.campaign_id, 1, [])
        raise RuntimeError("killed")
    assert house.test().winner is None
    assert house.choose() == 1


# -- While they wait ---------------------------------------------------------------------------------------------------


def test_the_wait_begins_when_the_last_email_of_the_test_has_gone(house: House) -> None:
    house.launch()
    assert house.choose() == 0
    assert house.test().decide_at is None
    house.send()
    assert house.choose() == 0
    assert house.test().decide_at is not None


def test_what_the_provider_puts_off_does_not_hold_the_wait_up_and_keeps_its_variant(house: House) -> None:
    house.peer.behave(defer=0.3)
    house.launch()
    house.send()
    put_off = house.ask(
        "SELECT DISTINCT child.variant = parent.variant, child.variant >= 0 FROM outbox AS child"
        " JOIN outbox AS parent ON parent.id = child.parent_id"
    )
    assert put_off == [(True, True)]
    house.choose()
    assert house.test().decide_at is not None
    house.peer.behave(defer=0.0)
    house.choose_by_hand(1)
    house.run("UPDATE outbox SET due_at = now() WHERE state = 'ready'")
    house.send()
    assert house.progress().sent == LEADS
    assert house.state == "finished"
    assert set(house.subjects()) == set(SUBJECTS)
    assert all(count > 1 for count in house.subjects().values())


def test_a_paused_campaign_chooses_nothing_until_it_goes_on(house: House) -> None:
    house.launch()
    house.send()
    house.click(1, 3)
    house.wait()
    steer.pause(house.runtime, house.world.organisation_id, house.campaign_id)
    assert house.choose() == 0
    steer.resume(house.runtime, house.world.organisation_id, house.campaign_id)
    assert house.choose() == 1
    assert house.test().winner == 1


def test_a_person_may_choose_while_it_is_paused_and_nothing_is_sent_before_it_goes_on(house: House) -> None:
    house.launch()
    house.send()
    sent = house.progress().sent
    steer.pause(house.runtime, house.world.organisation_id, house.campaign_id)
    house.choose_by_hand(1)
    house.send()
    assert house.progress().sent == sent
    steer.resume(house.runtime, house.world.organisation_id, house.campaign_id)
    house.send()
    assert house.progress().sent == LEADS


def test_cancelling_while_the_rest_waits_gives_everybody_an_outcome(house: House) -> None:
    house.launch()
    house.send()
    sent = house.progress().sent
    steer.cancel(house.runtime, house.world.organisation_id, house.campaign_id)
    steer.close_cancelled(house.runtime)
    progress = house.progress()
    assert (progress.sent, progress.cancelled, progress.open) == (sent, LEADS - sent, 0)
    house.wait()
    assert house.choose() == 0
    with pytest.raises(Conflict, match="cancelled"):
        house.choose_by_hand(1)
    cancelled = house.ask("SELECT variant, count(*) FROM event WHERE kind = 'cancelled' GROUP BY variant")
    assert cancelled == [(-1, LEADS - sent)]


def test_a_pool_that_is_set_going_again_hurries_nobody_who_waits_for_the_winner(house: House) -> None:
    house.launch()
    with house.runtime.db.begin() as conn:
        outbox.hurry(conn, house.world.pool_id)
    house.send()
    assert 0 < house.progress().sent < LEADS


def test_who_gives_those_who_wait_a_time_but_no_content_is_refused(house: House) -> None:
    house.launch()
    with pytest.raises(Exception, match="outbox_waits_for_winner"):
        house.run("UPDATE outbox SET due_at = now() WHERE variant = -1")


def test_the_failed_are_sent_again_what_they_had(house: House) -> None:
    house.peer.behave(refuse=0.0)
    house.launch()
    house.send()
    house.choose_by_hand(1)
    house.run("UPDATE handoff SET outcomes = translate(outcomes, 's', 'f')")
    house.run("UPDATE outbox SET failed = sent, sent = 0")
    house.run("UPDATE event SET kind = 'failed' WHERE kind = 'sent'")
    before = house.given()
    house.send()  # the rest
    house.run("UPDATE campaign SET state = 'finished', finished_at = now()")
    unknowns.send_failed_again(house.runtime, house.world.organisation_id, house.campaign_id)
    house.send()
    again = dict(house.ask("SELECT unnest(lead_ids), variant FROM handoff WHERE run = 2"))
    assert again == before


# -- What is counted ---------------------------------------------------------------------------------------------------


def test_an_address_is_one_link_in_all_variants_and_leads_where_it_should(house: House) -> None:
    assert house.ask("SELECT position, url, variants FROM link ORDER BY position") == [
        (1, "https://shop.example.com/a", 0b011),
        (2, "https://shop.example.com/b", 0b111),
        (3, "https://shop.example.com/c", 0b100),
    ]
    house.launch()
    house.send()
    letters = {str(letter["subject"]): str(letter["html"]) for letter in house.peer.sink.book.messages(1000)}
    for subject, numbers in zip(SUBJECTS, ([1, 2], [1, 2], [2, 3]), strict=True):
        found = [int(piece.split('"')[0]) for piece in letters[subject].split("/t/")[1:] for piece in [piece[29:]]]
        assert sorted(number for number in found if number) == numbers


def test_clicks_of_the_rest_change_nothing_of_the_test(house: House) -> None:
    house.launch()
    house.send()
    house.click(1, 3)
    house.choose_by_hand(1)
    house.send()
    tested = house.tested()
    assert (tested[1].clicked, tested[1].sent) == (3, house.test().figures[2].sent)
    rest = [lead_id for (lead_id,) in house.ask("SELECT unnest(lead_ids) FROM outbox WHERE rest")][:20]
    at = house.ask("SELECT max(settled_at) + interval '1 minute' FROM handoff")[0][0]
    with house.runtime.db.begin() as conn:
        tracking.keep(conn, [Hit(house.campaign_id, int(str(each)), 1, at, None) for each in rest])  # type: ignore[arg-type]
    track.read_hits(house.runtime, wait=-3600)
    assert house.tested() == tested
    with house.runtime.db.begin() as conn:
        [apart] = [each for each in variant.tally(conn, house.campaign_id) if each.rest]
    assert (apart.clicked, apart.leads) == (20, LEADS - sum(each.leads for each in tested.values()))


def test_an_unsubscription_counts_for_the_variant_that_brought_it(house: House) -> None:
    house.launch()
    house.send()
    lead_id = next(lead_id for lead_id, given in house.given().items() if given == 2)
    unsubscribe.unsubscribe(house.runtime, house.runtime.signer.unsubscribe_token(lead_id, house.campaign_id))
    assert house.ask("SELECT variant FROM event WHERE kind = 'unsubscribed'") == [(2,)]
