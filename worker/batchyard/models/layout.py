"""Which trees of files are models: pure, so that a local folder and a bucket's listing follow one set of rules.

A model is one SavedModel, or folders named by version numbers, each a SavedModel; the highest number is ``latest``.

- A SavedModel is a folder with ``saved_model.pb`` or ``saved_model.pbtxt``. ``variables/`` may be absent (a graph of
  constants); where it is there, it must be whole.
- A version is a folder named with digits alone, from 0. Leading zeros are read as TF Serving reads them (``007`` is
  version 7), and two folders of one number are refused.
- Names that begin with ``.`` or ``_`` (``.DS_Store``, ``_SUCCESS``) are ignored, and so are files and folders beside
  the versions that can't be meant as one (``README.md``, ``eval/``). Refused, because the wrong version would be
  served in silence: a version folder that is no SavedModel, a SavedModel beside the versions under a name that is no
  version (``v2``, ``-1``), a file named like a version, and versions inside a SavedModel.

A listing is file paths relative to the model's folder, with ``/`` between the parts; an entry that ends in ``/`` is
an empty folder.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchyard.api.errors import InvalidError

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
UNVERSIONED = 1
"""The version under which a model without version folders is served."""

_MAX_VERSION = 2**63 - 1  # ModelSpec.version is an int64
_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")
_TREE_LINES = 12
_EXPECTED = """\
  saved_model.pb            1/saved_model.pb
  variables/…         or    1/variables/…
  assets/…                  2/saved_model.pb  …"""
_EXPECTED_DIR = """\
  first_model/saved_model.pb
  second_model/1/saved_model.pb
  second_model/2/saved_model.pb  …"""


class ModelInvalid(InvalidError):
    """A folder named in ``models`` is not a model, or not one that can be served."""

    reason = "ModelInvalid"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a model's versions are: version number to folder, relative to the model's own, ``""`` for itself."""

    folders: Mapping[int, str]

    @property
    def versions(self) -> tuple[int, ...]:
        """The version numbers, lowest first; ``(1,)`` for a model without version folders."""
        return tuple(sorted(self.folders))

    @property
    def is_versioned(self) -> bool:
        """Whether the model is version folders rather than one SavedModel."""
        return "" not in self.folders.values()


def version_number(name: str) -> int | None:
    """Return the version a folder's name stands for, None when the name is no version."""
    if not (name.isascii() and name.isdigit()) or int(name[-30:]) > _MAX_VERSION or len(name) > 30:
        return None
    return int(name)


def name_and_version(path: str) -> tuple[str, int]:
    """Return the name and version under which the model at ``path`` is served when the manifest gives none.

    The name is the folder's; when that is a version number (``models/iris/3``), the folder above it names the model
    and the number stays its version. A version folder without a folder above it is named by its number.
    """
    parts = [part for part in path.partition("://")[2 if "://" in path else 0].split("/") if part not in ("", ".")]
    last = parts[-1] if parts else "model"
    number = version_number(last)
    if number is None:
        return last, UNVERSIONED
    return (parts[-2] if len(parts) > 1 and parts[-2] != ".." else last), number


def kept_versions(layout: Layout, versions: str | Sequence[int] | None, where: str) -> Layout:
    """Return a layout with the versions that a job asks for alone; ``versions`` as in the manifest, None for all.

    ``where``: what the user wrote and where. Raises ModelInvalid for a version that is not there.
    """
    if versions is None:
        return layout
    wanted = layout.versions[-1:] if isinstance(versions, str) else versions
    missing = [number for number in wanted if number not in layout.folders]
    if missing:
        have = ", ".join(map(str, layout.versions))
        raise ModelInvalid(f"{where}: found versions {missing[0]}, expected versions that the model has: {have}.")
    return Layout({number: layout.folders[number] for number in wanted})


def model_layout(listing: Iterable[str], path: str, field: str = "models.path") -> Layout:
    """Return the layout of the model that ``listing`` shows; ``path`` and ``field``: what the user wrote and where.

    Raises ModelInvalid with the tree found and the tree expected.
    """
    files = _visible(listing)
    where = f"{field}: {path}"
    problem = _saved_model_problem(files)
    versions = _version_folders(files)
    if problem is None:
        nested = sorted(name for name, below in versions if _is_saved_model(below))
        if nested:
            raise _refusal(where, f"is a SavedModel and holds version folders too ({', '.join(nested)})", files)
        return Layout({UNVERSIONED: ""})
    if _is_saved_model(files):
        raise _refusal(where, problem, files)
    if not versions:
        raise _refusal(where, _hint(files, path.rstrip("/")), files)
    return Layout(_checked_versions(versions, files, where))


def directory_layouts(listing: Iterable[str], path: str) -> dict[str, Layout]:
    """Return the layout of each model of a ``models.dir``, by name: each folder in it is one model.

    Files beside the folders are ignored. Raises ModelInvalid, also when the folder is itself a model.
    """
    files = _visible(listing)
    where = f"models.dir: {path}"
    names = sorted({file.partition("/")[0] for file in files if "/" in file})
    versions = [name for name, below in _version_folders(files) if _is_saved_model(below)]
    single = _is_saved_model(files)
    if single or versions:
        what = "one SavedModel" if single else f"one model with version folders ({', '.join(versions)})"
        raise _refusal(where, f"is {what}; write models.path instead of models.dir", files, _EXPECTED_DIR)
    if not names:
        raise _refusal(where, "holds no folder, so no model", files, _EXPECTED_DIR)
    return {name: model_layout(_below(files, name), f"{path.rstrip('/')}/{name}", "models.dir") for name in names}


