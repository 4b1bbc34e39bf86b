"""What follows from an event for its lead's address, in the transaction that records it.

All of it is reckoned from what is stored, as if everything had come in the order in which it happened: any order of the
same events leaves the same addresses suppressed, for the same reasons.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from app.mail import Bounce, Kind
from app.message_ids import is_message, to_public
from app.models import addressee, alert, bounce, outbox, webhook
from app.models import suppression as suppressions
from app.models.bounce import Delivery, Soft
from app.models.handoff import LETTERS
from app.models.suppression import Entry
from app.models.webhook import Hit

# What an event entails beside a suppression.
COUNTED: Final = "counted"  # several of them suppress
HEALS: Final = "heals"  # the address works: earlier soft bounces count no more
TOLD: Final = "told"  # the receiver dislikes the email, not the address: the campaign's owner is told
# By kind and bounce: a reason of suppressions, or one of the words above. What is not here entails nothing.
CONSEQUENCES: Final[Mapping[tuple[Kind | None, Bounce | None], str]] = {
    (Kind.BOUNCED, Bounce.HARD): "bounced",
    (Kind.BOUNCED, Bounce.SOFT): COUNTED,
    (Kind.BOUNCED, Bounce.BLOCKED): TOLD,
    (Kind.COMPLAINED, None): "complained",
    (Kind.UNSUBSCRIBED, None): "unsubscribed",
    (Kind.DELIVERED, None): HEALS,
}
REFUSED: Final = LETTERS[Kind.REFUSED]
OF_THE_ADDRESS: Final = ("bounced", COUNTED)  # and not of the person, whose wishes hold wherever they are mailed
SOFT: Final = "soft_bounced"
SOFT_SOURCE: Final = f"{bounce.EMAILS} soft bounces within {bounce.DAYS} days"
HEALED: Final = "a delivery between the bounces became known"

FEW: Final = 10  # emails that were turned away mean nothing yet
SHARE: Final = 0.01  # of what was sent: then the owner is told
MANY: Final = 1000  # are told of, whatever their share


def draw(conn: Connection, hits: Sequence[Hit]) -> None:
    """Draw the consequences of new events, all of one pool, which are in the record already.

    May lock leads, suppressions and alerts until the commit: draw them late.
    """
    by_word: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        word = CONSEQUENCES.get((hit.told.meaning.kind, hit.told.meaning.bounce))
        if word is not None:
            by_word[word].append(hit)
    if not by_word:
        return
    organisation_id = hits[0].match.sending.organisation_id
    _leave_mended(conn, organisation_id, by_word)
    counted, heals, told = by_word.pop(COUNTED, []), by_word.pop(HEALS, []), by_word.pop(TOLD, [])
    if counted or heals:
        bounce.take_turn(conn, organisation_id, alone=bool(counted))
    _suppress(conn, organisation_id, by_word)
    _judge(conn, organisation_id, counted, heals)
    _tell(conn, told)
    _tell_refused(conn, [hit for hit in heals if hit.match.letter == REFUSED])


def _leave_mended(conn: Connection, organisation_id: int, by_word: dict[str, list[Hit]]) -> None:
    """What was sent to an address that was mended since came back from the old one, and says nothing of the new."""
    lead_ids = {hit.told.lead_id for word in OF_THE_ADDRESS for hit in by_word.get(word, ())}
    mended = webhook.find_mended(conn, organisation_id, lead_ids) if lead_ids else {}
    for word in OF_THE_ADDRESS if mended else ():
        kept = [hit for hit in by_word.pop(word, []) if hit.match.handed >= mended.get(hit.told.lead_id, 0.0)]
        if kept:
            by_word[word] = kept


def _suppress(conn: Connection, organisation_id: int, by_reason: Mapping[str, Sequence[Hit]]) -> None:
    if not by_reason:
        return
    asked = {(hit.match.sending.campaign_id, hit.told.lead_id) for hits in by_reason.values() for hit in hits}
    addresses = addressee.find_addresses(conn, organisation_id, asked)
    entries = [
        Entry(addresses[hit.told.lead_id], reason, f"campaign {hit.match.sending.campaign_id}", at=time_of(hit))
        for reason, hits in by_reason.items()
        for hit in hits
        if hit.told.lead_id in addresses  # not erased since
    ]
    suppressions.suppress_each(conn, organisation_id, entries)


def _judge(conn: Connection, organisation_id: int, counted: Sequence[Hit], heals: Sequence[Hit]) -> None:
    """Give up the addresses that soft bounces speak against now, and take back where they do not any more."""
    stand_ins = addressee.find_stand_ins(conn, organisation_id, (hit.told.lead_id for hit in (*counted, *heals)))
    bounced = [
        Soft(judged, hit.told.handoff_id, hit.match.sending.campaign_id, time_of(hit))
        for hit in counted
        if (judged := stand_ins.of(hit.told.lead_id)) is not None
    ]
    deliveries = [
        Delivery(judged, time_of(hit)) for hit in heals if (judged := stand_ins.of(hit.told.lead_id)) is not None
    ]
    touched = bounce.note_soft(conn, organisation_id, bounced) if bounced else set()
    healed = bounce.note_deliveries(conn, deliveries) if deliveries else set()
    if not touched and not healed:
        return
    given_up = bounce.judge(conn, touched | healed)
    leads = [each for each in given_up | healed if each > 0]
    addresses = {**stand_ins.addresses, **webhook.find_addresses(conn, organisation_id, leads)}
    entries = [Entry(addresses[lead_id], SOFT, SOFT_SOURCE) for lead_id in given_up & addresses.keys()]
    suppressions.suppress_each(conn, organisation_id, entries)
    good = [addresses[lead_id] for lead_id in (healed - given_up) & addresses.keys()]
    if good and (removed := suppressions.remove(conn, organisation_id, good, reason=SOFT, note=HEALED)):
        suppressions.reopen_leads(conn, organisation_id, removed, [suppressions.STATUS[SOFT]])


def _tell(conn: Connection, told: Sequence[Hit]) -> None:
    """One alert a campaign, once there are more than a few; when it was dismissed, again when they have doubled."""
    if not told:
        return
    reasons = {hit.match.sending.campaign_id: hit.told.reason for hit in told}
    for each in bounce.count_blocked(conn, Counter(hit.match.sending.campaign_id for hit in told)):
        if each.total < max(FEW, 2 * each.told):
            continue
        sent = outbox.progress(conn, each.campaign_id).sent
        if each.total < min(MANY, SHARE * sent):
            continue
        message = f"{each.total:,} of {sent:,} emails were turned away for what they say or where they come from."
        if reason := reasons[each.campaign_id]:
            message += f" A receiver says: {webhook.clean(reason)[:200]}"
        alert.raise_alert(conn, alert.Kind.BLOCKED, each.campaign_id, message)
        bounce.note_told(conn, each.campaign_id)


def _tell_refused(conn: Connection, delivered: Sequence[Hit]) -> None:
    """The provider had said no, or that it dropped them, and delivered them all the same: one alert a campaign."""
    by_campaign: defaultdict[int, list[int]] = defaultdict(list)
    for hit in delivered:
        by_campaign[hit.match.sending.campaign_id].append(hit.told.lead_id)
    for campaign_id, ids in sorted(by_campaign.items()):
        some = ", ".join(to_public(each) if is_message(each) else f"lead {each}" for each in ids[:5])
        said = f"The provider refused {len(ids):,} emails, and delivered them all the same: {some}"
        alert.raise_alert(conn, alert.Kind.REFUSED_DELIVERED, campaign_id, f"{said}{' …' if len(ids) > 5 else ''}.")


def time_of(hit: Hit) -> datetime:
    """When it happened; a provider's clock that runs ahead does not move us."""
    at, received_at = hit.told.at, hit.post.received_at
    return at if at <= received_at else received_at
