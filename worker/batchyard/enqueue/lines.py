"""Lines of a byte stream, with their places: what the readers of JSON values and of CSV share.

Blocks come in, lines go out; nothing is read ahead beyond a block, and lines can be given back, so that a value that
spans lines can be tried and undone. Memory is one block plus the longest line.
"""

from collections.abc import Iterator

from batchyard.enqueue.split import InputInvalid

MAX_VALUE = 256 << 20
"""Bytes of one line, or of one value that spans lines: more is not an item but a file in the wrong format."""


class Lines:
    """A stream of lines. ``offset`` and ``number`` are those of the line that ``take`` returns next.

    ``shown`` is the file's name for messages. Offsets count bytes from the start of the (decompressed) file; a last
    line without a newline counts as if it had one, which is beyond the end and reads as nothing when entered there.
    """

    def __init__(
        self, blocks: Iterator[bytes], offset: int = 0, number: int = 1, *, shown: str = "", limit: int = MAX_VALUE
    ) -> None:
        self.shown = shown
        self.offset = offset
        self.number = number
        self._limit = limit
        self._blocks = blocks
        self._ready: list[bytes] = []
        self._at = 0  # of the next line in _ready
        self._tail: list[bytes] = []  # pieces of a line whose end was not read yet
        self._ended = False

    def take(self) -> bytes | None:
        """Return the next line without its newline, None at the end.

        Raises InputInvalid for a line over the limit.
        """
        if self._at == len(self._ready) and not self._fill():
            return None
        raw = self._ready[self._at]
        self._at += 1
        self.offset += len(raw) + 1
        self.number += 1
        return raw

    def take_many(self, most: int) -> list[bytes]:
        """Return up to ``most`` lines, as many as are at hand; none at the end."""
        if self._at == len(self._ready) and not self._fill():
            return []
        taken = self._ready[self._at : self._at + most]
        self._at += len(taken)
        self.offset += sum(map(len, taken)) + len(taken)
        self.number += len(taken)
        return taken

    def give_back(self, lines: list[bytes]) -> None:
        """Undo the taking of these lines, the newest last."""
        if len(lines) <= self._at:
            self._at -= len(lines)
        else:  # the lines of another block came between
            self._ready = lines + self._ready[self._at :]
            self._at = 0
        self.offset -= sum(map(len, lines)) + len(lines)
        self.number -= len(lines)

    def _fill(self) -> bool:
        held = 0
        while not self._ended:
            block = next(self._blocks, b"")
            if not block:
                self._ended = True
                if not self._tail:
                    return False
                self._ready, self._at = [b"".join(self._tail)], 0
                self._tail = []
                return True
            pieces = block.split(b"\n")
            if len(pieces) == 1:
                self._tail.append(block)
                held += len(block)
                if held > self._limit:
                    raise InputInvalid(
                        f"{self.shown}:{self.number}: found more than {self._limit >> 20} MiB without a newline, "
                        "expected one item a line; " + ARRAY_ADVICE
                    )
                continue
            if self._tail:
                self._tail.append(pieces[0])
                pieces[0] = b"".join(self._tail)
                self._tail = []
            rest = pieces.pop()
            if rest:
                self._tail.append(rest)
            self._ready, self._at = pieces, 0
            return True
        return False


ARRAY_ADVICE = "turn a JSON array into one element a line (jq -c '.[]' data.json > data.jsonl)."
