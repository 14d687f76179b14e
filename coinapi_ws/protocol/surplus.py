"""Tell what was asked for from the surplus of a merged hello, and from late frames of an older scope."""

from __future__ import annotations

from typing import Final

from ..messages import Message
from ..scope import Scope
from ..subscription import KNOWN_DATA_TYPES

_MAX_CACHED_VERDICTS: Final = 100_000


class Surplus:
    """The filter behind a merge. ``dropped`` counts the messages that were not asked for.

    A scope of one subscription that never changed is not filtered: there the server knows best.
    """

    def __init__(self, scope: Scope, product: str = "market") -> None:
        self.dropped = 0
        self._scope = scope
        self._product = product
        self._has_changed = False
        self._verdicts: dict[tuple[object, ...], bool] = {}

    @property
    def is_filtering(self) -> bool:
        """Whether anything may be dropped."""
        return self._has_changed or len(self._scope) != 1

    def scope_changed(self, scope: Scope) -> None:
        """Filter by another scope from now on."""
        self._scope = scope
        self._has_changed = True
        self._verdicts.clear()

    def drops(self, message: Message) -> bool:
        """Return whether it is certain that the message was not asked for, and count it then."""
        if not self.is_filtering:
            return False
        if message.type not in KNOWN_DATA_TYPES:
            return False
        key = (
            message.type,
            getattr(message, "symbol_id", None),
            getattr(message, "period_id", None),
            getattr(message, "asset_id_base", None),
            getattr(message, "asset_id_quote", None),
        )
        wanted = self._verdicts.get(key)
        if wanted is None:
            if len(self._verdicts) >= _MAX_CACHED_VERDICTS:
                self._verdicts.clear()
            wanted = self._verdicts[key] = self._scope.may_match(message, self._product)
        self.dropped += not wanted
        return not wanted
