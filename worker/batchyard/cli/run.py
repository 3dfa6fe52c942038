"""``batchyard run``: joins options, drawing and the local runner, and prints what came of it."""

import contextlib
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click

from batchyard.api.errors import BatchyardError, InvalidError
from batchyard.cli.progress import drawing
from batchyard.cli.summary import as_json, dry_run_json, print_dry_run, print_summary
from batchyard.local.dry_run import dry_run
from batchyard.local.plan import Options
from batchyard.local.run import run

INVALID = 2
FAILED = 1


def run_command(options: Mapping[str, Any], arguments: Sequence[str]) -> int:
    """Run the job, print its summary or JSON object, return the exit code.

    ``arguments``: the command line as typed, from which the one that resumes is made.
    """
    to_json = bool(options["as_json"])
    if options["resume"] and options["restart"]:
        return _refused("--resume and --restart are both given: expected one of them", "Usage", to_json)
    given = Options(
        manifest=options["manifest"],
        resume=options["resume"],
        restart=options["restart"],
        workers=options["workers"],
        output=options["output"],
        sets=options["sets"],
        state_dir=options["state_dir"],
        allow_empty=options["allow_empty"],
        model_server=options["model_server"],
    )
    try:
        with drawing(quiet=to_json or options["quiet"]) as drawn:
            if options["dry_run"]:
                facts = dry_run(given, drawn)
            else:
                summary = run(given, drawn)
    except InvalidError as error:
        return _refused(str(error), error.reason, to_json)
    except BatchyardError as error:  # a disk that is full, a queue that cannot be opened: not the manifest's fault
        return _refused(str(error), type(error).__name__, to_json, FAILED)
    if options["dry_run"]:
        _emit(dry_run_json(facts)) if to_json else print_dry_run(facts)
        return facts.exit_code
    resume = resume_command(arguments)
    with contextlib.suppress(OSError):  # nobody can read it; the exit code is still the job's
        _emit(as_json(summary, resume)) if to_json else print_summary(summary, resume)
    return summary.outcome.exit_code


def resume_command(arguments: Sequence[str]) -> str:
    """Return the command that goes on with this run: the one typed, with ``--resume``."""
    kept = [a for a in arguments if a not in ("--resume", "--restart")]
    return shlex.join(["batchyard", *kept, "--resume"])


def _refused(message: str, reason: str, to_json: bool, code: int = INVALID) -> int:
    click.echo(f"batchyard: {message}" if "\n" not in message else message, err=True)
    if to_json:
        state = "Invalid" if code == INVALID else "Failed"
        _emit({"state": state, "reason": reason, "message": message, "exitCode": code})
    return code


def _emit(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))
