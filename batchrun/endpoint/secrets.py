"""The key is in no artefact: it is taken out of everything that a peer says, in the spellings it may come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from batchrun.types import Completion

if TYPE_CHECKING:
    from batchrun.errors import EndpointError

LEAST_KEY_CHARS = 8
"""A shorter key is a dummy for a local server (`EMPTY`, `none`): taking that word out would change answers."""

_MARK = "[key]"
_ERROR_TEXTS = ("message", "error_code", "request_id", "response")
_NO_TEXTS = {"embedding", "usage", "hints"}
_COMPLETION_TEXTS = [name for name in Completion.__struct_fields__ if name not in _NO_TEXTS and not name.endswith("_s")]


class Secrets:
    """Some secret words; None and dummies are none."""

    def __init__(self, *words: str | None) -> None:
        long = [word for word in words if word and len(word) >= LEAST_KEY_CHARS]
        # as it is, as some JSON encoders write it, and as a URL does
        self._words = sorted({form for word in long for form in (word, word.replace("/", "\\/"), quote(word, safe=""))})
        self._bytes = [word.encode() for word in self._words]

    def out_of(self, content: bytes) -> bytes:
        """Content as it came, without them."""
        for word in self._bytes:
            content = content.replace(word, _MARK.encode())
        return content

    def out_of_headers(self, headers: dict[str, str]) -> dict[str, str]:
        """Headers by their names in lower case, without them."""
        said = "\n".join((*headers, *headers.values())).lower()
        for word in self._words:
            if word.lower() not in said:  # hardly a peer repeats the key
                continue
            headers = {name.replace(word.lower(), _MARK): value.replace(word, _MARK) for name, value in headers.items()}
        return headers

    def out_of_completion(self, completion: Completion) -> Completion:
        """A completion without them: escapes, or the pieces of a stream, may have hidden them from `out_of`."""
        changes = {name: text for name in _COMPLETION_TEXTS if (text := self._changed(getattr(completion, name)))}
        return msgspec.structs.replace(completion, **changes) if changes else completion

    def out_of_error(self, error: EndpointError) -> None:
        """The same for an error."""
        for name in _ERROR_TEXTS:
            if text := self._changed(getattr(error, name)):
                setattr(error, name, text)
        error.args = (error.message,)

    def _changed(self, value: Any) -> str | None:
        """A text without them; None where nothing is to be changed."""
        if not isinstance(value, str):
            return None
        text = value
        for word in self._words:
            text = text.replace(word, _MARK)
        return None if text == value else text
