"""``batchyard validate``: a manifest alone."""

from pathlib import Path

import click

from batchyard.api.errors import InvalidError
from batchyard.api.manifest import load


def validate_command(path: Path, sets: tuple[str, ...]) -> int:
    """Print "ok" or every problem; return the exit code."""
    try:
        manifest = load(path, sets)
    except InvalidError as error:
        click.echo(str(error), err=True)
        return 2
    for other in manifest.ignored:
        click.echo(f"note: {other} is not looked at", err=True)
    click.echo(f"ok: {manifest.job.metadata.name}")
    return 0
