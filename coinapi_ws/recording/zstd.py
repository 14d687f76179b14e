"""Zstandard, which the standard library has since 3.14, and the extra ``coinapi-ws[zstd]`` before."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from ..exceptions import ConfigurationError


def _found() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return import_module(name)
    return None


_ZSTD: Final = _found()

#: What a decompressor raises for data that is none, or damaged.
ERRORS: Final[tuple[type[Exception], ...]] = () if _ZSTD is None else (_ZSTD.ZstdError,)


class ZstdCompressor:
    """Compresses text piece by piece."""

    def __init__(self) -> None:
        self._inner = _installed().ZstdCompressor(options={_installed().CompressionParameter.checksum_flag: 1})

    def compress(self, text: bytes) -> bytes:
        """Return what is to be written now; the rest is kept."""
        compressed: bytes = self._inner.compress(text)
        return compressed

    def sync(self) -> bytes:
        """Return what makes all of it readable."""
        compressed: bytes = self._inner.flush(self._inner.FLUSH_BLOCK)
        return compressed

    def finish(self) -> bytes:
        """Return the end."""
        compressed: bytes = self._inner.flush()
        return compressed


def decompressor() -> Any:
    """Return one for a frame, with ``decompress``, ``needs_input``, ``eof`` and ``unused_data`` as bz2's has them."""
    return _installed().ZstdDecompressor()


def _installed() -> Any:
    if _ZSTD is None:
        raise ConfigurationError('a name in .zst needs the extra: pip install "coinapi-ws[zstd]"')
    return _ZSTD
