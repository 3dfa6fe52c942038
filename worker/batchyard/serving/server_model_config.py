"""What to serve: the models and versions that the command line or a model config file names, found on disk.

Reads TF Serving's ``ModelServerConfig`` in text form and follows its rules for version folders and policies, before
TensorFlow is imported, so that a wrong path is said at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from batchyard.serving.protos import model_server_config_pb2
from batchyard.serving.server_flags import Flags

_UNUSED = ("model_type", "logging_config", "custom_model_config")  # known to TF Serving, without effect here


class ModelConfigError(Exception):
    """The config file, or a folder it names, is wrong; ``problems`` holds one sentence each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ModelToServe:
    """One model: its versions' folders by number, never empty, and its version labels."""

    name: str
    folders: Mapping[int, Path]
    labels: Mapping[str, int]


def models_to_serve(flags: Flags) -> list[ModelToServe]:
    """Return the models that the flags name, with the versions that each one's policy picks.

    Raises ModelConfigError with a sentence for each model that can't be served.
    """
    if flags.model_config_file is None:
        config = model_server_config_pb2.ModelConfig(name=flags.model_name, base_path=str(flags.model_base_path))
        configs = [config]
    else:
        configs = read_config(flags.model_config_file)
    served: list[ModelToServe] = []
    problems: list[str] = []
    for config in configs:
        try:
            served.append(_model(config))
        except ModelConfigError as error:
            problems += error.problems
    if problems:
        raise ModelConfigError(*problems)
    return served


def read_config(path: Path) -> list[model_server_config_pb2.ModelConfig]:
    """Return the models of a config file. Raises ModelConfigError, with the line where the text is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ModelConfigError(f"--model_config_file: there is no file {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelConfigError(f"--model_config_file: {path} can't be read: {error}.") from error
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        if not any(f'"{name}"' in str(error) for name in _UNUSED):
            raise ModelConfigError(f"{path}: {str(error).rstrip('.')}.") from error
        config.Clear()
        try:
            text_format.Parse(text, config, allow_unknown_field=True)
        except text_format.ParseError as second:
            raise ModelConfigError(f"{path}: {str(second).rstrip('.')}.") from second
    configs = list(config.model_config_list.config)
    if not configs and not config.HasField("model_config_list"):  # an empty list is meant
        raise ModelConfigError(f"{path} names no model, expected model_config_list {{ config {{ … }} }}.")
    names = [each.name for each in configs]
    for name in names:
        if names.count(name) > 1:
            raise ModelConfigError(f"{path} names the model {name!r} more than once.")
    return configs


def _model(config: model_server_config_pb2.ModelConfig) -> ModelToServe:
    if not config.name or not config.base_path:
        raise ModelConfigError(
            f"a model needs a name and a base_path, found {config.name!r} and {config.base_path!r}."
        )
    if config.model_platform not in ("", "tensorflow"):
        raise ModelConfigError(
            f"model {config.name!r}: found model_platform {config.model_platform!r}, expected 'tensorflow'."
        )
    base = Path(config.base_path).absolute()
    folders = _versions_on_disk(config.name, base)
    policy = config.model_version_policy
    wanted = sorted(folders)
    match policy.WhichOneof("policy_choice"):
        case "specific":
            wanted = sorted(set(policy.specific.versions))
            absent = [version for version in wanted if version not in folders]
            if absent or not wanted:
                found = ", ".join(map(str, sorted(folders)))
                missing = ", ".join(map(str, absent)) or "(none is named)"
                raise ModelConfigError(
                    f"model {config.name!r}: {base} has no version {missing}; versions found: {found}."
                )
        case "all":
            pass
        case _:
            wanted = wanted[-max(1, policy.latest.num_versions) :]
    labels = dict(config.version_labels)
    for label, version in labels.items():
        if version not in wanted:
            raise ModelConfigError(
                f"model {config.name!r}: the label {label!r} means version {version}, which is not served."
            )
    return ModelToServe(config.name, {version: folders[version] for version in wanted}, labels)


def _versions_on_disk(name: str, base: Path) -> dict[int, Path]:
    """Return the version folders below a model's base path by number: names of digits alone, as in TF Serving."""
    try:
        children = sorted(base.iterdir())
    except FileNotFoundError as error:
        raise ModelConfigError(f"model {name!r}: there is no folder {base}.") from error
    except OSError as error:
        raise ModelConfigError(f"model {name!r}: {base} can't be read: {error.strerror}.") from error
    versions = [child for child in children if child.name.isascii() and child.name.isdigit() and child.is_dir()]
    if not versions:
        hint = ""
        if any(child.name in ("saved_model.pb", "saved_model.pbtxt") for child in children):
            hint = f" It is a SavedModel itself: move it to {base / '1'}."
        raise ModelConfigError(
            f"model {name!r}: no version folder in {base}, expected folders named 1, 2, … that each hold a "
            f"saved_model.pb.{hint}"
        )
    return {int(child.name): child for child in versions}
