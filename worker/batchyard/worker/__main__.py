"""``python -m batchyard.worker [--check] SETTINGS.json``: one worker process."""

import sys
from pathlib import Path

from batchyard.api.last_words import leave_word
from batchyard.api.process import die_with_parent
from batchyard.worker.loop import Worker
from batchyard.worker.settings import WorkerSettings


def main(arguments: list[str]) -> int:
    """Run the worker that the settings file describes; return its exit code."""
    die_with_parent()
    settings = WorkerSettings.model_validate_json(Path(arguments[-1]).read_bytes())
    if "--check" in arguments[:-1]:
        from batchyard.worker.check import check

        return check(settings)
    worker = Worker(settings)
    code = worker.run()
    if worker.last_words:
        leave_word(worker.last_words)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
