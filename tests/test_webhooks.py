"""Webhooks: verified before they are kept, counted once however often and in whatever order they come, and proof."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import permutations
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from app.errors import Invalid, NotFound, Unverified
from app.flows import ingest, launch, pools, send_range, take_webhook
from app.models import webhook
from app.providers import standard
from app.runtime import Runtime
from app.stack.timescale import Edition
from tests import record, world
from tests.peers import running_sink
from tests.servers import Servers
from tests.web_server import running_web
from tests.world import World

SECRET = "whsec_" + b64encode(b"what the sink and the pool share").decode()
OTHER = "whsec_" + b64encode(b"what somebody else made up, and longer").decode()
Event = dict[str, Any]


class House:
    """A campaign of which one call of three leads stands `state`, and the pool's address for webhooks."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.world: World = world.build(
            runtime.db, secret_key=runtime.settings.secret_key, leads=5, provider_url="sink+http://127.0.0.1:9"
        )
        pools.set_webhook_secret(runtime, self.world.organisation_id, self.world.pool_id, SECRET)
        with runtime.db.begin() as conn:
            self.lead_ids = list(conn.execute(text("SELECT id FROM lead ORDER BY id")).scalars())
            self.token = self.token_of(self.world.pool_id)
            conn.execute(
                text("UPDATE campaign SET state = 'sending', run = 1, launched_at = now() - interval '9 days'")
            )
            self.range_id = world.add_range(conn, self.world.campaign_id, self.lead_ids[:3])
        self.handoff_id = self.hand_off(self.lead_ids[:3])

    def token_of(self, pool_id: int) -> str:
        return str(self.rows(f"SELECT webhook_token FROM pool WHERE id = {pool_id}")[0][0])

    def hand_off(self, lead_ids: list[int], settled: bool = True) -> int:
        """A call of 10 s ago."""
        with self.runtime.db.begin() as conn:
            return int(
                conn.execute(
                    text(
                        "INSERT INTO handoff (range_id, campaign_id, pool_id, run, state, key, lead_ids, outcomes,"
                        " handed_at) VALUES (:range, :campaign, :pool, 1, :state, gen_random_uuid(), :leads, :outcomes,"
                        " now() - interval '10 seconds') RETURNING id"
                    ),
                    {
                        "range": self.range_id,
                        "campaign": self.world.campaign_id,
                        "pool": self.world.pool_id,
                        "state": "settled" if settled else "handed",
                        "leads": lead_ids,
                        "outcomes": "s" * len(lead_ids) if settled else None,
                    },
                ).scalar_one()
            )

    def event(self, type_: str, place: int = 0, **more: Any) -> Event:
        told = {"id": token_hex(8), "type": type_, "time": datetime.now(UTC).isoformat(), "handoff": self.handoff_id}
        return told | {"lead": self.lead_ids[place], "ref": "sink-1"} | more

    def keep(self, *events: Event) -> None:
        body = orjson.dumps({"events": events})
        take_webhook.take(self.runtime, self.token, standard.sign("msg_" + token_hex(4), body, SECRET), body)

    def tell(self, *events: Event) -> None:
        self.keep(*events)
        assert not ingest.read_waiting(self.runtime)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.runtime.db.begin() as conn:
            return [tuple(row) for row in conn.execute(text(statement))]

    def figures(self) -> dict[str, int]:
        """kind -> sum, as the reports say it."""
        return {str(kind): int(total) for kind, total in self.rows("SELECT kind, sum(total) FROM brief_day GROUP BY 1")}

    def suppressed(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT email, reason, source FROM suppression ORDER BY email")

    def arrivals(self) -> dict[str, int]:
        columns = ("events", "repeated", "late", "unmatched")
        return dict(zip(columns, self.rows(f"SELECT {', '.join(columns)} FROM pool_webhook")[0], strict=True))


@pytest.fixture
def house(runtime: Runtime) -> House:
    return House(runtime)


@pytest.fixture
def web(runtime: Runtime) -> Iterator[str]:
    with running_web(runtime) as url:
        yield url


def signed(body: bytes, *, secret: str = SECRET, at: datetime | None = None, name: str = "msg_1") -> dict[str, str]:
    at = at or datetime.now(UTC)
    signature = Webhook(secret).sign(name, at, body.decode())
    return {"webhook-id": name, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def body_of(*events: Event) -> bytes:
    return orjson.dumps({"events": events})


# -- The door ----------------------------------------------------------------------------------------------------------


def test_a_signed_webhook_is_kept_before_it_is_acknowledged(house: House, web: str) -> None:
    body = body_of(house.event("delivered"))
    answer = httpx.post(f"{web}/webhooks/{house.token}", content=body, headers=signed(body))
    assert (answer.status_code, answer.content) == (200, b"")
    assert house.rows("SELECT delivery, convert_from(body, 'UTF8') FROM webhook") == [("msg_1", body.decode())]
    assert httpx.get(f"{web}/webhooks/{house.token}").status_code == 200


def test_a_signature_that_is_not_the_pools_changes_nothing(house: House, web: str) -> None:
    body = body_of(house.event("delivered"))
    now, good = datetime.now(UTC), signed(body)
    forged: list[dict[str, str]] = [
        {},
        signed(body, secret=OTHER),
        signed(body + b" "),
        signed(body, at=now - timedelta(minutes=6)),
        signed(body, at=now + timedelta(minutes=6)),
        good | {"webhook-id": "msg_2"},
        good | {"webhook-timestamp": str(int(now.timestamp()) + 1)},
        good | {"webhook-timestamp": "nan"},
        good | {"webhook-timestamp": "9" * 400},
        good | {"webhook-signature": "v1"},
        good | {"webhook-signature": "v1,%%%"},
        good | {"webhook-signature": "v2," + good["webhook-signature"][3:]},
        good | {"webhook-signature": "v1a," + good["webhook-signature"][3:]},
    ]
    with httpx.Client() as client:
        for headers in forged:
            answer = client.post(f"{web}/webhooks/{house.token}", content=body, headers=headers)
            assert (answer.status_code, answer.content) == (401, b""), headers
        assert client.post(f"{web}/webhooks/{house.token}", content=b"\xff\xfe", headers=good).status_code == 401
    assert house.rows("SELECT count(*) FROM webhook") == [(0,)]


def test_a_bad_signature_alarms_the_pool_until_a_good_one_comes(house: House) -> None:
    body, alarms = body_of(), "SELECT kind, subject, cleared_at IS NULL FROM alert"
    for _ in range(2):
        with pytest.raises(Unverified):
            take_webhook.take(house.runtime, house.token, signed(body, secret=OTHER), body)
    assert house.rows(alarms) == [("webhook_refused", house.world.pool_id, True)]
    house.tell(house.event("delivered"))
    assert house.rows(alarms) == [("webhook_refused", house.world.pool_id, False)]
    with pytest.raises(Unverified):  # a stranger's, among good ones
        take_webhook.take(house.runtime, house.token, signed(body, secret=OTHER), body)
    assert house.rows(alarms) == [("webhook_refused", house.world.pool_id, False)]


def test_what_is_no_webhook_of_ours_is_refused_and_tells_nothing(house: House, web: str) -> None:
    body = body_of()
    assert httpx.post(f"{web}/webhooks/{'0' * 32}", content=body, headers=signed(body)).status_code == 404
    assert httpx.get(f"{web}/webhooks/{'0' * 32}").status_code == 404
    large = b"x" * (take_webhook.LARGEST + 1)
    assert httpx.post(f"{web}/webhooks/{house.token}", content=large, headers=signed(large)).status_code == 413
    parts = (b"x" * 65536 for _ in range(take_webhook.LARGEST // 65536 + 1))  # chunked: no length is said before
    assert httpx.post(f"{web}/webhooks/{house.token}", content=parts, headers=signed(large)).status_code == 413
    pools.set_webhook_secret(house.runtime, house.world.organisation_id, house.world.pool_id, "")
    assert httpx.post(f"{web}/webhooks/{house.token}", content=body, headers=signed(body)).status_code == 401
    assert house.rows("SELECT count(*) FROM webhook") == [(0,)]


def test_a_secret_is_checked_kept_encrypted_and_only_ones_own(house: House) -> None:
    ours = (house.world.organisation_id, house.world.pool_id)
    for wrong in ("whsec_", "whsec_c2hvcnQ=", "whsec_" + "ü" * 40, "whsec_" + "%" * 40, "A" * 200):
        with pytest.raises(Invalid, match="secret"):
            pools.set_webhook_secret(house.runtime, *ours, wrong)
    with pytest.raises(NotFound):
        pools.set_webhook_secret(house.runtime, ours[0] + 1, ours[1], OTHER)
    (kept,) = house.rows("SELECT webhook_secret FROM pool")[0]
    assert house.runtime.vault.decrypt(kept) == SECRET
    assert SECRET.encode() not in kept
    made = pools.add_pool(house.runtime, ours[0], "Second", "sink+http://127.0.0.1:9", webhook_secret=OTHER)
    with house.runtime.db.begin() as conn:
        door = webhook.find_door(conn, house.token_of(made))
    assert door is not None and door.secret is not None
    assert house.runtime.vault.decrypt(door.secret) == OTHER
    with pytest.raises(Invalid, match="no webhooks"):
        pools.add_pool(house.runtime, ours[0], "Third", "smtp://127.0.0.1:9", webhook_secret=OTHER)


# -- Reading -----------------------------------------------------------------------------------------------------------


def test_the_same_bytes_again_change_no_figure(house: House) -> None:
    body = body_of(house.event("delivered"), house.event("bounced", 1, bounce="hard"))
    headers = signed(body)
    for _ in range(2):
        take_webhook.take(house.runtime, house.token, headers, body)
        ingest.read_waiting(house.runtime)
    take_webhook.take(house.runtime, house.token, signed(body, name="msg_9"), body)
    ingest.read_waiting(house.runtime)
    assert house.figures() == {"delivered": 1, "bounced": 1}
    assert house.arrivals() == {"events": 2, "repeated": 2, "late": 0, "unmatched": 0}
    with pytest.raises(Unverified):  # ten minutes later
        take_webhook.take(house.runtime, house.token, signed(body, at=datetime.now(UTC) - timedelta(minutes=10)), body)


def test_ten_copies_at_once_count_once(house: House) -> None:
    events = [house.event(kind, lead) for kind in ("delivered", "opened", "clicked") for lead in range(3)] * 2
    copies = [events[at:] + events[:at] for at in range(10)]
    with ThreadPoolExecutor(5) as workers:
        list(workers.map(lambda copy: house.keep(*copy), copies))
        readers = [workers.submit(read_alone, house, post) for (post,) in house.rows("SELECT id FROM webhook")]
        assert [reader.result() for reader in readers] == [1] * 10
    assert house.figures() == {"delivered": 3, "opened": 3, "clicked": 3}
    assert house.arrivals()["repeated"] == 9 * 19
    assert house.rows("SELECT count(*), count(read_at), max(tries) FROM webhook") == [(10, 10, 0)]


def test_of_a_post_that_repeats_some_events_the_others_count(house: House) -> None:
    known, new = house.event("delivered"), house.event("delivered", 1)
    house.tell(known)
    house.tell(new, known)
    assert house.figures() == {"delivered": 2}
    assert house.arrivals() == {"events": 2, "repeated": 1, "late": 0, "unmatched": 0}


def test_keys_of_one_minute_lie_together_and_days_begun_the_old_way_end_so(house: House) -> None:
    """A key that was written without its minute must not come again with it."""
    old, new = house.event("delivered"), house.event("delivered", 1)
    minute = int(datetime.fromisoformat(new["time"]).timestamp() // 60) % 1440
    first, second = (webhook.key_of(house.world.pool_id, each["id"]) for each in (old, new))
    for timed, event in (("now() + interval '2 days'", old), ("'1970-01-01'", new)):
        with house.runtime.db.begin() as conn:
            conn.execute(text(f"UPDATE webhook_layout SET timed = {timed}"))
        for _ in range(2):
            house.tell(event)
    kept = {str(key).replace("-", "") for (key,) in house.rows("SELECT CAST(key AS text) FROM webhook_event")}
    assert kept == {first, webhook.key_of(house.world.pool_id, new["id"], minute)} != {first, second}
    assert house.figures() == {"delivered": 2}


def read_alone(house: House, post: int) -> int:
    """As a worker of its own, which claimed this one."""
    pool = webhook.Pool(house.world.pool_id, "sink")
    claimed = house.rows(f"SELECT id, received_at, delivery, body FROM webhook WHERE id = {post}")[0]
    ingest._make_days(house.runtime)
    return ingest._read_alone(house.runtime, pool, webhook.Post(*claimed))


@pytest.mark.editions
def test_every_order_of_the_same_events_gives_the_same(runtime: Runtime) -> None:
    house = House(runtime)
    kinds = ("accepted", "delivered", "clicked", "complained")
    for number, order in enumerate(permutations(kinds)):
        lead_id = house.lead_ids[0]
        handoff_id = house.hand_off([lead_id])
        for kind in order:
            house.keep(house.event(kind, id=f"{number} {kind}", handoff=handoff_id))
    assert not ingest.read_waiting(runtime)
    record.refresh_all(runtime)
    assert house.figures() == {"delivered": 24, "clicked": 24, "complained": 24}
    (first,) = house.suppressed()
    assert first[1:] == ("complained", f"campaign {house.world.campaign_id}")


def test_consequences_stand_with_the_event(house: House) -> None:
    house.tell(
        house.event("bounced", 0, bounce="hard", reason="550 5.1.1"),
        house.event("bounced", 1, bounce="soft", reason="451 full\0"),
        house.event("unsubscribed", 2),
    )
    emails = [email for (email,) in house.rows("SELECT email FROM lead ORDER BY id")]
    source = f"campaign {house.world.campaign_id}"
    assert house.suppressed() == [(emails[0], "bounced", source), (emails[2], "unsubscribed", source)]
    assert house.rows("SELECT status FROM lead ORDER BY id LIMIT 3") == [("invalid",), ("active",), ("unsubscribed",)]
    told = house.rows(
        "SELECT lead_id, kind::text, detail, user_id, pool_id, run, domain_id > 0 FROM event ORDER BY lead_id"
    )
    common = (house.world.user_id, house.world.pool_id, 1, True)
    assert told == [
        (house.lead_ids[0], "bounced", {"bounce": "hard", "reason": "550 5.1.1"}, *common),
        (house.lead_ids[1], "bounced", {"bounce": "soft", "reason": "451 full"}, *common),
        (house.lead_ids[2], "unsubscribed", None, *common),
    ]


def test_a_click_is_counted_for_its_link_and_a_machine_is_flagged(house: House) -> None:
    with house.runtime.db.begin() as conn:
        link = world.insert(
            conn, "link", campaign_id=house.world.campaign_id, position=1, url="https://example.com/a?b=1"
        )
    house.tell(
        house.event("clicked", url="https://example.com/a?b=1"),
        house.event("clicked", url="https://example.com/unknown", machine=True),
    )
    assert sorted(house.rows("SELECT link_id, machine, detail FROM event"), key=str) == [
        (0, True, {"url": "https://example.com/unknown"}),
        (link, False, None),
    ]


def test_events_of_others_are_counted_and_touch_nobody(house: House, runtime: Runtime) -> None:
    theirs = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=1, name="Second")
    with runtime.db.begin() as conn:
        (stranger,) = conn.execute(text("SELECT max(id) FROM lead")).one()
        other_range = world.add_range(conn, theirs.campaign_id, [stranger])
        conn.execute(
            text(
                "INSERT INTO handoff (id, range_id, campaign_id, pool_id, run, state, key, lead_ids, outcomes,"
                " unknown_since) VALUES (777, :range, :campaign, :pool, 1, 'unknown', gen_random_uuid(), :leads, 'u',"
                " now())"
            ),
            {"range": other_range, "campaign": theirs.campaign_id, "pool": theirs.pool_id, "leads": [stranger]},
        )
    house.tell(
        house.event("complained", handoff=777, lead=stranger),  # another pool's call
        house.event("complained", lead=stranger),  # a lead that is not in the call
        house.event("complained", 4),  # one of ours that is not in it
        house.event("complained", handoff=999_999),
        house.event("complained", handoff=None, lead="x"),
        house.event("complained", handoff=1 << 63),
        house.event("delivered"),
    )
    assert house.figures() == {"delivered": 1}
    assert house.suppressed() == []
    assert house.rows("SELECT outcomes FROM handoff WHERE id = 777") == [("u",)]
    assert house.arrivals() == {"events": 1, "repeated": 0, "late": 0, "unmatched": 6}
    assert house.rows("SELECT unmatched FROM webhook") == [(6,)]


def test_what_is_too_old_to_be_told_from_a_repeat_is_counted_apart(house: House) -> None:
    now = datetime.now(UTC)
    ages = {"old": -9, "kept": -7, "ahead": 3}
    house.tell(*(house.event("opened", time=(now + timedelta(days=age)).isoformat()) for age in ages.values()))
    assert house.figures() == {"opened": 1}
    assert house.arrivals() == {"events": 1, "repeated": 0, "late": 2, "unmatched": 0}
    assert house.rows("SELECT kind, sum(total) FROM late_event GROUP BY kind") == [("opened", 2)]


def test_a_clock_that_runs_ahead_moves_no_event_into_the_future(house: House) -> None:
    at = datetime.now(UTC)
    house.tell(
        house.event("opened", time=(at + timedelta(hours=2)).isoformat()),
        house.event("opened", 1, time=(at - timedelta(hours=2)).isoformat()),
    )
    (early, late) = house.rows("SELECT time FROM event ORDER BY time")
    assert early[0] == at - timedelta(hours=2)
    assert at <= late[0] <= at + timedelta(minutes=1)


def test_a_body_that_is_none_waits_and_is_set_aside_and_stops_nobody(house: House) -> None:
    for body in (b"{}", b"[" * 10_000, b'{"events": [{"id": 1}]}', b'{"events": [{"time": NaN}]}'):
        take_webhook.take(house.runtime, house.token, signed(body, name=token_hex(4)), body)
    house.keep(house.event("delivered"))
    for _ in range(3):
        ingest.read_waiting(house.runtime)
        with house.runtime.db.begin() as conn:
            conn.execute(text("UPDATE webhook SET retry_at = now()"))
    house.tell(house.event("delivered", 1))
    assert house.figures() == {"delivered": 2}
    assert house.rows("SELECT tries, error IS NULL, read_at IS NULL FROM webhook ORDER BY id") == [
        *([(3, False, True)] * 4),
        (0, True, False),
        (0, True, False),
    ]
    with house.runtime.db.begin() as conn:
        assert webhook.list_doors(conn, house.world.organisation_id)[house.world.pool_id].set_aside == 4


def test_what_was_read_goes_after_days_and_what_is_odd_later(house: House) -> None:
    for _ in range(3):
        house.tell(house.event("opened"))
    house.tell(house.event("opened", handoff=5_000))
    house.keep(house.event("opened"))
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE webhook SET received_at = now() - interval '5 days' WHERE id <> 1"))
    assert ingest.tidy(house.runtime) == 2
    assert house.rows("SELECT id, read_at IS NULL FROM webhook ORDER BY id") == [(1, False), (4, False), (5, True)]


def test_days_are_made_ahead_and_dropped_after_eight(house: House) -> None:
    house.tell(house.event("opened"))
    with house.runtime.db.begin() as conn:
        conn.execute(text("CREATE TABLE webhook_event_20200101 (LIKE webhook_event INCLUDING ALL)"))
        conn.execute(
            text(
                "ALTER TABLE webhook_event ATTACH PARTITION webhook_event_20200101"
                " FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
            )
        )
    ingest.tidy(house.runtime)
    parts = [
        name
        for (name,) in house.rows(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'webhook_event'::regclass ORDER BY 1"
        )
    ]
    today = datetime.now(UTC)
    assert parts[0] == f"webhook_event_{today - timedelta(days=8):%Y%m%d}"
    assert parts[-1] == f"webhook_event_{today + timedelta(days=2):%Y%m%d}"
    assert len(parts) == 11


# -- Evidence and lag --------------------------------------------------------------------------------------------------


def test_the_lag_is_measured_and_the_hold_is_longer(house: House) -> None:
    with house.runtime.db.begin() as conn:
        assert (webhook.lag(conn, house.world.pool_id), webhook.hold(conn, house.world.pool_id)) == (None, 900.0)
    house.tell(*(house.event("accepted", lead) for lead in range(3)), house.event("delivered"))
    with house.runtime.db.begin() as conn:
        assert webhook.lag(conn, house.world.pool_id) == webhook.Lag(16.0, 16.0)  # ten seconds and a little
        conn.execute(text("UPDATE handoff SET handed_at = now() - interval '800 seconds'"))
    house.tell(house.event("accepted", id="slow"))
    with house.runtime.db.begin() as conn:
        assert webhook.lag(conn, house.world.pool_id) == webhook.Lag(16.0, 1024.0)
        assert webhook.hold(conn, house.world.pool_id) == 2048.0
    (door,) = house.rows("SELECT sum(each), array_length(lags, 1) FROM pool_webhook, unnest(lags) AS each GROUP BY 2")
    assert door == (4, webhook.BUCKETS)


def test_it_is_remembered_in_which_half_minutes_a_pool_was_heard_of(house: House) -> None:
    house.tell(house.event("opened", 1, handoff=999_999))  # of nobody's email
    assert house.rows("SELECT count(*) FROM pool_heard") == [(0,)]
    house.tell(house.event("accepted"), house.event("delivered"))
    house.tell(house.event("delivered"))  # told again
    slot = "floor(extract(epoch FROM received_at) / 30)"
    there = house.rows(f"SELECT DISTINCT pool_id, {slot}::integer FROM webhook WHERE id > 1 ORDER BY 2")
    assert there == house.rows("SELECT pool_id, slot FROM pool_heard ORDER BY 2")
    with house.runtime.db.begin() as conn:
        conn.execute(text("INSERT INTO pool_heard SELECT pool_id, slot - 8 * 2880 - 1 FROM pool_heard"))
    ingest.tidy(house.runtime)
    assert there == house.rows("SELECT pool_id, slot FROM pool_heard ORDER BY 2")


def eventually(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


def send(runtime: Runtime, peer_url: str, leads: int) -> World:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=leads, provider_url=peer_url)
    pools.set_webhook_secret(runtime, built.organisation_id, built.pool_id, SECRET)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    return built


def kinds(runtime: Runtime) -> dict[str, int]:
    with runtime.db.begin() as conn:
        rows = conn.execute(text("SELECT kind::text, sum(weight) FROM event GROUP BY kind"))
        return {kind: int(total) for kind, total in rows if total}


def test_a_campaign_is_reported_on_from_end_to_end_once(runtime: Runtime, web: str) -> None:
    rates = {"bounce": 0.1, "complain": 0.1, "open": 0.5, "click": 0.2, "webhook_repeat": 0.5, "webhook_delay": 0.0}
    rates["webhook_batch"] = 50  # many posts, some of them twice
    with running_sink(secret=SECRET, **rates) as peer:
        built = send(runtime, peer.url, 400)
        with runtime.db.begin() as conn:
            token = conn.execute(text("SELECT webhook_token FROM pool")).scalar_one()
        peer.behave(webhook=f"{web}/webhooks/{token}")
        send_range.drain(runtime)
        assert eventually(lambda: has_told_all(peer))
        told = peer.sink.webhooks.stats()
        assert eventually(lambda: not ingest.read_waiting(runtime) and all_read(runtime))
    found = kinds(runtime)
    assert found["sent"] == 400
    assert found["delivered"] + found["bounced"] == 400
    assert told["told"] == 400 + sum(total for kind, total in found.items() if kind != "sent")
    with runtime.db.begin() as conn:
        closed = conn.execute(text("SELECT count(*) FROM suppression")).scalar_one()
        assert webhook.lag(conn, built.pool_id) is not None
    assert told["repeats"] > 0
    assert closed == found["bounced"] + found["complained"]


def has_told_all(peer: Any) -> bool:
    """Nothing waits, and nothing was on its way for half a second."""
    before = peer.sink.webhooks.stats()
    time.sleep(0.5)
    now = peer.sink.webhooks.stats()
    return bool(before == now and not now["waiting"] and not peer.sink.webhooks.again)


def all_read(runtime: Runtime) -> bool:
    with runtime.db.begin() as conn:
        return not conn.execute(text("SELECT count(*) FROM webhook WHERE read_at IS NULL")).scalar_one()


def test_what_is_unknown_is_resolved_by_evidence(runtime: Runtime, web: str) -> None:
    with running_sink(secret=SECRET, unsure=1.0, webhook_delay=0.0) as peer:
        send(runtime, peer.url, 120)
        with runtime.db.begin() as conn:
            token = conn.execute(text("SELECT webhook_token FROM pool")).scalar_one()
        send_range.drain(runtime)
        assert kinds(runtime) == {"unknown": 120}
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE handoff SET repeat_at = NULL"))
        peer.behave(webhook=f"{web}/webhooks/{token}", unsure=0.0)
        with runtime.db.begin() as conn:
            calls = conn.execute(text("SELECT id, campaign_id, lead_ids FROM handoff")).all()
        for call in calls:
            letters = [({"lead": lead_id, "to": "x", "html": ""}, "sink-1") for lead_id in call.lead_ids]
            peer.sink.webhooks.tell({"campaign": call.campaign_id, "run": 1, "handoff": call.id}, letters)
        assert eventually(lambda: peer.sink.webhooks.stats()["told"] == 240)
        ingest.read_waiting(runtime)
    assert kinds(runtime) == {"sent": 120, "delivered": 120}
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT sum(sent), sum(unknown) FROM outbox")).one() == (120, 0)


def test_an_event_before_our_own_settle_is_not_lost(house: House) -> None:
    house.handoff_id = house.hand_off(house.lead_ids[:3], settled=False)
    house.tell(house.event("accepted"), house.event("delivered"), house.event("accepted", 1))
    assert house.figures() == {"delivered": 1}
    (kept,) = house.rows(f"SELECT evidence FROM handoff WHERE id = {house.handoff_id}")[0]
    assert sorted(kept) == house.lead_ids[:2]


def test_while_the_database_is_away_a_provider_is_asked_to_come_again(
    runtime: Runtime, web: str, servers: Servers, edition: Edition
) -> None:
    runtime.db.pool.timeout = 1.0
    with running_sink(secret=SECRET, webhook_delay=0.5) as peer:
        send(runtime, peer.url, 50)
        with runtime.db.begin() as conn:
            address = f"{web}/webhooks/{conn.execute(text('SELECT webhook_token FROM pool')).scalar_one()}"
        peer.behave(webhook=address)
        send_range.drain(runtime)
        with servers.postgres(edition).postgres.connect() as postgres:
            name = urlsplit(runtime.settings.database_url).path[1:]
            postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            answer = httpx.post(address, content=b"{}", headers=signed(b"{}"))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert eventually(lambda: peer.sink.webhooks.counts.trouble.startswith("503"))
            postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert eventually(lambda: peer.sink.webhooks.stats()["told"] == 100)
        ingest.read_waiting(runtime)
        assert kinds(runtime) == {"sent": 50, "delivered": 50}


def test_what_the_provider_dropped_after_all_is_refused(runtime: Runtime, web: str) -> None:
    with running_sink(secret=SECRET, unsure=1.0, webhook_delay=0.0, drop=1.0) as peer:
        built = send(runtime, peer.url, 60)
        with runtime.db.begin() as conn:
            peer.behave(
                webhook=f"{web}/webhooks/{webhook.list_doors(conn, built.organisation_id)[built.pool_id].token}"
            )
        send_range.drain(runtime)
        assert eventually(lambda: peer.sink.webhooks.stats()["told"] == 60)
        ingest.read_waiting(runtime)
    assert kinds(runtime) == {"refused": 60}
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT sum(sent), sum(refused), sum(unknown) FROM outbox")).one() == (0, 60, 0)


def test_that_what_was_refused_was_delivered_all_the_same_is_told(house: House) -> None:
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE handoff SET outcomes = 'rsr'"))
    house.tell(house.event("delivered", 1), house.event("bounced", 2, bounce="hard"))
    assert house.rows("SELECT kind FROM alert") == []
    delivered = house.event("delivered", 0)
    house.tell(delivered, house.event("delivered", 2))
    told = "The provider refused 2 emails, and delivered them all the same: lead {}, lead {}."
    said = [("refused_delivered", told.format(house.lead_ids[0], house.lead_ids[2]), 1)]
    assert house.rows("SELECT kind, message, times FROM alert") == said
    house.tell(delivered)  # a repeat is nothing new
    assert house.rows("SELECT kind, message, times FROM alert") == said
    assert house.rows("SELECT outcomes FROM handoff") == [("rsr",)]
