"""Kubernetes quantities as numbers, as far as a flag needs them."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_PARTS = re.compile(r"([0-9.]+)(?:[eE]([+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def whole_cores(resources: Mapping[str, Any]) -> int | None:
    """Return the CPU limit of a container's resources in whole cores, rounded up, at least 1; None without a limit.

    Raises ValueError for what is no quantity.
    """
    limit = (resources.get("limits") or {}).get("cpu")
    if limit is None:
        return None
    match = _PARTS.fullmatch(str(limit))
    if match is None:
        raise ValueError(f"limits.cpu: found {limit!r}, expected a quantity such as 2 or 500m")
    number, exponent, suffix = match[1], int(match[2] or 0), match[3] or ""
    if suffix.endswith("i"):
        return max(1, math.ceil(Decimal(number) * (1 << 10 * ("KMGTPE".index(suffix[0]) + 1))))
    return max(1, math.ceil(Decimal(number).scaleb(exponent + _DECIMAL.get(suffix, 0))))
