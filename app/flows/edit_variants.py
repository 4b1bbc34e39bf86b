"""Writing a campaign's variants: each says only what differs, and is compiled with what it has from the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.errors import Fault, Invalid
from app.models import track, variant
from app.models.campaign import Content
from app.models.field import Fields
from app.models.template import Compiled, compile_content, has_unsubscribe_link
from app.models.template_links import number_together
from app.models.variant import LETTERS, VariantTest

TRACKED: Final = {"clicked": ("track_clicks", "Clicks"), "opened": ("track_opens", "Opens")}


class Parts(NamedTuple):
    """What is written of a content. Of a variant, what is empty is as the first one's; a text belongs to its HTML."""

    subject: str = ""
    html: str = ""
    text: str = ""

    def over(self, first: Parts) -> Parts:
        """What leads get: this, and the rest from the first."""
        mail = (self.html, self.text) if self.html.strip() else (first.html, first.text)
        return Parts(self.subject if self.subject.strip() else first.subject, *mail)


@dataclass(frozen=True, slots=True)
class TestDraft:
    """How variants are compared. `share` in percent of the audience; 100: equally to all, and nobody waits."""

    __test__ = False  # pytest takes the name for its own

    share: int = 20
    wait: timedelta = timedelta(hours=4)
    goal: str = "clicked"


USUAL_TEST: Final = TestDraft()


def check_test(test: TestDraft, tracked: dict[str, str]) -> list[Fault]:
    """What is wrong with a test; `tracked`: how the campaign sees opens and clicks, by the names of its fields."""
    faults = []
    if not 1 <= test.share <= variant.EVERYBODY:
        faults.append(Fault("test_share", "The test takes from 1 to 100 percent of the audience."))
    if not timedelta(0) <= test.wait <= variant.LONGEST_WAIT:
        faults.append(Fault("test_wait", f"The wait is {variant.LONGEST_WAIT.days} days at most."))
    if test.goal not in variant.GOALS:
        faults.append(Fault("test_goal", f"Choose one of these: {', '.join(variant.GOALS)}."))
    elif tracked.get(TRACKED[test.goal][0]) == "off":
        what = TRACKED[test.goal][1]
        faults.append(Fault("test_goal", f"{what} of this campaign are not tracked, so nobody could win by them."))
    return faults


def compile_variants(
    first: Parts, compiled: Compiled | None, others: Sequence[Parts], fields: Fields
) -> list[Compiled | None]:
    """The variants' contents from the second on, in order; None while the first has none. Raises Invalid."""
    if len(others) >= variant.MOST:
        raise Invalid.one("variants", f"A campaign has {variant.MOST} variants at most, the first one included.")
    faults: list[Fault] = []
    found: list[Compiled | None] = []
    seen = {first: LETTERS[0]}
    for letter, each in zip(LETTERS[1:], others, strict=False):
        whole = each.over(first)
        if each.text.strip() and not each.html.strip():
            faults.append(Fault(f"text_{letter.lower()}", "A text of its own needs an HTML of its own."))
        elif whole in seen:
            same = f"Variant {letter} says the same as variant {seen[whole]}: write it otherwise, or leave it out."
            faults.append(Fault(f"subject_{letter.lower()}", same))
        elif compiled is not None:
            try:
                found.append(compile_content(*whole, fields))
            except Invalid as error:
                faults += (_placed(fault, each, letter) for fault in error.faults)
        else:
            found.append(None)
        seen.setdefault(whole, letter)
    if faults:
        raise Invalid(faults)
    return found


def _placed(fault: Fault, own: Parts, letter: str) -> Fault:
    """At the variant's own field: what it has from the first was right there."""
    here = {"subject": own.subject, "html": own.html, "text": own.html}.get(fault.pointer, "")
    name = fault.pointer if here.strip() else "html" if own.html.strip() else "subject"
    return Fault(f"{name}_{letter.lower()}", fault.message)


def save(
    session: Session,
    campaign_id: int,
    first: Compiled | None,
    others: Sequence[tuple[Parts, Compiled | None]],
    test: TestDraft,
) -> None:
    """Keep a draft's variants and its test, in the place of those it had, and number the links of all contents.

    The first content's row is there; only its links are numbered anew.
    """
    rows = {row.variant: row for row in session.scalars(_contents(campaign_id))}
    compiled = [first, *(each for _, each in others)]
    for number, (parts, _) in enumerate(others, 1):
        row = rows.pop(number, None)
        if row is None:
            session.add(row := Content(campaign_id=campaign_id, variant=number))
        elif tuple(parts) != (row.subject, row.html, row.text):
            row.version += 1
        row.subject, row.html, row.text = parts
        rows[number] = row
    for number in [number for number in rows if number > len(others)]:
        session.delete(rows.pop(number))
    _number_links(session, campaign_id, rows, compiled)
    _save_test(session, campaign_id, test if others else None)


def _number_links(
    session: Session, campaign_id: int, rows: dict[int, Content], compiled: Sequence[Compiled | None]
) -> None:
    """What clicks are counted by, and led to; whether they are tracked is decided when they are sent."""
    whole = [each for each in compiled if each is not None]
    links, standing = number_together([each.links for each in whole]) if whole else ([], [])
    numbered = iter(links)
    for number, each in enumerate(compiled):
        rows[number].compiled = replace(each, links=next(numbered)).to_json() if each is not None else None
    session.flush()
    track.save_links(session.connection(), campaign_id, links[0].urls if links else (), standing)


def _save_test(session: Session, campaign_id: int, test: TestDraft | None) -> None:
    found = session.get(VariantTest, campaign_id)
    if test is None:
        if found is not None:
            session.delete(found)
    elif found is None:
        session.add(VariantTest(campaign_id=campaign_id, share=test.share, wait=test.wait, goal=test.goal))
    else:
        found.share, found.wait, found.goal = test.share, test.wait, test.goal
    session.flush()


def read(session: Session, campaign_id: int) -> tuple[list[Parts], TestDraft]:
    """A campaign's variants from the second on, and its test, as they were written."""
    contents = [Parts(row.subject, row.html, row.text) for row in session.scalars(_contents(campaign_id))]
    found = session.get(VariantTest, campaign_id)
    return contents[1:], TestDraft(found.share, found.wait, found.goal) if found else USUAL_TEST


def find_faults(session: Session, campaign_id: int) -> list[Fault]:
    """What stands in the way of a launch, of the variants from the second on."""
    faults = []
    for row in session.scalars(_contents(campaign_id).where(Content.variant > 0)):
        letter = LETTERS[row.variant]
        if row.compiled is None:
            faults.append(Fault(f"html_{letter.lower()}", f"Variant {letter} has no content yet: write it, then save."))
        elif not has_unsubscribe_link(Compiled.from_json(row.compiled)):
            said = f"Variant {letter} has no unsubscribe link: put {{{{ unsubscribe_url }}}} into a link."
            faults.append(Fault(f"html_{letter.lower()}", said))
    return faults


def find_shortage(session: Session, campaign_id: int, audience: int) -> list[Fault]:
    """Whether the part of an audience that is tested is too small to be parted."""
    test = variant.find(session.connection(), campaign_id)
    if test is None or audience * test.share // 100 >= test.variants:
        return []
    said = f"{test.share} percent of {audience:,} leads are too few to try {test.variants} variants: test more of them."
    return [Fault("test_share", said)]


def _contents(campaign_id: int) -> Select[Content]:
    return select(Content).where(Content.campaign_id == campaign_id).order_by(Content.variant)
