"""The command ``batchyard``: its subcommands and their options; what they do is imported when they are called.

Imports nothing but click at the top: ``batchyard --help`` and a typo must answer at once.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

INVALID = 2
INTERRUPTED = 130
UNHEARD = 1
"""Exit code of a command whose output nobody reads any more."""

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_MANIFEST = click.argument("manifest", type=click.Path(path_type=Path))
_SET = click.option(
    "--set", "sets", multiple=True, metavar="PATH=VALUE", help="Set a field, such as spec.retry.maxAttempts=5."
)


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="batchyard", prog_name="batchyard")
def cli() -> None:
    """Offline inference over any number of items, with TensorFlow SavedModels or any Python code.

    \b
    Start here:
      batchyard init my-job              write a starting project
      batchyard run my-job/batchjob.yaml --dry-run
      batchyard run my-job/batchjob.yaml
    """  # noqa: D301 - \b is click's mark for line breaks that stay


@cli.command(context_settings=_CONTEXT)
@_MANIFEST
@click.option("--resume", is_flag=True, help="Go on with the run that was stopped; no settled batch runs again.")
@click.option("--restart", is_flag=True, help="Drop an unfinished run and its results, and start anew.")
@click.option("--dry-run", is_flag=True, help="Count items and batches, check handler and models, run no batch.")
@click.option(
    "--workers", type=click.IntRange(1, 10_000), metavar="N", help="Number of workers, in place of spec.workers."
)
@click.option("--output", metavar="PATH", help="Folder or s3:// prefix of the results, in place of spec.output.path.")
@_SET
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, and nothing else on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress and no handler output, only the summary.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the job's state, in place of .batchyard beside the manifest.",
)
@click.option("--allow-empty", is_flag=True, help="An input without items succeeds instead of failing the job.")
@click.option(
    "--model-server",
    metavar="PROGRAM",
    help="A tensorflow_model_server to use. Left out: BATCHYARD_MODEL_SERVER, one on PATH, else our own.",
)
@click.pass_context
def run(context: click.Context, /, **options: object) -> None:
    """Run the batch job of MANIFEST on this machine.

    \b
    Examples:
      batchyard run batchjob.yaml
      batchyard run batchjob.yaml --workers 4 --output /data/results
      batchyard run batchjob.yaml --set spec.input.batchSize=64 --dry-run
      batchyard run batchjob.yaml --resume
    \b
    Ctrl-C once: running batches finish, then it stops; --resume goes on. Twice: it stops at once.
    \b
    Exit codes:
      0    every batch succeeded          2    the manifest or the command is wrong
      3    some batches failed for good   130  interrupted
      1    the job failed
    """  # noqa: D301 - \b is click's mark for line breaks that stay
    from batchyard.cli.run import run_command

    context.exit(run_command(options, sys.argv[1:]))


@cli.command(context_settings=_CONTEXT)
@click.argument("source", metavar="JOB|PATH")
@click.option("-o", "--output", "file", metavar="FILE", help="Write one file, whole or not at all. Left out: stdout.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="One line an item.",
)
@click.option("--columns", metavar="A,B,…", help="Columns of the CSV. Left out: all, which reads the results twice.")
@click.option(
    "--endpoint", metavar="URL", help="URL of a store that is not AWS; of a job or manifest its own is taken."
)
@click.option("--region", metavar="NAME", help="Region of the bucket.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where JOB's state is."
)
@click.pass_context
def results(context: click.Context, /, columns: str | None, **given: Any) -> None:
    """Print all results of a job, in the order of the input.

    JOB is a job that ran in this folder, PATH a folder or s3:// URL of results, or a manifest.

    \b
    Examples:
      batchyard results my-job
      batchyard results s3://bucket/results -o results.jsonl
      batchyard results results/ --format csv --columns position,label | head
    """  # noqa: D301 - \b is click's mark for line breaks that stay
    from batchyard.cli.results import Wanted, results_command

    if columns is not None and given["form"] != "csv":
        raise click.UsageError("--columns: found it with --format jsonl, expected --format csv.")
    context.exit(results_command(Wanted(columns=tuple(filter(None, (columns or "").split(","))), **given)))


@cli.command(context_settings=_CONTEXT)
@_MANIFEST
@_SET
@click.pass_context
def validate(context: click.Context, manifest: Path, sets: tuple[str, ...]) -> None:
    """Check MANIFEST alone: no handler, model or input is read.

    Prints "ok", or one line for each problem on stderr and exits with 2.
    """
    from batchyard.cli.validate import validate_command

    context.exit(validate_command(manifest, sets))


@cli.command(context_settings=_CONTEXT)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option(
    "--type",
    "kind",
    type=click.Choice(["python", "tensorflow"]),
    default="python",
    show_default=True,
    help="Your own Python code alone, or with a SavedModel.",
)
@click.pass_context
def init(context: click.Context, folder: Path, kind: str) -> None:
    """Write a starting project into FOLDER (the current one when left out): manifest, handler, a little input.

    No file is overwritten.
    """
    from batchyard.cli.init import init_command

    context.exit(init_command(folder, kind))


@cli.command(
    context_settings={**_CONTEXT, "ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def serve(context: click.Context, flags: tuple[str, ...]) -> None:
    """Serve SavedModels over TensorFlow Serving's gRPC API, with its flags.

    \b
    Example:
      batchyard serve --port=8500 --model_name=iris --model_base_path=/models/iris
    """  # noqa: D301 - \b is click's mark for line breaks that stay
    if set(flags) & {"-h", "--help"}:
        click.echo(context.get_help())
        return
    from batchyard.cli.serve import serve_command

    context.exit(serve_command(flags))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; console script and ``python -m`` end with it."""
    try:
        code = cli.main(
            args=list(arguments) if arguments is not None else None, prog_name="batchyard", standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        return INVALID
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted before anything was started", err=True)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        code = UNHEARD
    _let_go_of_broken_streams()
    return code if isinstance(code, int) else 0


def _let_go_of_broken_streams() -> None:
    """Keep the interpreter from ending with its own exit code because a reader of ours is gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
