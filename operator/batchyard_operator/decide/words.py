"""What pods and containers say of themselves, as words for a sentence; apart because ends and stalls both tell it."""

import json

from batchyard_operator.decide.turn import cut
from batchyard_operator.model import SERVING, ContainerSeen, PodSeen

INVALID = 64
"""The exit code of a process of ours that found something of the user's wrong."""

TERMINATED = 143


def container_of(pod: PodSeen, name: str) -> ContainerSeen | None:
    """Return a pod's container by name."""
    return next((container for container in pod.containers if container.name == name), None)


def last_words(message: str, *, is_a_word: bool = False) -> str:
    """Return the last line of a termination message; of a line of our JSON logs its ``message``.

    ``is_a_word``: the message was left on purpose, and is not the end of a log: all of it is told.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return ""
    if is_a_word and not lines[-1].startswith("{"):
        return cut(message, 800)
    try:
        record = json.loads(lines[-1])
    except ValueError:
        return cut(lines[-1], 500)
    said = record.get("message") if isinstance(record, dict) else None
    return cut(said if isinstance(said, str) else lines[-1], 500)


def ended(container: ContainerSeen) -> str:
    """Return how a container ended: ``container handler ended with exit code 1: ValueError: …``."""
    code = f" with exit code {container.exit_code}" if container.exit_code is not None else ""
    kind = f" ({container.terminated})" if container.terminated not in ("", "Error", "Completed") else ""
    message = container.last_message or (container.message if container.terminated else "")
    said = last_words(message, is_a_word=container.exit_code == INVALID)
    return f"container {container.name} ended{code}{kind}{f': {said}' if said else ''}"


def failure_of(pod: PodSeen) -> str | None:
    """Return why a pod failed, None when it did not fail, or only had to go."""
    if pod.phase != "Failed" or pod.is_disrupted:
        return None
    failed = [c for c in pod.containers if c.terminated and c.exit_code not in (0, TERMINATED, None)]
    if not failed:
        said = ": ".join(part for part in (pod.reason, pod.message) if part)
        stopped = any(c.exit_code == TERMINATED for c in pod.containers)
        return f"pod {pod.name} failed: {cut(said, 500)}" if said and not stopped else None
    # the model server only ends because the handler did, unless nothing else failed
    first = min(failed, key=lambda c: (c.name == SERVING, c.since))
    return f"pod {pod.name}: {ended(first)}"


def failed_at(pod: PodSeen) -> float:
    """Return when a pod failed, unix seconds, as far as its containers tell."""
    return max((c.since for c in pod.containers if c.terminated), default=pod.created)


def newest_failure(pods: list[PodSeen]) -> str | None:
    """Return why the pod that failed last did, None when none failed."""
    told = [(failed_at(pod), pod.name, said) for pod in pods if (said := failure_of(pod)) is not None]
    return max(told)[2] if told else None


def refusal_of(pods: list[PodSeen]) -> tuple[str, str] | None:
    """Return the container that ended with 64, and how; None when none did."""
    found = [
        (container.since, container.name, f"pod {pod.name}: {ended(container)}")
        for pod in pods
        for container in pod.containers
        if container.terminated and container.exit_code == INVALID
    ]
    if not found:
        return None
    _, name, said = min(found)
    return name, said
