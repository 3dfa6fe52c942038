"""Each way a batch can end in a handler process: one job that holds them all, run once by one worker.

Every misbehaving batch stands between two that are fine; it costs one attempt of itself, nothing of its neighbours.
"""

import pytest
from worker_harness import WorkerJob, is_running

HANDLER = """
import ctypes, itertools, os, re, resource, signal, sys, threading, time

def note(text):
    with open("notes", "a") as file:
        file.write(f"{text}\\n")

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

class Handler:
    def __init__(self, config):
        self.kept = []

    def handle_batch(self, payload, batch_id):
        for name in payload:
            getattr(self, name)()

    def on_job_complete(self):
        note("complete")

    def fine(self):
        note("fine")

    def raises(self):
        raise ValueError("this item is bad")

    def raises_without_text(self):
        raise Unprintable

    def raises_a_lone_surrogate(self):
        raise ValueError("half a character: \\udc80")

    def raises_a_long_text(self):
        raise ValueError("x" * 5_000_000)

    def raises_system_exit(self):
        sys.exit(3)

    def raises_keyboard_interrupt(self):
        raise KeyboardInterrupt

    def recurses(self):
        self.recurses()

    def reads_address_zero(self):
        ctypes.string_at(0)

    def aborts(self):
        os.abort()

    def exits_with_zero(self):
        os._exit(0)

    def is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def sleeps(self):
        time.sleep(3600)

    def sleeps_deaf(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        time.sleep(3600)

    def holds_the_gil(self):
        sum(itertools.repeat(0))

    def matches_for_ever(self):
        re.match(r"(a+)+$", "a" * 64 + "b")

    def asks_for_too_much(self):
        bytearray(1 << 50)

    def fills_memory(self):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), resource.RLIM_INFINITY))
        while True:  # nothing is given back: not even an error message finds room
            self.kept.append(object())

    def closes_descriptors(self):
        os.closerange(3, 256)

    def closes_every_descriptor(self):
        os.closerange(3, 1 << 16)

    def writes_to_every_descriptor(self):
        for fd in range(3, 2048):
            try:
                os.write(fd, b"\\xff" * 64)
            except OSError:
                pass

    def forks_and_both_return(self):
        if os.fork():
            os.wait()

    def forks_and_the_child_raises(self):
        if os.fork():
            os.wait()
        else:
            raise ValueError("only the child")

    def leaves_a_child_behind(self):
        pid = os.fork()
        if not pid:
            while True:
                print("still here", flush=True)
                time.sleep(0.001)
        note(f"left {pid}")

    def replaces_stdout(self):
        sys.stdout = None

    def ignores_signals(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def starts_a_thread_that_never_ends(self):
        threading.Thread(target=time.sleep, args=(3600,)).start()
"""

FAILS = {
    "raises": ("HandlerError", "ValueError: this item is bad", 'raise ValueError("this item is bad")'),
    "raises_without_text": ("HandlerError", "Unprintable: (its text could not be made)", "raise Unprintable"),
    "raises_a_lone_surrogate": ("HandlerError", "half a character: \udc80", ""),
    "raises_a_long_text": ("HandlerError", "ValueError: xxx", ""),
    "raises_system_exit": ("HandlerError", "SystemExit: 3", "sys.exit(3)"),
    "raises_keyboard_interrupt": ("HandlerError", "KeyboardInterrupt", ""),
    "recurses": ("HandlerError", "RecursionError", "self.recurses()"),
    "reads_address_zero": ("ProcessDied", "killed by SIGSEGV (signal 11)", "in reads_address_zero"),
    "aborts": ("ProcessDied", "killed by SIGABRT (signal 6)", "in aborts"),
    "exits_with_zero": ("ProcessDied", "exited with code 0", ""),
    "is_killed": ("ProcessDied", "memory runs out", ""),
    "sleeps": ("BatchTimeout", "longer than batchTimeout (1 s)", "in sleeps"),
    "sleeps_deaf": ("BatchTimeout", "longer than batchTimeout", "in sleeps_deaf"),
    "holds_the_gil": ("BatchTimeout", "longer than batchTimeout", "in holds_the_gil"),
    "matches_for_ever": ("BatchTimeout", "longer than batchTimeout", "in matches_for_ever"),
    "asks_for_too_much": ("HandlerError", "MemoryError", "bytearray(1 << 50)"),
    "fills_memory": (None, "", ""),  # whether there is still room to say it is the platform's choice
    "closes_every_descriptor": ("ProcessDied", "exited with code 70", ""),
    "writes_to_every_descriptor": ("ProcessDied", "", ""),
}
SUCCEEDS = [
    "closes_descriptors",
    "forks_and_both_return",
    "forks_and_the_child_raises",
    "leaves_a_child_behind",
    "replaces_stdout",
    "ignores_signals",
    "starts_a_thread_that_never_ends",
]
NAMES = [*FAILS, *SUCCEEDS]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The job after its only worker left."""
    batches = [["fine"]]
    for name in NAMES:
        batches += [[name], ["fine"]]
    job = WorkerJob(
        tmp_path_factory.mktemp("outcomes"), HANDLER, batches, retry={"max_attempts": 1}, batch_timeout=1.0
    )
    yield job, job.run()
    job.close()


def place(name):
    return 2 * NAMES.index(name) + 1


def test_the_worker_survives_them_all_and_counts_exactly(ended):
    job, result = ended
    assert result.code == 0, result.stderr
    counts = job.state.counts
    assert (counts.published, counts.failed) == (2 * len(NAMES) + 1, len(FAILS))
    assert counts.settled == counts.published
    assert set(job.failed()) == {place(name) for name in FAILS}


@pytest.mark.parametrize("name", FAILS)
def test_it_costs_one_attempt_of_its_own_batch(ended, name):
    job, _ = ended
    reason, error, detail = FAILS[name]
    batch = job.failed()[place(name)]
    assert batch.attempts == 1
    assert reason is None or batch.failure.reason == reason
    assert error in batch.failure.error
    assert detail in batch.failure.detail
    assert "\n" not in batch.failure.error
    assert len(batch.failure.detail) <= 16 * 1024
    assert batch.failure.worker == "worker-0"
    assert batch.failure.time > 0


@pytest.mark.parametrize("name", SUCCEEDS)
def test_it_costs_nothing(ended, name):
    job, _ = ended
    assert place(name) not in job.failed()


def test_a_traceback_begins_with_the_users_own_line(ended):
    first = ended[0].failed()[place("raises")].failure.detail.splitlines()[1]
    assert first.endswith("in handle_batch")
    assert "/project/handler.py" in first


def test_each_batch_beside_them_ran_exactly_once(ended):
    job, _ = ended
    assert job.lines("notes").count("fine") == len(NAMES) + 1


def test_on_job_complete_ran_once_although_batches_failed(ended):
    job, _ = ended
    assert job.lines("notes").count("complete") == 1


def test_nothing_that_a_handler_forked_outlives_the_worker(ended):
    job, _ = ended
    left = [int(line.split()[1]) for line in job.lines("notes") if line.startswith("left")]
    assert len(left) == 1
    assert not is_running(left[0])