def _visible(listing: Iterable[str]) -> list[str]:
    shown = (path for path in listing if not any(part.startswith((".", "_")) for part in path.split("/") if part))
    return sorted({path for path in shown if path.strip("/")})


def _below(files: Iterable[str], folder: str) -> list[str]:
    prefix = folder + "/"
    return [path[len(prefix) :] for path in files if path.startswith(prefix) and path != prefix]


def _is_saved_model(files: Iterable[str]) -> bool:
    return any(path in SAVED_MODEL_FILES for path in files)


def _version_folders(files: list[str]) -> list[tuple[str, list[str]]]:
    names = sorted({path.partition("/")[0] for path in files if "/" in path})
    return [(name, _below(files, name)) for name in names if version_number(name) is not None]


def _saved_model_problem(files: list[str]) -> str | None:
    """Return why these files are no whole SavedModel, None when they are one."""
    if not _is_saved_model(files):
        return "holds no saved_model.pb"
    variables = _below(files, "variables")
    shards = [match for path in variables if (match := _SHARD.fullmatch(path))]
    has_index = "variables.index" in variables
    if shards and not has_index:
        return "lacks variables/variables.index (an incomplete copy?)"
    if has_index:
        count = int(shards[0][2]) if shards else 1
        present = {int(shard[1]) for shard in shards}
        missing = [f"variables/variables.data-{i:05d}-of-{count:05d}" for i in range(count) if i not in present]
        if missing:
            return f"lacks {missing[0]}{' and others' if missing[1:] else ''} (an incomplete copy?)"
    return None


def _checked_versions(versions: list[tuple[str, list[str]]], files: list[str], where: str) -> dict[int, str]:
    folders: dict[int, str] = {}
    for name, below in versions:
        problem = _saved_model_problem(below)
        if problem is not None:
            raise _refusal(where, f"has a version folder {name}/ that is no SavedModel: it {problem}", files)
        number = int(name)
        if number in folders:
            raise _refusal(where, f"has two folders for version {number}: {folders[number]}/ and {name}/", files)
        folders[number] = name
    taken = set(folders.values())
    for name in sorted({path.partition("/")[0] for path in files}):
        if name in taken:
            continue
        if version_number(name) is not None:
            raise _refusal(where, f"has a file named like a version: {name}", files)
        if _is_saved_model(_below(files, name)):
            raise _refusal(
                where, f"has a SavedModel in {name}/ beside its versions; a version's folder is a whole number", files
            )
    return folders


def _hint(files: list[str], path: str) -> str:
    """Return what a folder that is no model seems to be."""
    if not files:
        return "is empty"
    if any(file.startswith("variables/") for file in files):
        return "holds variables/ and no saved_model.pb (an incomplete copy?)"
    below = sorted({_model_folder(file) for file in files if file.rpartition("/")[2] in SAVED_MODEL_FILES})
    if below:
        several = f", or models.dir for each of {len(below)} models" if len(below) > 1 else ""
        return f"is no SavedModel itself; write {path}/{below[0]}{several}"
    names = [file.rpartition("/")[2] for file in files]
    for suffixes, said in _OTHER_FORMATS:
        found = next((name for name in names if name.endswith(suffixes)), None)
        if found:
            return f"holds no SavedModel; {found} {said}"
    return "holds no saved_model.pb"


def _model_folder(file: str) -> str:
    """Return the folder of the model that a saved_model.pb belongs to: the one above, where its own is a version."""
    folder = file.rpartition("/")[0]
    parent, _, last = folder.rpartition("/")
    return parent if parent and version_number(last) is not None else folder


_CHECKPOINT = (
    "is a checkpoint: it has weights and no graph to call; restore it and write a SavedModel with tf.saved_model.save"
)
_OTHER_FORMATS: tuple[tuple[tuple[str, ...], str], ...] = (
    ((".keras", ".h5", ".hdf5"), "is a Keras file: load it and write a SavedModel with model.export(folder)"),
    ((".index", ".meta", ".weights", ".ckpt", "checkpoint"), _CHECKPOINT),
    ((".tflite",), "is a TensorFlow Lite model: serve the SavedModel it was converted from"),
    ((".onnx",), "is an ONNX model: call it from a handler of type python"),
    ((".pt", ".pth", ".safetensors"), "is a PyTorch model: call it from a handler of type python"),
    ((".pb", ".pbtxt"), "is a frozen graph: wrap it in a SavedModel with tf.compat.v1.saved_model.simple_save"),
    ((".zip", ".tar", ".tar.gz", ".tgz"), "is an archive: unpack it"),
)


def _refusal(where: str, problem: str, files: list[str], expected: str = _EXPECTED) -> ModelInvalid:
    return ModelInvalid(f"{where} {problem}.\nfound:\n{_tree(files)}\nexpected:\n{expected}")


def _tree(files: list[str]) -> str:
    """Return the listing for a person: a line a file, the nearest to the top first, shortened."""
    shown = sorted(files, key=lambda path: (path.rstrip("/").count("/"), path))
    lines = [f"  {path}" for path in shown[:_TREE_LINES]]
    if len(shown) > _TREE_LINES:
        lines.append(f"  … and {len(shown) - _TREE_LINES} more")
    return "\n".join(lines or ["  (nothing)"])
