"""Failures and halts as the text that the queue file keeps; apart so that the file's form is in one place."""

import json
from dataclasses import asdict

from batchyard.queue.port import Failure, Halt


def failure_to_text(failure: Failure) -> str:
    """Return a failure as JSON in ASCII: an error text may hold anything, lone surrogates and NULs included."""
    return json.dumps(asdict(failure))


def failure_from_text(text: str) -> Failure:
    """Return what ``failure_to_text`` was given."""
    return Failure(**json.loads(text))


def halt_to_text(halt: Halt) -> str:
    """Return a halt as JSON in ASCII."""
    return json.dumps(asdict(halt))


def halt_from_text(text: str) -> Halt:
    """Return what ``halt_to_text`` was given."""
    return Halt(**json.loads(text))
