"""Text in files that are compressed where their names say so: written piece by piece, and read as far as it goes."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from .zstd import ERRORS as ZSTD_ERRORS
from .zstd import ZstdCompressor
from .zstd import decompressor as zstd_decompressor

#: Read from a file at a time, and made of a compressed one at most at a time.
_READ_BYTES: Final = 16 * 1024
_PIECE_BYTES: Final = 64 * 1024
#: With header and trailer of gzip (RFC 1952).
_GZIP_WINDOW: Final = 31
#: Two thirds of the time of the default, which is 6, for a tenth more on the disk.
_GZIP_LEVEL: Final = 4


class Cut(Exception):
    """A compressed file ends before its text does."""


class Damaged(Exception):
    """A compressed file is not what its name says, from some place on; the text of it says where."""


class Compressor(Protocol):
    """Makes bytes for a file of text."""

    def compress(self, text: bytes) -> bytes:
        """Return what is to be written now; the rest is kept."""

    def sync(self) -> bytes:
        """Return what makes all of it readable."""

    def finish(self) -> bytes:
        """Return the end."""


class _Plain:
    def compress(self, text: bytes) -> bytes:
        return text

    def sync(self) -> bytes:
        return b""

    finish = sync


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def compress(self, text: bytes) -> bytes:
        return self._inner.compress(text)

    def sync(self) -> bytes:
        return self._inner.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._inner.flush()


class _Gunzip:
    """Decompresses one member of a gzip file, up to the very byte that is damaged."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP_WINDOW)
        self._left = b""
        self._damage: zlib.error | None = None
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, compressed: bytes, max_length: int) -> bytes:
        if self._damage is not None:
            raise self._damage
        compressed = self._left + compressed
        before = self._inner.copy()
        try:
            text = self._inner.decompress(compressed, max_length)
        except zlib.error as error:
            self._damage, self.needs_input = error, False
            return _up_to_the_damage(before, compressed)
        self._left = self._inner.unconsumed_tail
        self.needs_input = not self._left and len(text) < max_length
        return text


def _up_to_the_damage(inner: Any, compressed: bytes) -> bytes:
    """Return what a call that failed would have returned but for the damage."""
    text = bytearray()
    try:
        while byte := inner.decompress(compressed, 1):
            text += byte
            compressed = inner.unconsumed_tail
    except zlib.error:
        pass  # which has been met before
    return bytes(text)


class _Form(NamedTuple):
    """What the end of a file's name stands for."""

    name: str
    compressor: Callable[[], Compressor]
    decompressor: Callable[[], Any]
    errors: tuple[type[Exception], ...]


_FORMS: Final = {
    ".gz": _Form("gzip", _Gzip, _Gunzip, (zlib.error,)),
    ".zst": _Form("zstd", ZstdCompressor, zstd_decompressor, ZSTD_ERRORS),
}
#: The ends of the names of compressed files.
SUFFIXES: Final = tuple(_FORMS)


class TextFile:
    """A new file for text, compressed where its name ends in one of ``SUFFIXES``.

    Raises ``FileExistsError``, unless ``overwrite``, and other ``OSError``; ``ConfigurationError`` where an extra is
    missing. After an error of the disk all more of it raises ``OSError``: what follows half a line could not be read.
    For one thread at a time; blocks as long as the disk does.
    """

    def __init__(self, name: str, *, overwrite: bool = False) -> None:
        form = _FORMS.get(os.path.splitext(name)[1])
        self._compressor: Compressor = _Plain() if form is None else form.compressor()
        self._file: BinaryIO = open(name, "wb" if overwrite else "xb", buffering=0)  # noqa: SIM115
        self._is_broken = False
        self.name = name
        self.size = 0  # on the disk

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._file.closed

    def write(self, text: bytes) -> None:
        """Add text, of which a compressor may keep some until the next ``sync``."""
        self._put(self._compressor.compress(text))

    def sync(self) -> None:
        """Let all that was written be readable by others, and survive the process."""
        self._put(self._compressor.sync())

    def close(self) -> None:
        """Finish the file; idempotent."""
        try:
            if not self.closed and not self._is_broken:
                self._put(self._compressor.finish())
        finally:
            self._file.close()

    def _put(self, data: bytes) -> None:
        if self._is_broken:
            raise OSError(f"the file {self.name} ended with an error before")
        rest = memoryview(data)
        try:
            while rest:
                written = self._file.write(rest)
                self.size += written
                rest = rest[written:]
        except OSError:
            self._is_broken = True
            raise


def read_text(name: str) -> Iterator[bytes]:
    """Yield the text of a file in pieces.

    Raises ``Cut`` after what could be read of a compressed file that was cut off, ``Damaged`` after what is sound of
    one that is damaged, and ``OSError``.
    """
    form = _FORMS.get(os.path.splitext(name)[1])
    with open(name, "rb", buffering=0) as file:
        pieces = iter(lambda: file.read(_READ_BYTES), b"")
        if form is None:
            yield from pieces
            return
        fed, member, is_first = 0, None, True
        try:
            for data in pieces:
                fed += len(data)
                while data or (member is not None and not member.needs_input):
                    if member is None:
                        # Behind the first member a gzip file may be filled up with zeros.
                        data = data if is_first else data.lstrip(b"\0")
                        member = form.decompressor() if data else None
                        continue
                    yield member.decompress(data, _PIECE_BYTES)
                    data = b""
                    if member.eof:
                        data, member, is_first = member.unused_data, None, False
        except form.errors as error:
            size = os.fstat(file.fileno()).st_size
            place = f"at byte {max(0, fed - _READ_BYTES):,} to {fed:,} of {size:,}"
            raise Damaged(f"not a sound {form.name} file ({error}, {place})") from None
        if member is not None:
            raise Cut
