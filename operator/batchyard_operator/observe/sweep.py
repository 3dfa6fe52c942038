"""Holds the caches against the API server now and then: what vanished unseen, and whether the watches still tell.

A watch that had to start anew lists what is there and says nothing of what is gone. And one that hangs says nothing
at all. So the metadata of everything is listed: what is kept and not listed is dropped; what is listed newer than
kept, again at the next sweep and unchanged since, is what the watches owe us.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from batchyard.api.errors import BatchyardError

from batchyard_operator.observe.caches import Caches, version_of

List = Callable[[str], AsyncIterator[dict[str, Any]]]
"""Yields the metadata of all objects of a kind: jobs, children, pods."""

KINDS = ("jobs", "children", "pods")


class Sweep:
    """Sweeps of one operator."""

    def __init__(self, caches: Caches, listed: List, clock: Callable[[], float] = time.monotonic) -> None:
        self._caches = caches
        self._list = listed
        self._clock = clock
        self._owed: dict[str, tuple[int, float]] = {}  # by uid: the version kept (-1 for none), and since when

    async def run(self, kinds: Sequence[str] = KINDS) -> set[str]:
        """Sweep once; return the uids that are listed and not kept at all.

        Whoever can't be asked tells the watches nothing either: what they owed until then is forgotten.
        """
        kept_before = {uid: (kind, key, name, version) for kind, uid, key, name, version in self._caches.everything()}
        listed: dict[str, int] = {}
        try:
            for kind in kinds:
                async for metadata in self._list(kind):
                    listed[metadata["uid"]] = version_of(metadata)
        except BatchyardError:
            self._owed.clear()
            raise
        kept_now = {uid: version for _, uid, _, _, version in self._caches.everything()}
        for uid, (kind, key, name, version) in kept_before.items():
            if kind in kinds and uid not in listed and kept_now.get(uid) == version:
                self._caches.drop(kind, key, name, uid)
        self._owe({uid: kept_now.get(uid, -1) for uid, version in listed.items() if version > kept_now.get(uid, -1)})
        return {uid for uid in listed if uid not in kept_now and not self._caches.is_gone(uid)}

    def _owe(self, behind: Mapping[str, int]) -> None:
        now = self._clock()
        before, self._owed = self._owed, {}
        for uid, version in behind.items():
            was = before.get(uid)
            self._owed[uid] = was if was is not None and was[0] == version else (version, now)

    def overdue(self) -> float:
        """Return the seconds for which the watches have owed us one and the same object."""
        return max((self._clock() - since for _, since in self._owed.values()), default=0.0)
