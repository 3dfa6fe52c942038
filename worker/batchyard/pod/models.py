"""The job's models where the model server of the pod can load them: it runs in a container and an image of its own.

A model on a volume of the job, or on the shared one (those of a bucket are fetched to it), is served from there. One
of the handler's image is copied: the server's image doesn't have it.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchyard.api.errors import BatchyardError
from batchyard.models import fetch
from batchyard.models.layout import version_number
from batchyard.models.local import ServedModel
from batchyard.models.serving_config import config_text
from batchyard.pod.told import Told

_SPARE = 64 << 20  # bytes that stay free on the shared volume


class NoSpace(BatchyardError):
    """The shared volume can't take the models; another node may."""


def ready_models(told: Told, project: Path, say: Callable[[str, str], None]) -> list[ServedModel]:
    """Bring the models to where the server can load them, write its config, and return them; empty without any.

    Whoever is killed in it leaves whole models and rests that the next call clears. Raises ModelInvalid, NoSpace.
    """
    models = told.job.spec.handler.models
    if models is None:
        return []
    found = fetch.ready_models(
        models,
        folder=project,
        links=told.places.ours / "links",
        downloads=told.places.models,
        options=told.store,
        say=lambda text: say("INFO", text),
    )
    served = _shared(told, found, say)
    write_models_config(told, served)
    return served


def write_models_config(told: Told, models: Sequence[ServedModel]) -> None:
    """Write what the model server starts from, whole or not at all."""
    replace_file(told.places.models_config, config_text(models))


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A model that has to be copied: the folder of each version, and the bytes in all of them."""

    model: ServedModel
    folders: dict[int, Path]
    size: int


def _shared(told: Told, models: Sequence[ServedModel], say: Callable[[str, str], None]) -> list[ServedModel]:
    """Return the models with every file on a volume that the server has too."""
    copies: dict[str, _Copy] = {}
    for model in models:
        folders = dict(_version_folders(model))
        if not all(told.is_shared(folder) for folder in folders.values()):
            target = told.places.models / model.name
            size = 0 if target.exists() else sum(_sizes(folders.values()))
            copies[model.name] = _Copy(model, folders, size)
    told.places.models.mkdir(parents=True, exist_ok=True)
    for rest in told.places.models.glob(".copying-*"):  # of a container that was killed
        shutil.rmtree(rest)
    _check_space(told.places.mnt, list(copies.values()))
    return [_copied(copies[model.name], told, say) if model.name in copies else model for model in models]


def _version_folders(model: ServedModel) -> Iterator[tuple[int, Path]]:
    for entry in model.base_path.iterdir():
        number = version_number(entry.name)
        if number in model.versions and entry.is_dir():
            yield number, entry


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder, followlinks=True):
        yield from (Path(root) / name for name in names)


def _sizes(folders: Iterable[Path]) -> Iterator[int]:
    for folder in folders:
        yield from (file.stat().st_size for file in _files(folder))


def _check_space(mnt: Path, copies: Sequence[_Copy]) -> None:
    needed, free = sum(copy.size for copy in copies), shutil.disk_usage(mnt).free
    if needed and needed + _SPARE > free:
        names = ", ".join(copy.model.name for copy in copies if copy.size)
        raise NoSpace(
            f"{mnt} has {free >> 20:,} MiB free, the models ({names}) need {needed >> 20:,} MiB: put them on a "
            "volume of spec.pod.volumes, or ask for more ephemeral-storage in spec.handler.resources."
        )


def _copied(copy: _Copy, told: Told, say: Callable[[str, str], None]) -> ServedModel:
    """Return the model as copied; one that is there is whole, because it got its name last."""
    model, target = copy.model, told.places.models / copy.model.name
    if not target.exists():
        say("INFO", f"copying model {model.name}, {copy.size >> 20:,} MiB, to {target}")
        fresh = told.places.models / f".copying-{model.name}"
        for number, folder in copy.folders.items():
            for file in _files(folder):
                to = fresh / str(number) / file.relative_to(folder)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, to)  # the content alone: the server may run as another user
        fresh.rename(target)
    return ServedModel(model.name, target, model.versions, model.signature_key)
