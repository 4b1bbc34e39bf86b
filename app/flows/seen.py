"""Which leads a file has already met: bits by lead id, so that millions of rows cost a megabyte."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

BLOCK = 16  # ids that share their bits above the 16th share 8 KiB


class Seen:
    """A set of lead ids in at most one bit for every id that was ever given out."""

    def __init__(self) -> None:
        self._blocks: defaultdict[int, bytearray] = defaultdict(lambda: bytearray(1 << (BLOCK - 3)))

    def __contains__(self, lead_id: int) -> bool:
        block = self._blocks.get(lead_id >> BLOCK)
        return block is not None and bool(block[(lead_id & 0xFFFF) >> 3] & 1 << (lead_id & 7))

    def add(self, lead_ids: Iterable[int]) -> None:
        blocks = self._blocks
        for lead_id in lead_ids:
            blocks[lead_id >> BLOCK][(lead_id & 0xFFFF) >> 3] |= 1 << (lead_id & 7)

    def discard(self, lead_ids: Iterable[int]) -> None:
        for lead_id in lead_ids:
            if lead_id in self:
                self._blocks[lead_id >> BLOCK][(lead_id & 0xFFFF) >> 3] &= ~(1 << (lead_id & 7))


class Tally:
    """Says of each batch what its leads count as, whatever the batches a file is cut into: a lead counts once.

    The first row of a lead counts as added, updated or unchanged; every other row of it in the file as repeated. Where
    a later row changes what an earlier one left alone, the lead turns from unchanged to updated.
    """

    def __init__(self) -> None:
        self.met = Seen()
        self.same = Seen()

    def count(self, changed: Sequence[int], same: Sequence[int]) -> tuple[int, int, int]:
        """What to add to (updated, unchanged, repeated); remembers nothing, for the batch may be rolled back."""
        changed_again = sum(lead_id in self.met for lead_id in changed)
        same_again = sum(lead_id in self.met for lead_id in same)
        turned = sum(lead_id in self.same for lead_id in changed)
        updated = len(changed) - changed_again + turned
        unchanged = len(same) - same_again - turned
        return updated, unchanged, changed_again + same_again

    def remember(self, added: Sequence[int], changed: Sequence[int], same: Sequence[int]) -> None:
        """The batch was committed."""
        self.same.add(lead_id for lead_id in same if lead_id not in self.met)
        self.same.discard(changed)
        for lead_ids in (added, changed, same):
            self.met.add(lead_ids)
