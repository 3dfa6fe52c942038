"""One connection to NATS a process and server; the only place that imports nats.

A lost connection is replaced by a new client instead of being revived, for ever and every 0.2 s: what waited in the
old one's buffer is dropped, so no acknowledgement of a lease that has ended since is sent after all, and no state of
a client (closed for good after a protocol error, say) can end our patience. Whoever waits for an answer when the
connection is lost learns so at once.
"""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import nats
import nats.errors
from nats.aio.client import Client

from batchyard.queue.jetstream_thread import current
from batchyard.queue.port import QueueUnavailable

CONNECT_PATIENCE = 5.0
ANSWER_PATIENCE = 10.0
_RECONNECT = 0.2


class Answer(NamedTuple):
    """A message: ``status`` is the server's code when it is a word about messages and not one itself, else ""."""

    subject: str
    reply: str
    headers: dict[str, str]
    data: bytes
    status: str


class Message(NamedTuple):
    """A message to send. ``reply``: whether an answer is waited for."""

    subject: str
    data: bytes = b""
    headers: dict[str, str] | None = None
    reply: bool = True


class NoResponders(Exception):
    """Nobody listens on the subject: the stream or the consumer is gone, or the server is not ready."""


Callback = Callable[[Answer], None]


@dataclass(slots=True)
class _Wait:
    """Answers that a request waits for."""

    left: int
    done: asyncio.Future[None]
    answers: list[Answer | None] = field(default_factory=list)
    until_status: bool = False


async def shared(servers: tuple[str, ...]) -> "Wire":
    """Return this process's connection to the servers; call its ``release`` once for each call."""
    wires = current().wires
    wire = wires.get(servers)
    if wire is None:
        wire = wires[servers] = Wire(servers)
    wire.users += 1
    return wire


def _credentials() -> dict[str, Any]:
    """Return what the environment says about who we are."""
    env = {key: os.environ.get(f"NATS_{key}") for key in ("USER", "PASSWORD", "TOKEN", "CREDS")}
    names = {"USER": "user", "PASSWORD": "password", "TOKEN": "token", "CREDS": "user_credentials"}
    return {names[key]: value for key, value in env.items() if value}


async def _quiet(*_: object) -> None:
    """Take what the client wants to tell: each error reaches whoever waits for an answer."""


