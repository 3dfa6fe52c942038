"""Waits for the BatchJob of `helm test` to end and says how, in the operator's image: NAMESPACE NAME SECONDS."""

import sys
import time

from kubernetes import client, config
from urllib3.exceptions import HTTPError

GOOD = "Succeeded"
ENDED = (GOOD, "CompletedWithFailures", "Failed", "Cancelled")


def main() -> int:
    """Return 0 when every batch succeeded, 1 otherwise."""
    namespace, name, seconds = sys.argv[1:]
    config.load_config()
    jobs = client.CustomObjectsApi()
    until = time.monotonic() + float(seconds)
    said = ""
    while time.monotonic() < until:
        status, line = look(jobs, namespace, name)
        if line != said:
            say(f"{namespace}/{name}: {line}")
            said = line
        if status.get("state") in ENDED:
            return 0 if status["state"] == GOOD else 1
        time.sleep(1)
    say(f"{namespace}/{name}: not over after {seconds} s; why: kubectl -n {namespace} describe batchjob {name}")
    return 1


def look(jobs: client.CustomObjectsApi, namespace: str, name: str) -> tuple[dict, str]:
    """Return the job's status, and it as a line."""
    try:
        job = jobs.get_namespaced_custom_object("batchyard.dev", "v1alpha1", namespace, "batchjobs", name)
    except client.ApiException as error:
        return {}, f"the API server answers {error.status} {error.reason}"
    except HTTPError as error:
        return {}, f"the API server is away: {type(error).__name__}"
    status = job.get("status", {})
    words = (status.get("state", "not looked at yet"), status.get("progress"), status.get("message"))
    return status, " ".join(str(word) for word in words if word)


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
