"""Images in messages: files become data URLs, and what the endpoint would refuse for its size is found before."""

from __future__ import annotations

import re
import stat
from binascii import b2a_base64
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from batchrun.prompts.unfit import kind, unfit

if TYPE_CHECKING:
    from batchrun.types import Prompt

_ELSEWHERE = re.compile(r"https?://|data:", re.IGNORECASE)
_KINDS = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "gif": re.compile(rb"GIF8[79]a"),
    "bmp": re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "tiff": re.compile(rb"II\*\0|MM\0\*"),
    "x-portable-pixmap": re.compile(rb"P[36]\s"),
}
"""How files of these kinds begin, by the name of their media type (two letters are not enough to tell a BMP)."""

_REMEDY = (
    "name a png, jpeg, gif, bmp, tiff or ppm file, by its path from the input's folder, or an http(s): or data: URL"
)
_PATH_SHOWN_CHARS = 120


class ImageLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many images a request may hold (None: any number), and how many bytes of base64 they may have together."""

    images: int | None = None
    base64_bytes: int


FIREWORKS_LIMITS = ImageLimits(images=30, base64_bytes=10_000_000)
"""Fireworks documents "30 images" and "10 MB of base64" (querying vision-language models)."""

OTHER_LIMITS = ImageLimits(base64_bytes=32 << 20)


def has_parts(messages: list[dict[str, Any]]) -> bool:
    """Whether any content is a list of parts, the only place for an image."""
    return list in [type(message.get("content")) for message in messages]


def with_images(prompt: Prompt, messages: list[dict[str, Any]], limits: ImageLimits) -> list[dict[str, Any]]:
    """Put the content of image files in place of their names; the messages given are not changed.

    Raises:
        PromptError: a file is not there, cannot be read, is no image of a kind that is known, or all are too large.
    """
    return _Images(prompt, limits).embedded(messages)


class _Images:
    """The images of one request, counted as they are met."""

    def __init__(self, prompt: Prompt, limits: ImageLimits) -> None:
        self._prompt = prompt
        self._limits = limits
        self._images = 0
        self._base64_bytes = 0

    def embedded(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._message(message, f"messages[{m}]") for m, message in enumerate(messages)]

    def _message(self, message: dict[str, Any], place: str) -> dict[str, Any]:
        content = message.get("content")
        if not isinstance(content, list):
            return message
        return {**message, "content": [self._part(part, f"{place}.content[{p}]") for p, part in enumerate(content)]}

    def _part(self, part: Any, place: str) -> Any:
        if not isinstance(part, dict) or part.get("type") != "image_url":
            return part
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if not isinstance(url, str) or not url:
            raise unfit(self._prompt, f"{place} is an image without a URL, which is {kind(url)}", _REMEDY)
        self._images += 1
        if self._limits.images is not None and self._images > self._limits.images:
            problem = f"{place}: the endpoint takes {self._limits.images} images a request, and this is one more"
            raise unfit(self._prompt, problem, "spread them over several rows")
        url = self._url(url, place)
        return {**part, "image_url": {**image, "url": url} if isinstance(image, dict) else url}

    def _url(self, url: str, place: str) -> str:
        if not _ELSEWHERE.match(url):
            return self._data_url(url, place)
        if url[:5].lower() == "data:":
            self._count(len(url) - url.find(",") - 1, place)
        return url

    def _data_url(self, name: str, place: str) -> str:
        shown = name[:_PATH_SHOWN_CHARS]
        place = f"{place}: the image " + (f"`{shown}`" if shown.isprintable() else ascii(shown))
        content = self._content(name, place)
        for media_type, magic in _KINDS.items():
            if magic.match(content):
                return f"data:image/{media_type};base64," + b2a_base64(content, newline=False).decode("ascii")
        what = "is WebP" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else "is no image"
        raise unfit(self._prompt, f"{place} {what if content else 'is empty'}", _REMEDY)

    def _content(self, name: str, place: str) -> bytes:
        try:
            path = self._path(name)
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
                raise unfit(self._prompt, f"{place} is {what}", _REMEDY)
            self._count((status.st_size + 2) // 3 * 4, place)  # before it is read: it may be of any size
            with path.open("rb") as file:
                content = file.read(status.st_size + 1)
        except OSError as error:
            raise unfit(self._prompt, f"{place} cannot be read: {error.strerror}", _REMEDY) from error
        except ValueError as error:  # a NUL or half a character in the path, a URL that is none
            raise unfit(self._prompt, f"{place} is no path: {error}", _REMEDY) from error
        if len(content) != status.st_size:
            raise unfit(self._prompt, f"{place} changes while it is read", "run it again when the file is whole")
        return content

    def _path(self, name: str) -> Path:
        """Find a file from the folder of the input file, whose name stands before the line in `where`."""
        if name[:7].lower() == "file://":
            parts = urlsplit(name)
            if parts.netloc not in {"", "localhost"}:
                raise ValueError("file:// is followed by the path from /, as in file:///images/cat.png")
            return Path(unquote(parts.path))
        return Path(self._prompt.where.rpartition(":")[0]).parent / name

    def _count(self, base64_bytes: int, place: str) -> None:
        self._base64_bytes += base64_bytes
        if self._base64_bytes >= self._limits.base64_bytes:
            have, most = self._base64_bytes / 1e6, self._limits.base64_bytes / 1e6
            problem = f"{place}: the images take {have:,.1f} MB as base64, and less than {most:,.1f} MB can be sent"
            raise unfit(self._prompt, problem, "make them smaller, or spread them over several rows")
