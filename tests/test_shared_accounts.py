"""Accounts that several pools speak with: where all have limits they keep to the highest, and each to its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.config import Settings
from app.flows import estimate, launch, pace, pools, send_range, senders
from app.models import account, limit
from app.models.account import Sharing
from app.models.limit import ACCOUNT, WHOLE, Limit
from app.providers.address import account_in
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.sending_world import query, sums
from tests.test_pace import Take, fill, most_above, watch
from tests.world import World


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100, look_every=0.05))
    yield runtime
    runtime.close()


def keyed(peer: Peer, options: str = "", key: str = "k") -> str:
    return peer.url.replace("://", f"://:{key}@") + options


def build(runtime: Runtime, peer: Peer, leads: int = 200) -> tuple[World, World]:
    """One organisation, two campaigns, each through a pool of its own; both pools speak with one account."""
    secret_key = runtime.settings.secret_key
    one = world.build(runtime.db, secret_key=secret_key, leads=leads, provider_url=keyed(peer))
    pools.tell_accounts(runtime)
    second = pools.add_pool(runtime, one.organisation_id, "Second", keyed(peer, "?batch=40"))
    sender_id = senders.add_sender(runtime, one.organisation_id, second, "Other", "other@example.com")
    with runtime.db.begin() as conn:
        campaign_id = world.add_campaign(conn, one.organisation_id, one.user_id, sender_id)
    return one, replace(one, pool_id=second, sender_id=sender_id, campaign_id=campaign_id)


def start(runtime: Runtime, *worlds: World) -> None:
    for each in worlds:
        launch.launch(runtime, each.organisation_id, each.campaign_id)


def set_limits(runtime: Runtime, built: World, *limits: Limit) -> None:
    pools.set_limits(runtime, built.organisation_id, built.pool_id, limits)


def shared(runtime: Runtime) -> list[tuple[object, ...]]:
    return query(runtime, "SELECT per_second, burst, per_day FROM pool_account")


def key(runtime: Runtime) -> str:
    """The shared bucket's."""
    return f"millrace:account:{query(runtime, 'SELECT id FROM pool_account')[0][0]}"


def own(built: World) -> str:
    return f"millrace:pace:{built.pool_id}:"


# -- By second ---------------------------------------------------------------------------------------------------------


def test_pools_at_one_account_together_let_go_what_the_highest_limit_of_them_allows(
    runtime: Runtime, peer: Peer
) -> None:
    one, other = build(runtime, peer)
    set_limits(runtime, one, Limit(per_second=0.001, burst=70))
    set_limits(runtime, other, Limit(per_second=0.0005, burst=50))
    assert shared(runtime) == [(0.001, 70, None)]
    start(runtime, one, other)
    fill(runtime, key(runtime), own(one), own(other))
    send_range.drain(runtime)
    sent = [sums(runtime, each.campaign_id).get("sent", 0) for each in (one, other)]
    assert sum(sent) == 70
    assert sent[1] <= 50
    assert send_range.claim(runtime) is None


def test_a_pool_is_held_by_its_account_and_a_limit_that_is_taken_away_frees_it(runtime: Runtime, peer: Peer) -> None:
    one, other = build(runtime, peer)
    set_limits(runtime, one, Limit(per_second=0.001, burst=70))
    set_limits(runtime, other, Limit(per_second=0.0005, burst=500))
    start(runtime, other)
    fill(runtime, key(runtime), own(other))
    send_range.drain(runtime)
    assert sums(runtime, other.campaign_id) == {"sent": 70, "open": 130}
    assert send_range.claim(runtime) is None
    set_limits(runtime, one)
    assert shared(runtime) == []
    send_range.drain(runtime)
    assert sums(runtime, other.campaign_id) == {"sent": 200}


def test_a_low_limit_that_one_pool_alone_has_is_its_own(runtime: Runtime, peer: Peer) -> None:
    one, other = build(runtime, peer)
    set_limits(runtime, one, Limit(per_second=0.001, burst=2, per_day=5))
    assert shared(runtime) == []
    start(runtime, other)
    send_range.drain(runtime)
    assert sums(runtime, other.campaign_id) == {"sent": 200}


