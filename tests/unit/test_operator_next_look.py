"""When a job is looked at again: as its decision says, but more seldom where nothing happens."""

import pytest
from batchyard_operator.cycle import _next
from batchyard_operator.decide.rules import LATER
from operator_builders import batch_job, job_seen, queue, seen


@pytest.mark.parametrize(
    ("again", "later", "unchanged", "spec", "expected"),
    [
        pytest.param(None, 0.0, 0, {}, None, id="events alone"),
        pytest.param(1.0, 0.0, 50, {}, 1.0, id="something moves"),
        pytest.param(3600.0, 0.0, 50, {}, 3600.0, id="a time of its own"),
        pytest.param(4.2, 0.0, 50, {}, 4.2, id="a time of its own, soon"),
        pytest.param(None, 0.4, 0, {}, 0.4, id="a status that may be written in a moment"),
        pytest.param(60.0, 0.4, 0, {}, 0.4, id="that comes first"),
        pytest.param(LATER, 0.0, 0, {}, LATER, id="nothing moves"),
        pytest.param(LATER, 0.0, 4, {}, 2 * LATER, id="nothing moved for some looks"),
        pytest.param(LATER, 0.0, 99, {}, 4 * LATER, id="nothing moves for long"),
        pytest.param(LATER, 0.0, 99, {"timeout": "1h"}, LATER, id="its time runs out"),
    ],
)
def test_the_next_look_comes_in(again, later, unchanged, spec, expected):
    observation = seen(job=job_seen(batch_job(**spec)), queue=queue())
    found = _next(observation, again, later, unchanged)
    assert found == (None if expected is None else pytest.approx(expected, rel=0.1))
