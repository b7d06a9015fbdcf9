"""Prompt tokens counted with a model's own `tokenizer.json`: exact for the text, and only for it.

What a chat template puts around the text is in no such file: tokens before and after each message, often a system
prompt of its own, for tools a page of instructions. So each row has two more numbers, of what that is likely to be and
of what it is at most expected to be; answers in a run folder tell it better.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from batchrun.types import Request

LIKELY_A_MESSAGE, LIKELY_A_CHAT = 4, 3
MOST_A_MESSAGE, MOST_A_CHAT, MOST_FOR_TOOLS = 10, 100, 600
MOST_A_TEXT = 2
"""Tokens that are not text: around a message, once a chat, for tools, and around a text that is no chat."""

_BATCH_TEXTS, _BATCH_CHARS = 4096, 1 << 20
_MOST_UINT32 = 0xFFFFFFFF
_MOST_SHOWN_CHARS = 200
_REMEDY = "give the tokenizer.json of the model, as its page on Hugging Face has it"


class _Message(msgspec.Struct):
    content: Any = None
    tool_calls: msgspec.Raw = msgspec.Raw(b"")


class _Body(msgspec.Struct):
    messages: list[_Message] = []
    prompt: Any = None
    input: Any = None
    tools: msgspec.Raw = msgspec.Raw(b"")


class Counted(NamedTuple):
    """By row: the tokens of the text, and how many more the request is likely to have, and is expected to at most."""

    text: np.ndarray
    likely_more: np.ndarray
    most_more: np.ndarray

    def of(self, rows: np.ndarray) -> Counted:
        """Those of some rows."""
        return Counted(*(column[rows] for column in self))


class TokenCounts:
    """Takes requests in the order of the input; 12 bytes a row, and texts until there are enough for a batch.

    Raises:
        ConfigError: the file is no tokenizer, or the package that reads it is not installed.
    """

    def __init__(self, path: str) -> None:
        self._tokenizer, self._path = _opened(path), path
        self._text, self._likely_more, self._most_more = array("I"), array("I"), array("I")
        self._texts: dict[str, list[tuple[int, int]]] = {}
        self._waiting = self._chars = 0
        self._decode = msgspec.json.Decoder(_Body).decode

    def add(self, request: Request | None) -> None:
        """Count a row; None is one that cannot be sent."""
        row = len(self._text)
        for column in (self._text, self._likely_more, self._most_more):
            column.append(0)
        if request is None:
            return
        body, calls = self._decode(request.body), 1 + len(request.turns)
        for text in _texts_of(body):
            self._later(text, row, calls)
        for asked, text in enumerate(request.turns, 1):  # each is in the prompts of its own turn and of all that follow
            self._later(text, row, calls - asked)
        messages = calls * len(body.messages) + calls * (calls - 1)  # with a turn come its answer and the next question
        if body.messages:
            self._likely_more[row] = LIKELY_A_MESSAGE * messages + LIKELY_A_CHAT * calls
            tools = MOST_FOR_TOOLS if body.tools else 0
            self._most_more[row] = MOST_A_MESSAGE * messages + (MOST_A_CHAT + tools) * calls
        else:
            self._most_more[row] = MOST_A_TEXT
        if self._waiting >= _BATCH_TEXTS or self._chars >= _BATCH_CHARS:
            self._count()

    def counted(self) -> Counted:
        """The columns of all rows so far."""
        self._count()
        return Counted(*(np.array(column, np.int64) for column in (self._text, self._likely_more, self._most_more)))

    def _later(self, text: str, row: int, times: int) -> None:
        places = self._texts.get(text)
        if places is None:  # a system prompt that many rows have is counted once a batch
            places = self._texts[text] = []
            self._chars += len(text)
        places.append((row, times))
        self._waiting += 1

    def _count(self) -> None:
        try:
            encodings = self._tokenizer.encode_batch_fast(list(self._texts), add_special_tokens=False)
        except Exception as error:  # the package raises nothing more particular
            raise _no_tokenizer(self._path, error) from error
        for encoding, places in zip(encodings, self._texts.values(), strict=True):
            tokens = len(encoding)
            for row, times in places:
                self._text[row] = min(self._text[row] + tokens * times, _MOST_UINT32)
        self._texts.clear()
        self._waiting = self._chars = 0


def _texts_of(body: _Body) -> list[str]:
    """What a tokenizer can count: all text, calls and tools as they are written; not images."""
    said = [message.content for message in body.messages] or [body.prompt if body.input is None else body.input]
    texts = [one for one in said if isinstance(one, str)]
    parts = [part.get("text") for one in said if isinstance(one, list) for part in one if isinstance(part, dict)]
    written = [*(message.tool_calls for message in body.messages), body.tools]
    texts += [part for part in parts if isinstance(part, str)]
    return texts + [bytes(raw).decode("utf-8", "replace") for raw in written if raw and bytes(raw) != b"null"]


def _opened(path: str) -> Any:
    """The tokenizer of a file, without the cutting and filling up that the file may ask for."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        remedy = "pip install 'batchrun-llm[tokenizers]', or leave `tokenizer` out: then tokens are estimated"
        raise ConfigError(f"{path}: to count tokens, the package tokenizers is missing", remedy=remedy) from error
    try:
        with Path(path).open("rb"):
            pass
        tokenizer = Tokenizer.from_file(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", remedy=_REMEDY) from error
    except Exception as error:  # the package raises nothing more particular
        raise _no_tokenizer(path, error) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _no_tokenizer(path: str, error: Exception) -> ConfigError:
    return ConfigError(f"{path}: is no tokenizer: {str(error)[:_MOST_SHOWN_CHARS]}", remedy=_REMEDY)