def test_a_second_and_a_day_are_shared_each_on_its_own(runtime: Runtime, peer: Peer) -> None:
    one, other = build(runtime, peer, leads=1)
    set_limits(runtime, one, Limit(per_second=5.0, burst=9, per_day=100))
    set_limits(runtime, other, Limit(per_day=50))
    assert shared(runtime) == [(None, 1, 100)]
    set_limits(runtime, other, Limit(per_second=4.0, burst=20))
    assert shared(runtime) == [(5.0, 9, None)]


def test_a_pool_that_shares_its_account_with_nobody_asks_nobody(runtime: Runtime, peer: Peer) -> None:
    one, other = build(runtime, peer)
    start(runtime, other)
    lease = send_range.claim(runtime)
    assert lease is not None and not lease.limited
    set_limits(runtime, one, Limit("google", 0.001, 70))  # of some of its emails: that is no limit of the account
    assert shared(runtime) == []


@pytest.mark.timeout(60)
def test_two_workers_through_two_pools_keep_to_the_rate_of_their_account(settings: Settings, peer: Peer) -> None:
    workers = [Runtime(replace(settings, range_size=500), connections=4) for _ in range(2)]
    takes: list[Take] = []
    bell = threading.Event()
    for each in workers:
        watch(each, takes)
        each.use_bell(lambda queue: bell.set())
    one, other = build(workers[0], peer, leads=3000)
    for built in (one, other):
        set_limits(workers[0], built, Limit(per_second=150.0, burst=50))
    start(workers[0], one, other)
    ends = time.monotonic() + 6.0

    def work(runtime: Runtime) -> None:
        while time.monotonic() < ends:
            send_range.drain(runtime, ends - time.monotonic())
            bell.wait(1.0)
            bell.clear()

    threads = [threading.Thread(target=work, args=(each,)) for each in workers for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most_above([each for each in takes if each.tokens], 150.0, 50) <= 1  # one token is rounded
    sent = [sums(workers[0], built.campaign_id).get("sent", 0) for built in (one, other)]
    assert min(sent) > 0  # both have their share
    assert sum(sent) >= 0.5 * 150 * 6
    for each in workers:
        each.close()


# -- By day ------------------------------------------------------------------------------------------------------------


def test_pools_at_one_account_together_send_no_more_a_day_than_the_highest_limit_and_each_no_more_than_its_own(
    runtime: Runtime, peer: Peer
) -> None:
    one, other = build(runtime, peer)
    set_limits(runtime, one, Limit(per_day=110))
    start(runtime, one)
    send_range.drain(runtime)
    assert sums(runtime, one.campaign_id) == {"sent": 110, "open": 90}
    set_limits(runtime, one, Limit(per_day=130))  # what was sent before both had a limit counts as well
    set_limits(runtime, other, Limit(per_day=15))
    assert shared(runtime) == [(None, 1, 130)]
    start(runtime, other)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET state = 'paused' WHERE id = :id"), {"id": one.campaign_id})
    send_range.drain(runtime)
    assert sums(runtime, other.campaign_id) == {"sent": 15, "open": 185}
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET state = 'sending' WHERE id = :id"), {"id": one.campaign_id})
    send_range.drain(runtime)
    assert sums(runtime, one.campaign_id) == {"sent": 115, "open": 85}
    assert send_range.claim(runtime) is None
    assert query(runtime, "SELECT sum(spent) FROM pool_spent") == [(130,)]


def test_of_two_pages_through_two_pools_at_the_end_of_a_day_one_gets_what_is_left(runtime: Runtime, peer: Peer) -> None:
    one, other = build(runtime, peer, leads=100)
    for each in (one, other):
        set_limits(runtime, each, Limit(per_day=100))
    start(runtime, one, other)
    claimed = [send_range.claim(runtime), send_range.claim(runtime)]
    cut = [pace.pace(runtime, lease) for lease in claimed if lease is not None]
    assert sorted((lease.pool_id, len(lease.lead_ids)) for lease in cut if lease is not None) == [
        (one.pool_id, 100),
        (other.pool_id, 100),
    ]
    for lease in cut:
        assert lease is not None
        send_range.send(runtime, send_range.load(runtime, lease))
    assert sum(sums(runtime, each.campaign_id).get("sent", 0) for each in (one, other)) == 100
    assert query(runtime, "SELECT sum(spent) FROM pool_spent") == [(100,)]


def test_a_page_waits_for_one_that_spends_the_day_of_the_account_through_another_pool(
    runtime: Runtime, peer: Peer
) -> None:
    one, other = build(runtime, peer, leads=1)
    for each in (one, other):
        set_limits(runtime, each, Limit(per_day=100))
    spent: list[bool] = []

    def spend() -> None:
        with runtime.db.begin() as conn:
            spent.append(limit.spend(conn, other.pool_id, {WHOLE: 60, ACCOUNT: 60}))

    thread = threading.Thread(target=spend)
    with runtime.db.begin() as conn:
        assert limit.spend(conn, one.pool_id, {WHOLE: 60, ACCOUNT: 60})
        thread.start()
        time.sleep(0.5)
        assert spent == []
    thread.join()
    assert spent == [False]


def test_what_never_left_us_is_given_back_to_the_account(runtime: Runtime, peer: Peer) -> None:
    one, other = build(runtime, peer, leads=100)
    for each in (one, other):
        set_limits(runtime, each, Limit(per_day=100))
    start(runtime, other)
    peer.behave(down=1.0)
    send_range.drain(runtime)
    assert query(runtime, "SELECT sum(spent) FROM pool_spent") == [(0,)]


def test_an_estimate_knows_of_what_the_account_allows_and_of_what_others_have_sent(
    runtime: Runtime, peer: Peer
) -> None:
    one, other = build(runtime, peer, leads=100)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for each in (one, other):
        set_limits(runtime, each, Limit(per_second=2.0, burst=2))
    with runtime.db.begin() as conn:
        found = estimate.end_estimate(conn, other.sender_id, 100, begin)
    assert found.ends_at == begin + timedelta(seconds=50)
    assert found.bound_by == "the limit a second that its account has for all its pools"
    for each in (one, other):
        set_limits(runtime, each, Limit(per_day=100))
    start(runtime, one)
    send_range.drain(runtime)
    with runtime.db.begin() as conn:
        now = conn.execute(text("SELECT now()")).scalar_one()
        found = estimate.end_estimate(conn, other.sender_id, 100, now)
    assert found.ends_at is not None and timedelta(hours=24) <= found.ends_at - now <= timedelta(hours=24.5)
    assert found.bound_by == "the limit by day that its account has for all its pools"


# -- Who shares --------------------------------------------------------------------------------------------------------


SAME = [
    (
        "ses://AKIA1:one@email.eu-west-1.amazonaws.com",
        "ses://AKIA1:two@email.eu-west-1.amazonaws.com?configuration_set=b",
    ),
    ("postmark://:key@api.postmarkapp.com?stream=a", "postmark://key@API.postmarkapp.com?stream=b public"),
    ("smtp://u:p@mail.example.com", "smtp://u:q@mail.example.com:465?tls=implicit"),
    ("mailgun://:key@api.mailgun.net/a.example", "mailgun://:key@api.mailgun.net/a.example/"),
    ("smtp://apikey:SG.one@smtp.sendgrid.net:587", "smtp://apikey:SG.one@smtp.sendgrid.net:465?tls=tls"),
]
OTHERS = [
    ("ses://AKIA1:one@email.eu-west-1.amazonaws.com", "ses://AKIA1:one@email.us-east-1.amazonaws.com"),
    ("ses://A:b@gate.example?region=eu-west-1", "ses://A:b@gate.example?region=us-east-1"),
    ("postmark://:key@api.postmarkapp.com", "postmark://:other@api.postmarkapp.com"),
    ("smtp://u:p@mail.example.com", "smtp://v:p@mail.example.com"),
    ("mailgun://:key@api.mailgun.net/a.example", "mailgun://:key@api.mailgun.net/b.example"),
    ("smtp://apikey:SG.one@smtp.sendgrid.net", "smtp://apikey:SG.two@smtp.sendgrid.net"),
    ("smtp://resend:re_1@smtp.resend.com:465", "smtp://Resend:re_2@smtp.resend.com:465"),
    ("smtp://SMTP_Injection:k1@smtp.sparkpostmail.com", "smtp://SMTP_Injection:k2@smtp.sparkpostmail.com"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_an_account_is_told_by_its_server_and_its_login(one: str, other: str) -> None:
    assert account_in(one) == account_in(other) != ""


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_another_server_or_login_is_another_account(one: str, other: str) -> None:
    assert account_in(one) != account_in(other)


@pytest.mark.parametrize("url", ["smtp://mail.example.com?tls=none", "sink+http://127.0.0.1:9", "ses://a:b@[x", ""])
def test_who_needs_no_login_has_no_account(url: str) -> None:
    assert account_in(url) == ""


def test_a_pool_that_goes_to_another_account_or_goes_away_shares_no_more(runtime: Runtime, peer: Peer) -> None:
    one, other = build(runtime, peer, leads=1)
    for each in (one, other):
        set_limits(runtime, each, Limit(per_second=5.0, burst=5))
    third = pools.add_pool(runtime, one.organisation_id, "Third", keyed(peer))
    with runtime.db.begin() as conn:
        assert account.find_sharing(conn, other.pool_id) == Sharing(["Pool", "Third"], None, None)
    pools.set_limits(runtime, one.organisation_id, third, [Limit(per_second=4.0, burst=4)])
    with runtime.db.begin() as conn:
        assert account.find_sharing(conn, other.pool_id) == Sharing(["Pool", "Third"], 5.0, None)
        assert account.find_sharing(conn, 9999) is None
    pools.ensure_pool(runtime, one.organisation_id, "Third", keyed(peer, key="another"))
    pools.delete_pool(runtime, one.organisation_id, third)
    with runtime.db.begin() as conn:
        assert account.find_sharing(conn, other.pool_id) == Sharing(["Pool"], 5.0, None)
    pools.ensure_pool(runtime, one.organisation_id, "Second", keyed(peer, key="another"))
    assert shared(runtime) == []
    assert query(runtime, "SELECT count(account_id) FROM pool") == [(0,)]


def test_pools_of_two_organisations_share_nothing(runtime: Runtime, peer: Peer) -> None:
    secret_key = runtime.settings.secret_key
    ours, theirs = (world.build(runtime.db, secret_key=secret_key, provider_url=keyed(peer)) for _ in range(2))
    assert pools.tell_accounts(runtime) == 2
    set_limits(runtime, ours, Limit(per_second=5.0, burst=5))
    with runtime.db.begin() as conn:
        assert account.find_sharing(conn, theirs.pool_id) is None
    assert shared(runtime) == []


def test_the_clock_tells_the_accounts_of_older_pools_once(runtime: Runtime, peer: Peer) -> None:
    one, other = build(runtime, peer, leads=1)
    for each in (one, other):
        set_limits(runtime, each, Limit(per_second=5.0, burst=5))
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool SET account = NULL, account_id = NULL"))
        conn.execute(text("DELETE FROM pool_account"))
    assert pools.tell_accounts(runtime) == 2
    assert pools.tell_accounts(runtime) == 0
    assert shared(runtime) == [(5.0, 5, None)]
    with runtime.db.begin() as conn:
        conn.execute(
            text("UPDATE pool SET account = NULL, url = 'nobody reads this' WHERE id = :id"), {"id": other.pool_id}
        )
    assert pools.tell_accounts(runtime) == 0
