"""What the flows write for a campaign, an hour of it at a time and with times of its own: the shapes of a simulation.

Row for row what launch, claim, hand-over and settle leave behind (app/models/outbox.sql, handoff.sql, event.sql), and
their updates in the same number and order, since what they log and leave dead is a part of what is measured.
"""

from __future__ import annotations

from typing import LiteralString

# `coming` is the outer world's memory: what providers will tell, by the hour in which they do. Nothing of it is logged.
TABLES: tuple[LiteralString, ...] = (
    # The flows look up a page's calls and leads by their indexes; an hour of pages at once would be joined by hashes.
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "CREATE TEMP TABLE page (id bigint NOT NULL) ON COMMIT DELETE ROWS",
    """
CREATE TABLE coming (
    hour integer, time timestamptz, range_id bigint, lead_id bigint, campaign_id integer, domain_id integer,
    kind event_kind, machine boolean
) PARTITION BY LIST (hour)
""",
    """
CREATE UNLOGGED TABLE told (
    batch integer, time timestamptz, range_id bigint, lead_id bigint, campaign_id integer, domain_id integer,
    kind event_kind, machine boolean, key uuid, place integer
)
""",
    "CREATE INDEX told_batch ON told (batch)",
)

# Campaigns that begin within one hour, each to every stride-th lead from a place of its own, in order of ids.
LAUNCH = """
WITH started AS (
    INSERT INTO campaign (
        id, organisation_id, owner_id, sender_id, name, state, run, audience, launched_at, finished_at
    )
    OVERRIDING SYSTEM VALUE
    SELECT %(first)s + n, %(organisation_id)s, %(user_id)s, %(sender_id)s, 'Campaign ' || n, 'finished', 1, %(size)s,
           at, at + interval '1 hour'
      FROM generate_series(0, %(campaigns)s - 1) AS n
     CROSS JOIN LATERAL (
               SELECT %(at)s::timestamptz + n * interval '55 minutes' / %(campaigns)s AS at
           ) AS begun
    RETURNING id, launched_at
), linked AS (
    INSERT INTO link (campaign_id, position, url)
    SELECT id, position, 'https://news.example.com/' || position
      FROM started
     CROSS JOIN generate_series(1, 5) AS position
)
INSERT INTO outbox (campaign_id, run, due_at, size, first_lead, last_lead, lead_ids)
SELECT id, 1, launched_at + slice * interval '1 second' / 10, cardinality(ids), ids[1], ids[cardinality(ids)], ids
  FROM started
 CROSS JOIN generate_series(0, (%(size)s - 1) / 1000) AS slice
 CROSS JOIN LATERAL (
           SELECT ARRAY(
                      SELECT 1 + id::bigint * 7919 %% %(stride)s + i::bigint * %(stride)s
                        FROM generate_series(slice * 1000, least(slice * 1000 + 999, %(size)s - 1)) AS i
                  ) AS ids
       ) AS cut
"""
CLAIM = """
WITH claimed AS (
    UPDATE outbox
       SET state = 'leased', owner = gen_random_uuid(), fence = fence + 1, lease_until = due_at + interval '1 minute'
     WHERE campaign_id >= %(first)s
       AND state = 'ready'
    RETURNING id
)
INSERT INTO page SELECT id FROM claimed
"""
HAND_OVER = """
UPDATE outbox SET position = size, lease_until = lease_until + interval '1 second' FROM page WHERE outbox.id = page.id
"""
WRITE = """
INSERT INTO handoff (range_id, campaign_id, run, pool_id, variant, key, lead_ids, handed_at)
SELECT outbox.id, campaign_id, run, %(pool_id)s, 0, gen_random_uuid(), lead_ids[place : place + 49], due_at
  FROM page
  JOIN outbox USING (id)
 CROSS JOIN generate_series(1, size, 50) AS place
 ORDER BY outbox.id, place
"""
ANSWER = """
UPDATE handoff
   SET state = 'settled', outcomes = drawn.letters, refs = drawn.refs, settled_at = handed_at + interval '1 second'
  FROM (
           SELECT handoff.id, decode('75', 'hex') || string_agg(uuid_send(gen_random_uuid()), '') AS refs,
                  string_agg(CASE WHEN dice < %(deferred)s THEN 'd' WHEN dice > 0.995 THEN 'r' ELSE 's' END, '')
                      AS letters
             FROM page
             JOIN handoff
               ON range_id = page.id
            CROSS JOIN LATERAL (SELECT random() AS dice FROM unnest(handoff.lead_ids)) AS each
            GROUP BY handoff.id
       ) AS drawn
 WHERE handoff.id = drawn.id
"""
SETTLE = """
UPDATE outbox
   SET state = 'done', owner = NULL, lease_until = NULL, sent = told.sent, refused = told.refused, moved = told.moved
  FROM (
           SELECT range_id, sum(length(translate(outcomes, 'rd', ''))) AS sent,
                  sum(length(translate(outcomes, 'sd', ''))) AS refused,
                  sum(length(translate(outcomes, 'sr', ''))) AS moved
             FROM page
             JOIN handoff
               ON range_id = page.id
            GROUP BY range_id
       ) AS told
 WHERE outbox.id = told.range_id
"""
PUT_OFF = """
INSERT INTO outbox (
    campaign_id, parent_id, run, attempts, due_at, size, first_lead, last_lead, lead_ids, deferred_since
)
SELECT outbox.campaign_id, outbox.id, outbox.run, attempts + 1, due_at + (1 + 4 * attempts) * interval '1 minute',
       count(*), min(lead_id), max(lead_id), array_agg(lead_id ORDER BY lead_id), coalesce(deferred_since, due_at)
  FROM page
  JOIN outbox USING (id)
  JOIN handoff
    ON range_id = outbox.id
 CROSS JOIN LATERAL unnest(handoff.lead_ids, string_to_array(outcomes, NULL)) AS each (lead_id, letter)
 WHERE letter = 'd'
 GROUP BY outbox.id
"""
ANSWERED = """
SELECT settled_at, each.lead_id, coalesce(domain_id, 0) AS domain_id, handoff.campaign_id, letter, range_id
  FROM page
  JOIN handoff
    ON range_id = page.id
 CROSS JOIN LATERAL unnest(handoff.lead_ids, string_to_array(outcomes, NULL)) AS each (lead_id, letter)
  LEFT JOIN lead
    ON lead.id = each.lead_id
"""
COLUMNS = (
    "event (time, lead_id, domain_id, kind, weight, detail,"
    " organisation_id, user_id, campaign_id, pool_id, variant, run, link_id, machine, message)"
)
OUTCOMES = f"""
COPY (
    SELECT settled_at, lead_id, domain_id,
           CASE letter WHEN 's' THEN 'sent' WHEN 'r' THEN 'refused' ELSE 'deferred' END, 1,
           CASE letter WHEN 'r' THEN '{{{{"reason": "550 5.1.1 No such mailbox"}}}}'
                       WHEN 'd' THEN '{{{{"reason": "451 4.7.1 Try again later"}}}}' END,
           {{organisation_id}}, {{user_id}}, campaign_id, {{pool_id}}, 0, 1, 0, false, false
      FROM ({ANSWERED}) AS answered
     ORDER BY settled_at, range_id, lead_id
) TO STDOUT
"""
# What providers tell of an email that was sent: how often on the average, and within how long; soon rather than late.
HAPPENS = f"""
INSERT INTO coming
SELECT floor(extract(epoch FROM moment.time - %(began)s) / 3600), moment.time, range_id, lead_id, campaign_id,
       domain_id, happening.kind::event_kind, happening.machine
  FROM ({ANSWERED}) AS answered
  JOIN (VALUES ('delivered', 0.96, interval '90 seconds', false), ('deferred', 0.3, '30 minutes', false),
               ('bounced', 0.03, '2 minutes', false), ('complained', 0.001, '1 day', false),
               ('opened', 1.0, '20 minutes', true), ('opened', 1.0, '12 hours', true), ('opened', 0.4, '2 days', true),
               ('opened', 1.0, '1 day', false), ('opened', 0.9, '2 days', false), ('clicked', 0.5, '1 day', false))
       AS happening (kind, share, after, machine)
    ON random() < share
 CROSS JOIN LATERAL (SELECT settled_at + after * power(random(), 3) AS time WHERE share > 0) AS moment
 WHERE letter = 's'
   AND moment.time < %(until)s
"""
TELL = """
INSERT INTO told
SELECT (row_number() OVER (ORDER BY time) - 1) / %(batch)s, time, range_id, lead_id, campaign_id, domain_id, kind,
       machine,
       CAST(overlay(CAST(gen_random_uuid() AS text) PLACING lpad(to_hex(
           floor(extract(epoch FROM time) / 60)::bigint %% 1440), 4, '0') FROM 1) AS uuid),
       lead_id %% 1000
  FROM coming
 WHERE hour = %(hour)s
"""
KEYS = """
COPY (
    SELECT (time AT TIME ZONE 'UTC')::date, key FROM told WHERE batch = {batch} ORDER BY 1, 2
) TO STDOUT
"""
EVENTS = """
COPY (
    SELECT time, lead_id, domain_id, kind, 1,
           CASE WHEN kind = 'bounced' THEN '{{"reason": "550 5.1.1 user unknown"}}' END,
           {organisation_id}, {user_id}, campaign_id, {pool_id}, 0, 1,
           CASE WHEN kind = 'clicked' THEN campaign_id * 5 + lead_id %% 5 ELSE 0 END, machine, false
      FROM told
     WHERE batch = {batch}
     ORDER BY time
) TO STDOUT
""".replace("%%", "%")
BOUNCED = """
INSERT INTO suppression (organisation_id, email, reason, source)
SELECT DISTINCT lead.organisation_id, lead.email, 'bounced', 'webhook'
  FROM told
  JOIN lead
    ON lead.id = told.lead_id
 WHERE batch = %(batch)s
   AND kind = 'bounced'
    ON CONFLICT DO NOTHING
"""
TOUCH = """
INSERT INTO first_touch AS known (range_id, campaign_id, opened, opened_by_people, clicked, clicked_by_people)
SELECT range_id, min(campaign_id), coalesce(bit_or(mask) FILTER (WHERE kind = 'opened'), none),
       coalesce(bit_or(mask) FILTER (WHERE kind = 'opened' AND NOT machine), none),
       coalesce(bit_or(mask) FILTER (WHERE kind = 'clicked'), none),
       coalesce(bit_or(mask) FILTER (WHERE kind = 'clicked' AND NOT machine), none)
  FROM told
  JOIN LATERAL (
           SELECT size, repeat('0', (size + 3) / 4 * 4)::bit varying AS none FROM outbox WHERE id = range_id
       ) AS range
    ON true
 CROSS JOIN LATERAL (SELECT set_bit(none, place %% size, 1)::bit varying AS mask) AS own
 WHERE batch = %(batch)s
   AND kind IN ('opened', 'clicked')
 GROUP BY range_id, none
 ORDER BY range_id
    ON CONFLICT (range_id) DO UPDATE
   SET opened = known.opened | excluded.opened,
       opened_by_people = known.opened_by_people | excluded.opened_by_people,
       clicked = known.clicked | excluded.clicked,
       clicked_by_people = known.clicked_by_people | excluded.clicked_by_people
 WHERE (known.opened, known.opened_by_people, known.clicked, known.clicked_by_people)
       IS DISTINCT FROM (
           known.opened | excluded.opened, known.opened_by_people | excluded.opened_by_people,
           known.clicked | excluded.clicked, known.clicked_by_people | excluded.clicked_by_people
       )
"""
# As the clock does it (app/models/event.sql, summarise_sent), for the chunks of the last simulated day.
SUMMARISE = """
SELECT coalesce(sum(brin_summarize_range(pg_class.oid, full_group * 64)), 0)
  FROM show_chunks('event', newer_than => %s) AS chunk
  JOIN pg_index
    ON pg_index.indrelid = chunk
  JOIN pg_class
    ON pg_class.oid = pg_index.indexrelid
 CROSS JOIN LATERAL (SELECT pg_relation_size(chunk) / (64 * current_setting('block_size')::integer) AS groups) AS has
 CROSS JOIN LATERAL generate_series(0, has.groups - 1) AS full_group
 WHERE pg_class.relname LIKE '%%event\\_sent'
"""
# As autovacuum does it in the minutes after: in accelerated time it would come hours too late.
SUMMARISE_TIMES = """
SELECT sum(brin_summarize_new_values(pg_class.oid))
  FROM show_chunks('event', newer_than => %s) AS chunk
  JOIN pg_index
    ON pg_index.indrelid = chunk
  JOIN pg_class
    ON pg_class.oid = pg_index.indexrelid
 WHERE pg_class.relname LIKE '%%event\\_time'
"""
KEEP = """
INSERT INTO webhook (pool_id, delivery, body, received_at) VALUES (%(pool_id)s, '', %(body)s, %(at)s) RETURNING id
"""
READ = "UPDATE webhook SET read_at = received_at + interval '1 second', unmatched = 0 WHERE id = ANY(%(ids)s)"
FORGET = "DELETE FROM webhook WHERE read_at < %(until)s"
