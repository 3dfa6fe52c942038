"""Single values of a manifest as types: durations, quantities, names, places. Apart because every object uses them.

Each type carries ``Words``, what it expects in plain words: problems and the reference say the same.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_PART = r"[0-9]+(\.[0-9]+)?(ms|s|m|h)"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 8760 * 3600.0
"""Seconds of the longest duration, a year: timers of operating systems take it, and nobody means more."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a value is expected to be, to be read after "expected"; ``short`` is the type's name in tables."""

    expected: str
    short: str = "string"


@dataclass(frozen=True, slots=True)
class Matches:
    """What a check in Python means to the API server: patterns (RE2, unanchored) of which each must be found."""

    patterns: tuple[str, ...]


class Duration(str):
    """A duration as written, ``1h30m``; ``seconds`` is its length. Raises ValueError when it isn't one."""

    __slots__ = ("seconds",)
    words: ClassVar[Words] = Words("a duration such as 250ms, 30s, 5m or 1h30m (at most 8760h)", "duration")
    pattern: ClassVar[str] = f"^({_PART})+$"
    seconds: float

    def __new__(cls, text: str) -> "Duration":
        """Parse ``text``: numbers with the units ms, s, m and h, added up, as Go and Kubernetes write them."""
        if not re.fullmatch(f"({_PART})+", text, re.ASCII):
            raise ValueError(f"not a duration: {text!r}")
        made = super().__new__(cls, text)
        parts = re.findall(r"([0-9.]+)([a-z]+)", text)
        made.seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        if made.seconds > LONGEST:
            raise ValueError(f"longer than 8760h: {text!r}")
        return made

    def __getnewargs__(self) -> tuple[str]:
        """Let copies and pickles be made from the text alone."""
        return (str(self),)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Take text alone: a plain number would leave its unit open."""
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(strict=True),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema that the API server checks."""
        return {"type": "string", "pattern": cls.pattern}


def seconds_of(value: Any) -> float | None:
    """Return the seconds of a duration's text, None when it is no duration."""
    try:
        return Duration(value).seconds if isinstance(value, str) else None
    except ValueError:
        return None


def _above_zero(value: Duration) -> Duration:
    if value.seconds <= 0:
        raise ValueError("not above zero")
    return value


def _place(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not value.strip() or (separator and (scheme != "s3" or not rest.strip("/"))):
        raise ValueError("no place")
    return value


def is_inside(path: str) -> bool:
    """Tell whether a relative path stays inside its folder: not absolute, no ``..``, no backslash."""
    return bool(path) and not path.startswith("/") and "\\" not in path and ".." not in path.split("/")


def _python_file(value: str) -> str:
    if not is_inside(value) or not value.endswith(".py"):
        raise ValueError("no file of the project")
    return value


def _quantity(value: Any) -> Any:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


_NOT_BLANK = r"[^\s\x{0b}\x{1c}-\x{1f}\x{85}\p{Z}]"  # what str.strip leaves
_NO_SCHEME = r"^([^:]|:(:|/:)*([^:/]|/[^:/]))*(:(:|/:)*/?)?$"  # no :// anywhere
_S3 = r"^s3:///*[^/]"
_FOLDER = r"(\.|\.{0,2}[^./\\][^/\\]*|\.\.[^/\\]+)"  # a name in a path, and not ".."
_PYTHON_FILE = rf"^({_FOLDER}/({_FOLDER}?/)*)?[^/\\]*\.py$"

PositiveDuration = Annotated[
    Duration,
    AfterValidator(_above_zero),
    Matches(("[1-9]",)),
    Words("a duration above zero, such as 30s, 5m or 1h30m (at most 8760h)", "duration"),
]

MAX_JOB_NAME = 50  # <job>-workers-9999, the last pod's host name, must fit into the 63 of a DNS label
JOB_NAME = Words("at most 50 lowercase letters, digits and dashes, with a letter or digit first and last")
JobName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=MAX_JOB_NAME), JOB_NAME]

ModelName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.-]+$"), Words("a name of letters, digits, underscores, dots and dashes")
]

EnvName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$"),
    Words("a name of letters, digits, underscores, dots and dashes that starts with a letter or an underscore"),
]

Text = Annotated[str, Field(min_length=1), Words("a string that is not empty")]

Place = Annotated[
    str,
    AfterValidator(_place),
    Matches((_NOT_BLANK, f"{_NO_SCHEME}|{_S3}")),
    Words("a local path or s3://bucket/prefix", "path or s3:// URL"),
]
"""A folder, file or prefix. Relative local paths start at the manifest's folder."""

S3Url = Annotated[str, Field(pattern=r"^s3://[^/]+/.+$"), Words("a URL such as s3://bucket/project.zip", "s3:// URL")]

PythonFile = Annotated[
    str,
    AfterValidator(_python_file),
    Matches((_PYTHON_FILE,)),
    Words("a .py file inside the project folder, such as handler.py", "path"),
]

AbsolutePath = Annotated[str, Field(pattern=r"^/"), Words("an absolute path, such as /app", "path")]

Image = Annotated[str, Field(pattern=r"^\S+$"), Words("an image name without spaces, such as example/handler:1.0")]

Version = Annotated[
    str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-?[A-Za-z0-9.]+)?$"), Words('a version in quotes, such as "2.3.0"')
]

QUANTITY = Words("a Kubernetes quantity, such as 2, 500m or 4Gi", "quantity")
Quantity = Annotated[
    str,
    BeforeValidator(_quantity),
    Field(pattern=r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?$"),
    QUANTITY,
]

SET_BY_KUBERNETES = Words("whatever Kubernetes set", "set by Kubernetes")
SetByKubernetes = Annotated[Any, SET_BY_KUBERNETES]
"""A field that nobody writes; it is there in what the API server gives back."""

KUBERNETES_OBJECT = Words("an object as in Kubernetes", "object, as in Kubernetes")
KubernetesObject = Annotated[dict[str, Any], KUBERNETES_OBJECT]
"""A subtree that the API server checks; copied into the pod as it is."""
