"""``batchyard init``: writes the project in ``templates`` into a folder; it never overwrites a file."""

import shutil
from pathlib import Path

import click

TEMPLATES = Path(__file__).parent / "templates"


def init_command(folder: Path, kind: str) -> int:
    """Copy the project ``kind``; return 2 when one of its files is there already, and write nothing then."""
    templates = TEMPLATES / kind
    files = sorted(
        path.relative_to(templates)
        for path in templates.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    taken = [str(folder / name) for name in files if (folder / name).exists()]
    if taken:
        click.echo(f"{', '.join(taken)}: there already; nothing was written. Name another folder.", err=True)
        return 2
    try:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(templates / name, folder / name)
    except OSError as error:
        click.echo(f"cannot write into {folder}: {error.strerror}", err=True)
        return 2
    for name in files:
        click.echo(f"wrote {folder / name}")
    manifest = next((folder / name for name in files if name.name == "batchjob.yaml"), folder)
    click.echo(f"next: read {folder / 'README.md'}, then: batchyard run {manifest} --dry-run")
    return 0
