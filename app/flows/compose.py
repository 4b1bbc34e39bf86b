"""Composing: the letters of a page, from compiled content and leads."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from app.errors import Unrenderable
from app.mail import Batch, Letter
from app.models.campaign import Sending
from app.models.template import Addressee, Compiled, Shared, has_unsubscribe_link
from app.signing import Signer

__all__ = ["Composer", "has_unsubscribe_link", "unsubscribe_base"]


def unsubscribe_base(base_url: str) -> str:
    """What every unsubscribe address begins with; its token follows."""
    return f"{base_url.rstrip('/')}/u/"


class Composer:
    """One content version, bound to its campaign and sender: made once, used for every page. Threads may share it."""

    def __init__(self, compiled: Compiled, sending: Sending, base_url: str, signer: Signer) -> None:
        self.sending = sending
        self.content = compiled.content(sending.version)
        self._base = unsubscribe_base(base_url)
        self._values = compiled.bind(Shared(sending.campaign_name, sending.from_name, self._base))
        self._token = signer.unsubscribe_token

    def compose(self, leads: Sequence[Addressee]) -> tuple[list[Letter], list[tuple[int, str]]]:
        """A letter a lead, in order; and (lead, reason) for those whose values broke a limit, who get none."""
        letters, unrenderable = [], []
        values, token, base, campaign_id = self._values, self._token, self._base, self.sending.campaign_id
        for lead in leads:
            url = base + token(lead.id, campaign_id)
            try:
                letters.append(Letter(lead.id, lead.email, values(lead, url), url))
            except Unrenderable as error:
                unrenderable.append((lead.id, str(error)))
        return letters, unrenderable

    def batch(self, handoff_id: int, key: UUID, run: int, letters: Sequence[Letter]) -> Batch:
        """One provider call of these letters."""
        sending = self.sending
        return Batch(
            handoff_id=handoff_id,
            key=key,
            campaign_id=sending.campaign_id,
            run=run,
            from_name=sending.from_name,
            from_address=sending.from_address,
            reply_to=sending.reply_to,
            content=self.content,
            letters=letters,
        )