class Wire:
    """A connection that comes back. All methods run on the loop's thread."""

    def __init__(self, servers: tuple[str, ...]) -> None:
        self.servers = servers
        self.users = 0
        self.number = 0  # of connections made so far
        self._inbox = f"_INBOX.{os.urandom(12).hex()}"
        self._numbers = itertools.count()
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._problem = "not connected yet"
        self._subscriptions: dict[tuple[str, str], Callback] = {}
        self._live: dict[tuple[str, str], Any] = {}
        self._waits: dict[str, _Wait] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._keeper = asyncio.create_task(self._keep())

    async def release(self) -> None:
        """Close the connection with its last user."""
        self.users -= 1
        if self.users == 0:
            current().wires.pop(self.servers, None)
            await self.close()

    async def close(self) -> None:
        """Close a connection that is not shared."""
        while not self._keeper.done():  # one that comes while the client connects may be lost in its waiting
            self._keeper.cancel()
            await asyncio.wait([self._keeper], timeout=0.5)

    # --- connecting ---
    async def _keep(self) -> None:
        while True:
            client = Client()
            self._lost.clear()
            try:
                async with asyncio.timeout(CONNECT_PATIENCE):
                    await self._connect(client)
                self._client = client
                self.number += 1
                self._up.set()
                await self._lost.wait()
                self._problem = "the connection was lost"
            except Exception as error:  # noqa: BLE001 - whatever the client trips over: else nobody connects again
                self._problem = str(error) or type(error).__name__
            finally:
                self._up.clear()
                self._client = None
                self._fail_all()
                with suppress(Exception):
                    await client.close()
            await asyncio.sleep(_RECONNECT)

    async def _connect(self, client: Client) -> None:
        async def lost() -> None:
            self._lost.set()

        await client.connect(
            servers=list(self.servers),
            allow_reconnect=False,
            connect_timeout=2,
            ping_interval=10,
            max_outstanding_pings=2,
            error_cb=_quiet,
            disconnected_cb=lost,
            closed_cb=lost,
            **_credentials(),
        )
        await self._listen(client, f"{self._inbox}.>", self._answered)
        for (subject, who), callback in list(self._subscriptions.items()):
            await self._listen(client, subject, callback, who)
        await client.flush(2)

    async def _listen(self, client: Client, subject: str, callback: Callback, who: str = "") -> None:
        async def deliver(message: Any) -> None:
            headers = message.headers or {}
            status = headers.get("Status", "")
            callback(Answer(message.subject, message.reply, headers, message.data, status))

        live = await client.subscribe(subject, cb=deliver, pending_msgs_limit=0, pending_bytes_limit=0)
        self._live[subject, who] = live

    def _fail_all(self) -> None:
        waits, self._waits = self._waits, {}
        for wait in waits.values():
            if not wait.done.done():
                wait.done.set_exception(self.unavailable("the connection was lost"))

    def unavailable(self, why: str) -> QueueUnavailable:
        """Return the error that says that, and why, the servers cannot be used."""
        return QueueUnavailable(f"queue at {', '.join(self.servers)}: {why}")

    async def client(self) -> Client:
        """Return a connected client. Raises QueueUnavailable when there is none within a few seconds."""
        if self._client is None:
            try:
                await asyncio.wait_for(self._up.wait(), CONNECT_PATIENCE)
            except TimeoutError:
                raise self.unavailable(f"cannot be reached: {self._problem}") from None
        if self._client is None:
            raise self.unavailable(f"cannot be reached: {self._problem}")
        return self._client

    @property
    def problem(self) -> str:
        """Why there was no connection when there was none."""
        return self._problem

    @property
    def is_up(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._client is not None

    async def server_id(self) -> str:
        """Return the server's name for itself, new each time that it starts."""
        found = (await self.client())._server_info["server_id"]  # the client has no public word for it
        return str(found)

    async def max_payload(self) -> int:
        """Return the largest message in bytes that the server takes."""
        size: int = (await self.client()).max_payload
        return size

    # --- talking ---
    def inbox(self) -> str:
        """Return a subject of our own, for ``subscribe``."""
        return f"_INBOX.{os.urandom(12).hex()}"

    async def subscribe(self, subject: str, callback: Callback, who: str = "") -> None:
        """Give ``callback`` what arrives at a subject, also after reconnects, until ``forget``.

        ``who`` keeps apart those who listen to the same subject.
        """
        client = await self.client()
        self._subscriptions[subject, who] = callback
        await self._guarded(lambda: self._listen(client, subject, callback, who))

    async def flush(self) -> None:
        """Wait until the server has read what was sent, subscriptions too."""
        client = await self.client()
        await self._guarded(lambda: client.flush(int(CONNECT_PATIENCE)))

    async def forget(self, subject: str, who: str = "") -> None:
        """Stop taking what arrives at a subject."""
        self._subscriptions.pop((subject, who), None)
        live = self._live.pop((subject, who), None)
        with suppress(nats.errors.Error, OSError):
            if live is not None and self._client is not None:
                await live.unsubscribe()

    async def send(self, message: Message, reply: str = "") -> None:
        """Send a message whose answers come to ``reply``."""
        client = await self.client()
        await self._guarded(lambda: client.publish(message.subject, message.data, reply, message.headers))

    def tell(self, message: Message) -> None:
        """Send a message that nobody answers, if there is a connection; whoever calls neither waits nor fails."""
        if self._client is not None:
            task = asyncio.create_task(self._tell(self._client, message))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, client: Client, message: Message) -> None:
        with suppress(nats.errors.Error, OSError):
            await client.publish(message.subject, message.data)

    async def ask(self, messages: Sequence[Message], patience: float = ANSWER_PATIENCE) -> list[Answer]:
        """Send messages, pipelined, and return the answers to those that wait for one, in order.

        Raises NoResponders, QueueUnavailable.
        """
        wait = await self._ask(messages, until_status=False, patience=patience)
        answers = [answer for answer in wait.answers if answer is not None]
        if any(answer.status == "503" for answer in answers):
            raise NoResponders(messages[0].subject)
        return answers

    async def stream(self, message: Message, patience: float = ANSWER_PATIENCE) -> list[Answer]:
        """Send a message and return all answers up to the one with a status, which is left out."""
        wait = await self._ask([message], until_status=True, patience=patience)
        *answers, last = [answer for answer in wait.answers if answer is not None]
        if last.status == "503":
            raise NoResponders(message.subject)
        if last.status not in ("204", "404"):
            raise self.unavailable(f"answered {last.status} {last.headers.get('Description', '')}".strip())
        return answers

    async def _ask(self, messages: Sequence[Message], *, until_status: bool, patience: float) -> _Wait:
        client = await self.client()
        number = f"{next(self._numbers)}"
        count = sum(message.reply for message in messages)
        wait = _Wait(count, asyncio.get_running_loop().create_future(), [], until_status)
        if not until_status:
            wait.answers = [None] * count
        self._waits[number] = wait
        prefix = f"{self._inbox}.{number}."

        async def send() -> None:
            nth = itertools.count()
            for sent, (subject, data, headers, reply) in enumerate(messages):
                await client.publish(subject, data, f"{prefix}{next(nth)}" if reply else "", headers)
                if sent % 64 == 63:
                    await asyncio.sleep(0)  # let answers in, and bytes out
            await asyncio.wait_for(wait.done, patience)

        try:
            await self._guarded(send)
        finally:
            self._waits.pop(number, None)
            if wait.done.done() and not wait.done.cancelled():
                wait.done.exception()  # looked at, so that nothing is logged of one that nobody waits for
        return wait

    def _answered(self, answer: Answer) -> None:
        number, _, nth = answer.subject[len(self._inbox) + 1 :].partition(".")
        wait = self._waits.get(number)
        if wait is None or wait.done.done():
            return
        if wait.until_status:
            wait.answers.append(answer)
            if answer.status:
                wait.done.set_result(None)
        elif wait.answers[int(nth)] is None:
            wait.answers[int(nth)] = answer
            wait.left -= 1
            if not wait.left:
                wait.done.set_result(None)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run what talks to the client, with the client's errors in our words."""
        try:
            await work()
        except TimeoutError:
            raise self.unavailable("no answer in time") from None
        except (nats.errors.Error, OSError) as error:
            raise self.unavailable(str(error) or type(error).__name__) from error
