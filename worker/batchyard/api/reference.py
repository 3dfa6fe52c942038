"""Write ``docs/reference/batchjob.md`` from the models: ``python -m batchyard.api.reference OUT.md``.

A test fails when the file differs, so the docs say what the checks check.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from batchyard.api import words
from batchyard.api.manifest import MAX_BYTES
from batchyard.api.scalars import SET_BY_KUBERNETES
from batchyard.api.spec import MUTABLE, BatchJob
from batchyard.api.status import ConditionType, FailureReason, Reason, StallReason, State, Status
from batchyard.api.strict import fields

_HEAD = """\
# The BatchJob

<!-- Written by `make docs` from the models; edits here are lost. -->

```yaml
apiVersion: batchyard.dev/v1alpha1
kind: BatchJob
metadata:
  name: digits
spec:
  handler:
    type: tensorflow
    path: handler.py
    models:
      path: models/digits
  input:
    delimitedFiles:
      paths: [digits.jsonl]
    batchSize: 100
  workers: 2
  output:
    path: results
```

`batchyard validate batchjob.yaml` checks a manifest; `batchyard run` checks it with the same words. Each wrong field
gets one line that says where it stands, what was found, what is expected, and the nearest valid name.

## How a manifest is read

- **YAML 1.2**: `yes`, `no`, `on`, `off` and dates are strings; `true` and `false` are the booleans. A string that
  reads as a number needs quotes (`"12"`). JSON is YAML, too.
- **Nothing is converted**: `"4"` is no number and `4` is no duration.
- **null is left out**: as in Kubernetes, a field with the value null counts as not given. Inside `config`,
  `items` and what is taken over from Kubernetes null stays null.
- **Durations** are numbers with the units `ms`, `s`, `m` and `h`: `250ms`, `30s`, `1h30m`. The longest is `8760h`.
- **Paths** that are relative start at the manifest's folder.
- **One BatchJob a file**: other documents in the file (a ConfigMap, say) are named and left alone. A file has at most
  {megabytes} MiB.
- **`--set path=value`** sets a single value over the file's: `--set spec.workers=4`, `--set
  handler.models.paths[0].path=models/b` (`spec.` may be left out), `--set output=null`. The value is YAML; an index
  one past a list's end appends; `\\.` is a dot inside a name.

Once a job exists, its `spec` can't be changed but for {mutable}.
"""


def render() -> str:
    """Return the page."""
    mutable = ", ".join(f"`{name}`" for name in MUTABLE)
    parts = [_HEAD.format(megabytes=MAX_BYTES >> 20, mutable=mutable)]
    parts += [_section(path, model) for path, model in _models(BatchJob, "") if path.split(".")[0] != "status"]
    parts.append("## Status\n\nWritten by Batchyard; a manifest need not have one, and what it says is ignored.\n")
    parts += [_section(path, model) for path, model in _models(Status, "status")]
    parts.append(_constants("States", State, "`status.state`. The last four are ends."))
    parts.append(_constants("Reasons", Reason, "`status.reason`, and the reason that ends a run on one machine."))
    parts.append(
        _constants("Conditions", ConditionType, "`status.conditions[].type`, each with a question to answer.")
    )
    parts.append(
        _constants("Reasons of stalls", StallReason, "The reason of the condition `Stalled`, and of a job in it.")
    )
    parts.append(_constants("Reasons of failed batches", FailureReason, "`status.failures[].reason`."))
    return "\n".join(parts)


def _models(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every object of the tree with its path, a parent before its children."""
    yield path, model
    for alias, name in fields(model).items():
        place = words.place_of(model.model_fields[name])
        inner = place.below()
        if inner.model is not None:
            below = f"{path}.{alias}" if path else alias
            yield from _models(inner.model, below if inner is place else f"{below}[]")


def _section(path: str, model: type[BaseModel]) -> str:
    lines = [f"### {path or 'BatchJob'}", "", inspect.cleandoc(model.__doc__ or ""), ""]
    lines += ["| field | type | default | |", "| --- | --- | --- | --- |"]
    for alias, name in fields(model).items():
        field = model.model_fields[name]
        place = words.place_of(field)
        if words.words_of(place) is SET_BY_KUBERNETES:
            continue
        kind = words.short_type(place)
        if place.below().model is not None:
            below = f"{path}.{alias}" if path else alias
            anchor = below if place.model is not None else f"{below}[]"
            kind = f"[{kind}](#{_anchor(anchor)})"
        lines.append(f"| `{alias}` | {_cell(kind)} | {_cell(_default(field))} | {_cell(field.description or '')} |")
    hidden = sorted(set(fields(model)) - set(words.written(model)))
    if hidden:
        lines += ["", f"What Kubernetes sets is taken and ignored: {', '.join(f'`{name}`' for name in hidden)}."]
    return "\n".join(lines) + "\n"


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading: lower case, without dots and brackets."""
    return "".join(c for c in heading.lower() if c.isalnum() or c in "-_")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = _plain(field.get_default(call_default_factory=True))
    return "" if value in (None, "", [], {}) else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _plain(value: Any) -> Any:
    """Return a default as a manifest writes it; an object of defaults is told in its own section."""
    return None if isinstance(value, BaseModel) else str(value) if isinstance(value, str) else value


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _constants(title: str, constants: type[StrEnum], intro: str) -> str:
    rows = [f"| `{c.value}` | {_cell(getattr(c, 'told', ''))} |" for c in constants]
    return "\n".join([f"### {title}", "", intro, "", "| | |", "| --- | --- |", *rows]) + "\n"


def main(arguments: list[str]) -> int:
    """Write the page to the one argument. Returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m batchyard.api.reference OUT.md\n")
        return 2
    out = Path(arguments[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
