"""What is shown of a running job: rate, time left, and why nothing moves."""

import pytest
from batchyard.local.meter import Meter
from batchyard.queue.port import Completion, Counts, State


def state(succeeded=0, failed=0, running=0, published=100, sealed=True, items=1000):
    completion = Completion.WAITING if sealed else Completion.ABSENT
    return State(Counts(published, succeeded, failed, running), completion, None, None, items if sealed else None)


def test_rate_and_time_left_come_from_what_was_settled_lately():
    meter = Meter(batch_size=10, started=0.0)
    meter.view(state(0), 0.0, "running")
    view = meter.view(state(20), 10.0, "running")
    assert view.rate == pytest.approx(20)
    assert view.eta == pytest.approx(40)
    assert view.items_done == 200
    assert view.elapsed == 10.0


def test_an_old_burst_does_not_count_for_the_rate():
    meter = Meter(batch_size=10, started=0.0)
    for second in range(101):
        view = meter.view(state(min(second, 50)), float(second), "running")
    assert view.rate is None, "nothing was settled for 50 seconds"


def test_no_time_left_is_told_before_the_whole_input_is_known():
    meter = Meter(batch_size=10, started=0.0)
    meter.view(state(0, sealed=False), 0.0, "running")
    view = meter.view(state(20, sealed=False), 10.0, "running")
    assert view.rate == pytest.approx(20)
    assert view.eta is None
    assert view.total is None


def test_the_last_batch_may_be_smaller():
    meter = Meter(batch_size=10, started=0.0)
    assert meter.view(state(100, items=991), 1.0, "running").items_done == 991


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(state(running=2), "2 in work, the last one settled 30 s ago", id="long batches"),
        pytest.param(state(published=0, sealed=False), "no batch is enqueued yet", id="no input yet"),
        pytest.param(state(), "the handler is being constructed", id="nothing taken yet"),
        pytest.param(state(succeeded=5), "95 waiting for their next attempt", id="retries"),
        pytest.param(state(succeeded=100, sealed=False), "waiting for the rest of the input", id="slow input"),
        pytest.param(state(succeeded=100), "on_job_complete is running", id="completion"),
    ],
)
def test_a_job_without_progress_says_why(found, words):
    meter = Meter(batch_size=10, started=0.0)
    meter.view(found, 0.0, "running")
    assert meter.view(found, 5.0, "running").why == ""
    assert words in meter.view(found, 30.0, "running").why


def test_what_the_processes_say_comes_first():
    meter = Meter(batch_size=10, started=0.0)
    assert meter.view(state(), 30.0, "running", "the model server is away").why == "the model server is away"
