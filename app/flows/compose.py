"""Composing: the letters of a page, from compiled content and leads."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from app.errors import Unrenderable
from app.mail import Batch, Letter
from app.models.campaign import Sending
from app.models.template import Addressee, Compiled, Shared, has_unsubscribe_link
from app.models.template_links import track
from app.models.track import is_own
from app.signing import Signer, TrackingTokens

__all__ = ["Composer", "has_unsubscribe_link", "unsubscribe_base"]


def unsubscribe_base(base_url: str) -> str:
    """What every unsubscribe address begins with; its token follows."""
    return f"{base_url.rstrip('/')}/u/"


class Composer:
    """One content version, bound to its campaign and sender: made once, used for every page. Threads may share it."""

    def __init__(
        self,
        compiled: Compiled,
        sending: Sending,
        base_url: str,
        signer: Signer,
        tracking: TrackingTokens | None = None,
    ) -> None:
        """Where the campaign is tracked by ourselves, `tracking` signs its links; it is decided here, for all leads."""
        self.sending = sending
        self._base = unsubscribe_base(base_url)
        shared = Shared(sending.campaign_name, sending.from_name, self._base)
        opens, clicks = (is_own(choice, sending.provider) for choice in (sending.track_opens, sending.track_clicks))
        tracked = track(compiled, clicks=clicks, opens=opens) if tracking else None
        compiled = tracked.compiled if tracked else compiled
        self.content = compiled.content(sending.version)
        self._values = compiled.bind(shared)
        if tracked and tracking:
            token = tracking.signer(sending.campaign_id)
            self._values = tracked.complete(self._values, token, base_url.rstrip("/"))
        self._token = signer.message_token if sending.is_stream else signer.unsubscribe_token

    def compose(self, leads: Sequence[Addressee]) -> tuple[list[Letter], list[tuple[int, str]]]:
        """A letter a lead, in order; and (lead, reason) for those whose values broke a limit, who get none.

        What readers have asked for themselves offers no way to unsubscribe.
        """
        letters, unrenderable = [], []
        values, token, base, campaign_id = self._values, self._token, self._base, self.sending.campaign_id
        offered = not (self.sending.is_stream and self.sending.transactional)
        for lead in leads:
            url = base + token(lead.id, campaign_id) if offered else ""
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
