"""What handlers do beside their work: processes of their own, an output folder somebody else uses."""

from typing import Any

import pytest

POOLS = {
    "multiprocessing.Pool": "with multiprocessing.Pool(2) as pool: return pool.map(abs, payload)",
    "terminate a process": """
process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
process.start()
process.terminate()
process.join()
return payload
""",
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in POOLS.items()])
def test_a_handler_may_fork_processes_and_end_them_by_signals(job: Any, body: str) -> None:
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    code = (
        "import multiprocessing, time\n"
        "class Handler:\n"
        "    def __init__(self, config): pass\n"
        f"    def handle_batch(self, payload):\n{lines}"
    )
    ran = job.write(
        code, input={"items": [1, 2], "batchSize": 2}, batchTimeout="10s", output={"path": "out"}
    ).run_json()
    assert (ran["exitCode"], ran["failures"]) == (0, [])
