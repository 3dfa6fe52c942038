"""What a model server is told to load; apart because two servers, ours and TF Serving's, read the same words."""

from collections.abc import Sequence

from batchyard.models.local import ServedModel


def config_text(models: Sequence[ServedModel]) -> str:
    """Return the text of ``--model_config_file``: every version of every model is loaded.

    All, not the server's default of the latest alone: a handler may ask for any version, and ``latest`` must mean
    the same to each worker of a job.
    """
    entries = [
        "  config {\n"
        f"    name: {_quoted(model.name)}\n"
        f"    base_path: {_quoted(str(model.base_path))}\n"
        '    model_platform: "tensorflow"\n'
        "    model_version_policy { all {} }\n"
        "  }\n"
        for model in models
    ]
    return f"model_config_list {{\n{''.join(entries)}}}\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
