"""The contract of a handler: which methods with which arguments; constructs it and calls it.

Everything is read from the signatures once, at start: a handler that could not run is refused before a batch is taken
from the queue, and a batch costs no inspection. Why the rules are as they are:
``docs/decisions/0006-handler-contract.md``.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CoroutineType, ModuleType
from typing import Any, Literal

from batchyard.handler.errors import HandlerInvalid
from batchyard.handler.methods import Rule, find_class, passed

HandlerType = Literal["tensorflow", "python"]

_NO_CLIENT = "handler.type python has none (set spec.handler.type: tensorflow to get it)"
_INIT = {
    "tensorflow": Rule("__init__", True, required=("tensorflow_client", "config"), optional=("job_spec",)),
    "python": Rule(
        "__init__", True, required=("config",), optional=("job_spec",), refused={"tensorflow_client": _NO_CLIENT}
    ),
}
_BATCH = Rule("handle_batch", True, optional=("payload", "batch_id"))
_COMPLETE = Rule("on_job_complete", False)


@dataclass(frozen=True, slots=True)
class HandlerClass:
    """A class that keeps the contract, and what its methods take.

    ``init_arguments`` and ``batch_arguments``: the names that ``__init__`` and ``handle_batch`` are given.
    """

    cls: type
    type: HandlerType
    init_arguments: tuple[str, ...]
    batch_arguments: tuple[str, ...]
    has_on_job_complete: bool

    @property
    def wants_job_spec(self) -> bool:
        """Whether the handler is constructed only once the job's total is known."""
        return "job_spec" in self.init_arguments

    def bind(self, handler: Any) -> Callable[[list[Any], str], Any]:
        """Return a function of (payload, batch_id) that calls ``handle_batch`` with what it takes, by name."""
        method = handler.handle_batch
        takes = ("payload" in self.batch_arguments, "batch_id" in self.batch_arguments)
        calls: dict[tuple[bool, bool], Callable[[list[Any], str], Any]] = {  # `_…` are not taken by this handler
            (True, True): lambda payload, batch_id: _ran(method(payload=payload, batch_id=batch_id)),
            (True, False): lambda payload, _batch_id: _ran(method(payload=payload)),
            (False, True): lambda _payload, batch_id: _ran(method(batch_id=batch_id)),
            (False, False): lambda _payload, _batch_id: _ran(method()),
        }
        return calls[takes]


def check(module: ModuleType, type: HandlerType) -> HandlerClass:  # noqa: A002 - the manifest's word
    """Return what the methods of ``module.Handler`` take.

    Raises HandlerInvalid with file, line, the signature found and the one expected.
    """
    cls = find_class(module)
    return HandlerClass(
        cls=cls,
        type=type,
        init_arguments=passed(module, cls, _INIT[type]) or (),
        batch_arguments=passed(module, cls, _BATCH) or (),
        has_on_job_complete=passed(module, cls, _COMPLETE) is not None,
    )


def construct(
    spec: HandlerClass,
    *,
    tensorflow_client: object = None,
    config: Mapping[str, Any] | None = None,
    job_spec: Mapping[str, Any] | None = None,
) -> object:
    """Return a handler, given by name what its ``__init__`` takes and no more.

    ``config`` and ``job_spec`` are deep copies, so that a handler may change them. ``job_spec``: a dict of
    ``job_id, api_name, config, workers, total_batch_count, start_time``. What ``__init__`` raises is passed on.
    """
    given = {"tensorflow_client": tensorflow_client}
    if "config" in spec.init_arguments:
        given["config"] = copy.deepcopy(dict(config or {}))
    if "job_spec" in spec.init_arguments:
        given["job_spec"] = copy.deepcopy(dict(job_spec or {}))
    handler: object = spec.cls(**{name: given[name] for name in spec.init_arguments})
    return handler


def call_batch(spec: HandlerClass, handler: object, payload: list[Any], batch_id: str) -> Any:
    """Run one batch and return what the handler returns. For many batches keep ``spec.bind(handler)``."""
    return spec.bind(handler)(payload, batch_id)


def call_complete(spec: HandlerClass, handler: Any) -> None:
    """Run ``on_job_complete`` where the handler has one."""
    if spec.has_on_job_complete:
        _ran(handler.on_job_complete())


def _ran(result: Any) -> Any:
    """Refuse a coroutine: an ``async def`` behind a decorator or a plain method, which has not run."""
    if result.__class__ is CoroutineType:
        result.close()
        raise HandlerInvalid(
            f"the handler returned the coroutine of {result.__qualname__}, which has not run: "
            "run async code by asyncio.run(…) and return its result."
        )
    return result
