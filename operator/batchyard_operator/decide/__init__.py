"""From one frozen Observation to one Decision: pure rules, no clock and no I/O."""

from batchyard_operator.decide.rules import decide
from batchyard_operator.decide.turn import Limits

__all__ = ["Limits", "decide"]
