"""Which batches the one-machine engine gives out, and when; apart because order, gate and token are one decision.

Batches that come back (retried, released, lease run out) go first, as soon as they are due, by due time and index;
then batches never given out, by index. Returning ones go first because a job whose handler always fails must find
that out after a few batches, not after a first pass over all of them.

Every function runs inside a transaction of its store.
"""

from dataclasses import dataclass

from batchyard.queue.port import COMPLETION, Completion, Delivery
from batchyard.queue.sqlite_store import Store

# What comes back: leases that ran out and batches whose delay is over, merged from the two partial indexes.
_RETURNING = """
SELECT id, attempts, lost + leased FROM (
  SELECT due, id, attempts, lost, 1 AS leased FROM delivery WHERE token IS NOT NULL AND due <= :now AND id >= 0
  UNION ALL
  SELECT due, id, attempts, lost, 0 FROM delivery WHERE token IS NULL AND due <= :now AND id >= 0
  ORDER BY due, id LIMIT :limit)"""

_LEASE = """
INSERT INTO delivery(id, due, token, owner, attempts, lost) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT(id) DO UPDATE
SET due = excluded.due, token = excluded.token, owner = excluded.owner, lost = excluded.lost"""

# The plus keeps the planner on the partial indexes, where the first row is the answer.
_NEXT_DUE = """
SELECT min(due) FROM (
  SELECT * FROM (SELECT due FROM delivery WHERE token IS NOT NULL AND +id >= 0 ORDER BY due LIMIT 1)
  UNION ALL
  SELECT * FROM (SELECT due FROM delivery WHERE token IS NULL AND +id >= 0 ORDER BY due LIMIT 1))"""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No batch can be had now. ``due``: unix seconds when one comes back by itself, None when none will.

    ``waits``: whether waiting makes sense; if not, the job is over or the completion token is free.
    """

    due: float | None
    waits: bool


def take(store: Store, owner: str, limit: int, lease: float, now: float) -> list[Delivery] | Nothing:
    """Lease up to ``limit`` batches to ``owner`` until ``now + lease``."""
    published, settled, fresh, leases, completion, halt = store.execute(
        "SELECT published, succeeded + failed, fresh, leases, completion, halt FROM job"
    )[0]
    if halt is not None or limit <= 0:
        return Nothing(due=None, waits=False)
    taken = store.execute(_RETURNING, {"now": now, "limit": limit})
    # Until the queue is sealed batch i waits for batch 2 * i: a malformed input fails before half of it ran.
    gate = published if completion != Completion.ABSENT.value else (published + 1) // 2
    count = max(0, min(limit - len(taken), gate - fresh))
    if not taken and not count:
        return _nothing(store, completion, settled == published, now)
    bodies = [store.execute("SELECT body FROM body WHERE id = ?", (row[0],))[0] for row in taken]
    bodies += store.execute("SELECT body FROM body WHERE id >= ? AND id < ? ORDER BY id", (fresh, fresh + count))
    taken += [(index, 0, 0) for index in range(fresh, fresh + count)]
    deliveries = [
        Delivery(index, body, attempts, lost, lease=token)
        for token, ((index, attempts, lost), (body,)) in enumerate(zip(taken, bodies, strict=True), leases + 1)
    ]
    rows = [(d.index, now + lease, d.lease, owner, d.attempts, d.lost) for d in deliveries]
    store.execute_many(_LEASE, rows)
    store.execute("UPDATE job SET fresh = ?, leases = ?", (fresh + count, leases + len(rows)))
    return deliveries


def take_completion(store: Store, owner: str, lease: float, now: float) -> Delivery | None:
    """Lease the completion token to ``owner`` until ``now + lease``, if it can be had."""
    settled, token, completion, halt = store.execute(
        "SELECT succeeded + failed = published, leases + 1, completion, halt FROM job"
    )[0]
    if not settled or halt is not None or completion != Completion.WAITING.value or _completion_due(store) > now:
        return None
    attempts, lost = store.execute(
        "UPDATE delivery SET due = ?, lost = lost + (token IS NOT NULL), token = ?, owner = ? WHERE id = ?"
        " RETURNING attempts, lost",
        (now + lease, token, owner, COMPLETION),
    )[0]
    store.execute("UPDATE job SET leases = ?", (token,))
    return Delivery(COMPLETION, b"", attempts, lost, lease=token)


def _nothing(store: Store, completion: str, all_settled: bool, now: float) -> Nothing:
    if completion == Completion.WAITING.value and all_settled:
        due = _completion_due(store)
        return Nothing(due, waits=due > now)
    due = store.execute(_NEXT_DUE)[0][0]
    return Nothing(due, waits=completion in (Completion.ABSENT.value, Completion.WAITING.value))


def _completion_due(store: Store) -> float:
    due: float = store.execute("SELECT due FROM delivery WHERE id = ?", (COMPLETION,))[0][0]
    return due
