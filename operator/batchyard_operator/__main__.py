"""`python -m batchyard_operator SETTINGS.yaml`: puts the operator together and runs it until SIGTERM."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from batchyard.api.errors import BatchyardError, InvalidError
from batchyard.queue.jetstream_watch import JetStreamWatch
from pydantic import ValidationError

from batchyard_operator import handlers, logs
from batchyard_operator.act.budget import Budget
from batchyard_operator.act.children import Children
from batchyard_operator.act.door import Door
from batchyard_operator.act.errors import Refused
from batchyard_operator.act.paths import BATCHJOBS, JOBS, PODS, path
from batchyard_operator.act.status import Statuses
from batchyard_operator.cycle import Cycle, Making
from batchyard_operator.decide import Limits, decide
from batchyard_operator.model import JOB_LABEL, Decision, JobSeen, Key, Observation, Wanted
from batchyard_operator.observe.caches import Caches, Change
from batchyard_operator.observe.look import Looks
from batchyard_operator.observe.sweep import Sweep
from batchyard_operator.render import render, scaling
from batchyard_operator.settings import OperatorSettings
from batchyard_operator.workqueue import WorkQueue

log = logging.getLogger("batchyard_operator")

SWEEP = 60.0
"""Seconds between two sweeps."""

STUCK = 180.0
"""Seconds after which a turn that does not end, a key that gets no worker, or a silent watch means a restart."""

GOODBYE = 10.0
"""Seconds that turns under way get to end after SIGTERM."""

_COALESCED = 0.1  # seconds in which the events of one job's children become one turn
_CREDENTIALS = ("NATS_USER", "NATS_PASSWORD", "NATS_TOKEN")


class Operator:
    """Everything of one operator, wired."""

    def __init__(self, settings: OperatorSettings, door: Door, queues: JetStreamWatch) -> None:
        self.settings = settings
        self.door = door
        self.queues = queues
        self.queue: WorkQueue[Key] = WorkQueue()
        self.caches = Caches(self._changed)
        self.sweep = Sweep(self.caches, self._listed)
        self.looks = Looks(self.caches, queues, door.get)
        limits = Limits(startup=float(settings.pods.startup))
        credentials = {name: os.environ[name] for name in _CREDENTIALS if os.environ.get(name)}

        def decided(seen: Observation) -> Decision:
            return decide(seen, limits)

        def rendered(seen: JobSeen, started: float, wanted: Wanted) -> list[dict[str, Any]]:
            return render(seen, settings, started, wanted, credentials)

        self.cycle = Cycle(
            self.looks,
            decided,
            rendered,
            Children(door, self.caches, scaling),
            Statuses(door, self.caches),
            queues,
            Making(settings.queue.lease, settings.queue.replicas),
            Budget(settings.status_writes, time.monotonic()),
        )
        self._names: dict[str, Key] = {}

    def _changed(self, key: Key, change: Change) -> None:
        if change is Change.URGENT:
            self.queue.add(key, urgent=True)
        else:
            self.queue.add_after(key, _COALESCED)

    def woken(self, name: str) -> None:
        """Look at the job of a queue at once."""
        uid = name.removeprefix("bj-")
        key = self._names.get(uid)
        if key is None or (kept := self.caches.jobs.get(key)) is None or kept.seen.uid != uid:
            self._names = {kept.seen.uid: key for key, kept in self.caches.jobs.items()}
            key = self._names.get(uid)
        if key is not None:
            self.queue.add(key)

    async def _listed(self, kind: str) -> AsyncIterator[dict[str, Any]]:
        resource = {"jobs": BATCHJOBS, "children": JOBS, "pods": PODS}[kind]
        for namespace in self.settings.namespaces or [""]:
            selector = "" if kind == "jobs" else JOB_LABEL
            try:
                async for metadata in self.door.metadata(path(resource, namespace), selector):
                    yield metadata
            except Refused as error:
                if not namespace:
                    raise
                log.warning("cannot list what there is: %s", error)
                for metadata in self._kept(kind, namespace):
                    yield metadata

    def _kept(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """Return what stands for the list of a namespace that we may not look into: the others go on."""
        kept = self.caches.everything()
        return [
            {"uid": uid, "resourceVersion": str(version)}
            for each, uid, key, _, version in kept
            if each == kind and key.namespace == namespace
        ]

    def health(self) -> str:
        """Return what is wrong with this process, "" when nothing is."""
        return unhealthy(self.queue.longest(), self.sweep.overdue())

    # --- what runs beside the watches ---
    async def turns(self) -> None:
        """Wait until the watches have told what there is, then run turns until stopped."""
        await self._until_known()
        log.info("%d jobs known", len(self.caches.jobs))
        await self.queue.run(self.settings.turns, self.cycle.turn)

    async def _until_known(self) -> None:
        missing: set[str] | None = None
        while missing is None or missing - self.caches.uids():
            try:
                found = await self.sweep.run()
            except BatchyardError as error:
                log.warning("cannot list what there is: %s", error)
                await asyncio.sleep(1)
                continue
            missing = found if missing is None else missing & found
            for _ in range(20):  # a list a second at most
                if not missing - self.caches.uids():
                    return
                await asyncio.sleep(0.1)

    async def sweeps(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(SWEEP)
            try:
                await self.sweep.run()
            except BatchyardError as error:
                log.warning("cannot list what there is: %s", error)

    async def wakes(self) -> None:
        """Listen to what queues tell; look at jobs whose queue was away as soon as the servers are back."""
        connections = -1
        while True:
            try:
                if connections < 0:
                    await self.queues.listen(self.woken)
                    connections = 0
            except BatchyardError as error:
                log.warning("%s", error)
            if self.queues.connections > max(connections, 0):
                for key in self.looks.away():
                    self.queue.add(key)
                connections = self.queues.connections
            await asyncio.sleep(0.5)


def unhealthy(longest: float, overdue: float) -> str:
    """Return what is wrong with a process of these times, seconds; servers that are away are not its fault.

    A request has a time-out, so a turn that does not end, or gets no worker, means that this process hangs. What is
    listed and never told means that a watch does; while nothing can be listed nothing is said of the watches.
    """
    if longest > STUCK:
        return f"a turn waits or runs since {longest:.0f} s"
    return f"a watch tells nothing since {overdue:.0f} s" if overdue > STUCK else ""


def load(file: str) -> OperatorSettings:
    """Return the settings in a file. Raises SystemExit with a sentence for each thing wrong."""
    try:
        found = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        return OperatorSettings.model_validate(found or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        sys.exit(f"{file}: the settings can't be read: {error}")
    except ValidationError as error:
        sys.exit("\n".join(f"{file}: {_where(each)}: {each['msg']}" for each in error.errors(include_input=False)))


def _where(error: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in error["loc"]) or "the settings"


async def served(door: Door) -> None:
    """Wait until the API server knows BatchJobs: watches of a kind that isn't there would never begin."""
    told = False
    while True:
        try:
            await door.get("/apis/batchyard.dev/v1alpha1")
        except BatchyardError as error:
            if not told:
                log.warning("waiting for the API server to serve BatchJobs: %s", error)
                told = True
            await asyncio.sleep(0.5)
        else:
            return


