"""How many statuses may be written: a token bucket over all jobs with a reserve, and one a second for each job.

Pure: the time is a parameter, seconds that never go back.
"""

RESERVE = 0.2
"""Part of the bucket that only urgent writes may use: a first status, a last one."""

JOB_PAUSE = 1.0
"""Seconds between two writes of one job that are not urgent."""


class Budget:
    """A bucket of ``rate`` tokens, filled with as many a second."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._tokens = self._size
        self._time = now

    def wait(self, now: float, last: float, *, urgent: bool) -> float:
        """Return 0 and take a token, or the seconds after which to ask again. ``last``: the job's last write."""
        if not urgent and now - last < JOB_PAUSE:
            return JOB_PAUSE - (now - last)
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._time) * self._rate)
        self._time = now
        reserve = 0.0 if urgent else RESERVE * self._size
        if self._tokens >= 1.0 + min(reserve, self._size - 1.0):
            self._tokens -= 1.0
            return 0.0
        return (1.0 + min(reserve, self._size - 1.0) - self._tokens) / self._rate
