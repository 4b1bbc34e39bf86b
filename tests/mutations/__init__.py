"""The defences, each as the text that makes it, what takes it away, and the tests that must fail then."""

from __future__ import annotations

from typing import Final

from tests.mutations.accounts import ACCOUNTS
from tests.mutations.api import API
from tests.mutations.calls import CALLS
from tests.mutations.consequences import CONSEQUENCES
from tests.mutations.endpoints import ENDPOINTS
from tests.mutations.leases import LEASES
from tests.mutations.messages import MESSAGES
from tests.mutations.mutation import Mutation
from tests.mutations.pools_and_sums import POOLS_AND_SUMS
from tests.mutations.reputation import REPUTATION
from tests.mutations.resolving import RESOLVING
from tests.mutations.schedules import SCHEDULES
from tests.mutations.sessions import SESSIONS
from tests.mutations.shared_lines import SHARED_LINES
from tests.mutations.tracking import TRACKING
from tests.mutations.variants import VARIANTS
from tests.mutations.way_back import WAY_BACK
from tests.mutations.ways_and_pace import WAYS_AND_PACE

__all__ = ["MUTATIONS", "Mutation"]

MUTATIONS: Final = (
    *LEASES,
    *CALLS,
    *RESOLVING,
    *POOLS_AND_SUMS,
    *TRACKING,
    *WAYS_AND_PACE,
    *WAY_BACK,
    *ENDPOINTS,
    *ACCOUNTS,
    *CONSEQUENCES,
    *REPUTATION,
    *VARIANTS,
    *SCHEDULES,
    *SHARED_LINES,
    *SESSIONS,
    *API,
    *MESSAGES,
)
