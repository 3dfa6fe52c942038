"""The output before a job's first result: checked, claimed, cleared. Apart: one machine and a pod do it alike.

Whoever publishes the batches calls it before the first one: no result of this run can be there yet.
"""

from collections.abc import Callable

from batchyard.output.owner import Owner, check_owner, claim
from batchyard.output.parts import MANIFEST, Parts


def check_output(parts: Parts, owner: Owner, known_run: str | None, *, resumes: bool = False) -> None:
    """Refuse an output that cannot be written or is not this job's; no result is touched.

    ``known_run``: the id of the job's run so far, None when it has none. ``resumes``: results without an owner are
    that run's. Raises OutputInvalid; OutputUnavailable when the store does not answer now.
    """
    parts.check_writable()
    check_owner(parts, owner, known_run, resumes=resumes)


def begin_output(
    parts: Parts,
    owner: Owner,
    known_run: str | None,
    *,
    fresh: bool,
    resumes: bool = False,
    before_clearing: Callable[[], object] | None = None,
) -> None:
    """Make the output this job's own and ready for its results; repeating it is harmless.

    ``fresh``: the run is new, so that results of an earlier one go. Otherwise they stay, but not the manifest of an
    end that was not the last: while that file stands it vouches for the rest. ``before_clearing`` is called once the
    output is this job's and before anything in it is removed. Raises as ``check_output`` does.
    """
    check_output(parts, owner, known_run, resumes=resumes)
    claim(parts, owner, known_run, resumes=resumes)
    if before_clearing is not None:
        before_clearing()
    parts.prepare(fresh=fresh)
    parts.delete(MANIFEST)
