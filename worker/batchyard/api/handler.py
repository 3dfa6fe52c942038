"""The handler's part of a BatchJob: whose code runs, with which models, in which processes and containers."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from batchyard.api.errors import nearest
from batchyard.api.scalars import (
    AbsolutePath,
    EnvName,
    Image,
    KubernetesObject,
    ModelName,
    Place,
    PythonFile,
    Quantity,
    S3Url,
    Text,
    Version,
    Words,
    is_inside,
)
from batchyard.api.strict import Flaw, Strict, join


class NamedModel(NamedTuple):
    """A model as the server is told of it."""

    name: str
    path: str
    signature_key: str | None


def _duplicates(entries: Any, field: str) -> Iterator[Flaw]:
    """Yield a flaw for each entry whose name an earlier entry has."""
    seen: dict[str, int] = {}
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            continue
        if name in seen:
            path = (field, i, "name")
            yield Flaw(path, f"{name!r} a second time", f"a name that {field}[{seen[name]}] doesn't have")
        seen.setdefault(name, i)


def _versions(value: Any) -> Any:
    if value == "latest":
        return value
    if isinstance(value, list) and value and all(type(number) is int and 0 <= number < 2**63 for number in value):
        return value
    raise ValueError("neither latest nor a list of versions")


VERSIONS = Words("latest or a list of version numbers, such as [1, 3]", "`latest` or list of integers")
Versions = Annotated[str | list[int], BeforeValidator(_versions), VERSIONS]


class ModelEntry(Strict):
    """One of several models."""

    name: ModelName = Field(description="Name that the handler passes as `model_name`. Unique in the job.")
    path: Place = Field(
        description="Folder or prefix with one SavedModel, or with version folders (`1`, `2`, …) that each hold one."
    )
    signature_key: Text | None = Field(
        default=None, description="Signature to call. Left out: the one of `models.signatureKey`."
    )
    versions: Versions | None = Field(
        default=None, description="Versions to load. Left out: those of `models.versions`."
    )


class Models(Strict):
    """The SavedModels that the job serves: exactly one of `path`, `paths` and `dir`."""

    exactly_one: ClassVar[tuple[str, ...]] = ("path", "paths", "dir")

    path: Place | None = Field(
        default=None,
        description="One model: a folder or prefix with a SavedModel, or with version folders (`1`, `2`, …) that "
        "each hold one; the highest number is `latest`. It is served under the folder's own name, and a handler "
        "need not name it in `predict`.",
    )
    paths: list[ModelEntry] | None = Field(default=None, min_length=1, description="Several models, each named.")
    dir: Place | None = Field(
        default=None, description="A folder or prefix whose every folder is a model, served under the folder's name."
    )
    signature_key: Text | None = Field(
        default=None,
        description="Signature to call. Left out: the model's only one, else `serving_default`, else `predict`.",
    )
    versions: Versions | None = Field(
        default=None,
        description="Versions to fetch and load: `latest`, or a list (`[1, 3]`). Left out: all, since a handler may "
        "ask for any. Asking for another one than these is an error.",
    )

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterator[Flaw]:
        """Exactly one source; every name once."""
        yield from super().rules(given)
        yield from _duplicates(given.get("paths"), "paths")

    @property
    def kind(self) -> Literal["path", "paths", "dir"]:
        """Which of the three is given."""
        return "path" if self.path is not None else "paths" if self.paths is not None else "dir"

    @property
    def named(self) -> list[NamedModel]:
        """The models of ``path`` or ``paths`` with their names and signature keys; empty for ``dir``.

        The name of ``path`` is its last part, with a dash for each character that a model's name can't have; a
        path without a last part (``.``, ``s3://bucket``) is called ``model``.
        """
        if self.path is not None:
            last = self.path.partition("://")[2].partition("/")[2] if "://" in self.path else self.path
            last = last.replace("\\", "/").rstrip("/").rpartition("/")[2]
            name = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in last)
            return [NamedModel(name if name.strip(".") else "model", self.path, self.signature_key)]
        return [NamedModel(m.name, m.path, m.signature_key or self.signature_key) for m in self.paths or []]


class Project(Strict):
    """Where the handler's files come from: exactly one."""

    exactly_one: ClassVar[tuple[str, ...]] = ("configMap", "s3", "image", "inline")

    config_map: Text | None = Field(default=None, description="Name of a ConfigMap whose keys are the files.")
    s3: S3Url | None = Field(
        default=None,
        description="A zip or tar.gz file in object storage, or a prefix whose files are the project's.",
    )
    image: AbsolutePath | None = Field(default=None, description="Folder inside the handler's own image.")
    inline: dict[str, str] | None = Field(
        default=None, min_length=1, description="The files themselves: relative path to text."
    )

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterator[Flaw]:
        """Exactly one source; inline files stay inside the folder."""
        yield from super().rules(given)
        inline = given.get("inline")
        for name in inline if isinstance(inline, dict) else ():
            if not is_inside(name):
                yield Flaw(("inline", name), f"the file name {name!r}", "a relative path that stays in the project")

    @property
    def kind(self) -> Literal["configMap", "s3", "image", "inline"]:
        """Which of the four is given."""
        if self.config_map is not None:
            return "configMap"
        return "s3" if self.s3 is not None else "image" if self.image is not None else "inline"


class EnvVar(Strict):
    """One environment variable, as in Kubernetes."""

    name: EnvName = Field(description="The variable's name.")
    value: str | None = Field(
        default=None, description="Its value; empty when neither this nor `valueFrom` is given."
    )
    value_from: KubernetesObject | None = Field(
        default=None, description="A reference to a Secret, ConfigMap or field. Cluster only."
    )

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterator[Flaw]:
        """Not both."""
        if "value" in given and "valueFrom" in given:
            yield Flaw((), "value and valueFrom", "one of value and valueFrom")


def _requirements(value: Any) -> Any:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and all(isinstance(line, str) and line for line in value):
        return value
    raise ValueError("neither a file nor a list of requirements")


PIP = Words("a requirements file of the project or a list of requirements", "path or list of strings")


class Dependencies(Strict):
    """What is installed before the handler is imported, once per change."""

    pip: (
        Annotated[
            str | list[str],
            BeforeValidator(_requirements),
            PIP,
        ]
        | None
    ) = Field(
        default=None, description="A requirements file of the project, or a list of requirements (`pillow==11.0`)."
    )
    shell: Text | None = Field(default=None, description="A shell script of the project that is run before pip.")


class Resources(Strict):
    """A container's resources, as in Kubernetes."""

    requests: dict[str, Quantity] | None = Field(default=None, description="What the container is scheduled for.")
    limits: dict[str, Quantity] | None = Field(default=None, description="What it may use at most.")
    claims: list[KubernetesObject] | None = Field(
        default=None, description="Resource claims of the pod that it uses."
    )


class Handler(Strict):
    """The code that runs each batch, and the models it may call.

    `type: tensorflow` needs `models`; `type: python` has none and needs `path`. The type is never guessed from
    the models: so a job whose models were forgotten is told so.
    """

    type: Literal["tensorflow", "python"] = Field(
        description="`tensorflow`: a model server runs beside the handler, which gets a `tensorflow_client`. "
        "`python`: any code, no server."
    )
    path: PythonFile | None = Field(
        default=None,
        description="File with the class `Handler`, relative to the project folder. Left out (`type: tensorflow` "
        "only): the built-in handler predicts each batch and returns the outputs.",
    )
    project: Project | None = Field(
        default=None, description="The handler's files. Left out, on one machine: the manifest's folder."
    )
    config: dict[str, Any] = Field(
        default_factory=dict, description="Free settings, passed to the handler as `config`."
    )
    models: Models | None = Field(default=None, description="The models to serve. `type: tensorflow` only.")
    tensorflow_version: Version = Field(
        default="2.3.0",
        description="TensorFlow Serving release that serves the models in a cluster. Use the one that the models "
        "were saved with, or a newer one.",
    )
    image: Image | None = Field(default=None, description="Image of the handler's container. Cluster only.")
    serving_image: Image | None = Field(
        default=None,
        description="Image of the model server, in place of the one of `tensorflowVersion`. Cluster only.",
    )
    env: list[EnvVar] = Field(default_factory=list, description="Environment variables of the handler.")
    env_from: list[KubernetesObject] = Field(
        default_factory=list, description="Secrets and ConfigMaps whose keys become variables. Cluster only."
    )
    dependencies: Dependencies | None = Field(default=None, description="What to install before the handler starts.")
    processes: int = Field(default=1, ge=1, le=256, description="Handler processes of each worker.")
    threads: int = Field(
        default=1, ge=1, le=256, description="Batches that each process runs at the same time, in threads."
    )
    resources: Resources | None = Field(
        default=None, description="Resources of the handler's container. Cluster only."
    )
    serving_resources: Resources | None = Field(
        default=None, description="Resources of the model server's container. Cluster only."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterator[Flaw]:
        """Yield what the type needs or refuses, names given twice, and a handler's file that isn't inline."""
        yield from _duplicates(given.get("env"), "env")
        yield from _type_rules(given)
        project = given.get("project")
        inline = project.get("inline") if isinstance(project, dict) else None
        path = given.get("path")
        if isinstance(inline, dict) and isinstance(path, str) and path not in inline:
            yield Flaw(
                ("path",), repr(path), f"a file of project.inline ({join(list(inline), 'or')})", nearest(path, inline)
            )


def _type_rules(given: Mapping[str, Any]) -> Iterator[Flaw]:
    if given.get("type") == "tensorflow" and "models" not in given:
        yield Flaw(("models",), "nothing", "models with path, paths or dir, because type is tensorflow")
    if given.get("type") != "python":
        return
    if "path" not in given:
        yield Flaw(("path",), "nothing", "the handler's file, because type is python (the built-in handler predicts)")
    for name in ("models", "servingImage", "servingResources"):
        if name in given:
            yield Flaw((name,), name, f"no {name}, because type is python (a job with models has type tensorflow)")
