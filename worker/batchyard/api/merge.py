"""Deep merge of a handler's config: the API's, with the job's over it. Apart because both sides of a merge use it."""

import copy
from collections.abc import Mapping
from typing import Any


def deep_merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``override`` over it; neither input shares anything with the result.

    Objects merge by key, at any depth. Everything else is replaced: lists as a whole, also by a shorter one, and
    any value by None.
    """
    merged = {key: _copy(value) for key, value in base.items()}
    for key, value in override.items():
        below = base.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = deep_merge(below, value)
        else:
            merged[key] = _copy(value)
    return merged


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, Mapping) else copy.deepcopy(value)