async def run(settings: OperatorSettings) -> None:
    """Run the operator until SIGTERM or SIGINT; turns under way end first."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    door, queues = await Door.open(), await JetStreamWatch.open(settings.queue.url)
    try:
        operator = Operator(settings, door, queues)
        if not await _first(served(door), stopping):
            return
        beside = [asyncio.create_task(each()) for each in (operator.turns, operator.sweeps, operator.wakes)]
        await _watch(operator, stopping, beside)
    finally:
        await queues.close()
        await door.close()


async def _watch(operator: Operator, stopping: asyncio.Event, beside: list[asyncio.Task[None]]) -> None:
    stop = asyncio.Event()
    settings = operator.settings
    tasks = await handlers.spawn(
        handlers.registry(operator.caches, operator.health),
        handlers.settings(),
        settings.namespaces,
        settings.liveness_port,
        stop,
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # kopf took them
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    watches = asyncio.create_task(handlers.join(tasks, asyncio.all_tasks() - set(tasks)))
    try:
        ends = [asyncio.create_task(stopping.wait()), watches, *beside]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        operator.queue.stop()
        await asyncio.wait(beside[:1], timeout=GOODBYE)
        stop.set()
        await _cancelled(beside)
        await asyncio.wait([watches], timeout=GOODBYE)
    for task in (*beside, watches):
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error
    if not stopping.is_set():
        raise SystemExit("the watches ended by themselves")


async def _first(work: Any, stopping: asyncio.Event) -> bool:
    """Do work unless told to stop before; return whether it was done."""
    tasks = [asyncio.ensure_future(work), asyncio.create_task(stopping.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    done: bool = tasks[0].done()
    await _cancelled(tasks)
    if done:
        tasks[0].result()
    return done


async def _cancelled(tasks: Iterable["asyncio.Task[Any] | asyncio.Future[Any]"]) -> None:
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def main(arguments: list[str]) -> None:
    """Run with the settings in the one file named."""
    if len(arguments) != 1:
        sys.exit("usage: python -m batchyard_operator SETTINGS.yaml")
    settings = load(arguments[0])
    logs.configure(settings.log_level)
    try:
        asyncio.run(run(settings))
    except InvalidError as error:
        sys.exit(f"{arguments[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
