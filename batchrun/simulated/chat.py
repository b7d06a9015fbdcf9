"""POST /chat/completions: a conversation, with tools, images and reasoning."""

from __future__ import annotations

import zlib
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from batchrun.simulated.refusals import bad_request
from batchrun.simulated.text import tokens_in
from batchrun.simulated.wire import Asked, Generation

MESSAGE_OVERHEAD_TOKENS = 4
IMAGE_TOKENS = 500
MAX_IMAGES = 30
MAX_IMAGE_BYTES = 10 * 1024 * 1024
IMAGE_TYPES = ("png", "jpg", "jpeg", "gif", "bmp", "tiff", "ppm")
EFFORTS = frozenset({"none", "low", "medium", "high", "xhigh", "max", "adaptive"})
ALWAYS_REASON = ("gpt-oss", "glm-5p3")
"""Parts of names of models that were seen to refuse an effort of `none`."""


class TextPart(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Words among images."""

    text: str


class Link(msgspec.Struct, forbid_unknown_fields=True):
    """Where an image is: on the web, or here as `data:image/png;base64,…`."""

    url: str
    detail: str | None = None


class ImagePart(msgspec.Struct, tag_field="type", tag="image_url", forbid_unknown_fields=True):
    """An image among words."""

    image_url: Link


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """One message of a conversation; `content` is text, a list of parts, or null beside tool calls."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[TextPart | ImagePart] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The words of it, without images."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if isinstance(part, TextPart))
        return self.content or ""

    @property
    def images(self) -> list[str]:
        """The addresses of its images."""
        if not isinstance(self.content, list):
            return []
        return [part.image_url.url for part in self.content if isinstance(part, ImagePart)]


class Thinking(msgspec.Struct):
    """Another way to ask for reasoning, or for none."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=1024)] | None = None


class ChatRequest(Generation, kw_only=True, forbid_unknown_fields=True):
    """Its body."""

    api: ClassVar[str] = "chat"
    messages: Annotated[list[Message], Meta(min_length=1)]
    prompt_truncate_len: int | None = None
    safe_tokenization: bool | None = None
    thinking: Thinking | None = None  # type: ignore[assignment]  # on /completions nobody looks at it
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: Any = None

    @property
    def last_user(self) -> str:
        """The words of the last user message, or nothing."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    @property
    def reasoning_limit(self) -> int:
        """How many tokens may be reasoning: all, where nothing says less; none, where the model need not think."""
        effort = self.reasoning_effort
        if self.thinking is not None:
            return 0 if self.thinking.type == "disabled" else self.thinking.budget_tokens or self.token_limit
        if effort is None:
            return self.token_limit if "reason" in self.model else 0
        if isinstance(effort, int) and not isinstance(effort, bool):
            return effort
        return 0 if effort in {"none", False} else self.token_limit

    @property
    def functions_to_call(self) -> list[dict[str, Any]]:
        """The one that is named; with `required` or `any` the first, or all if parallel calls are allowed."""
        functions = [tool["function"] for tool in self.tools or [] if isinstance(tool.get("function"), dict)]
        wanted = self.tool_choice
        if isinstance(wanted, dict) and isinstance(wanted.get("function"), dict):
            return [function for function in functions if function.get("name") == wanted["function"].get("name")][:1]
        if wanted not in {"required", "any"}:
            return []
        return functions if self.parallel_tool_calls else functions[:1]

    @property
    def images(self) -> list[str]:
        """The addresses of all images."""
        return [url for message in self.messages if isinstance(message.content, list) for url in message.images]

    def prompts(self) -> list[Asked]:
        """One prompt: the whole conversation. An empty system message is no system prompt, so it costs nothing."""
        tokens = sum(_tokens(message) for message in self.messages)
        if self.tools:
            tokens += tokens_in(msgspec.json.encode(self.tools).decode())
        words = [message.text for message in self.messages]
        words += [f"[image {zlib.crc32(url.encode()):08x}]" for url in self.images]
        return [Asked(words="\n".join(words), question=self.last_user, tokens=tokens)]

    def check(self) -> None:
        """Refuse what Fireworks refuses, images and reasoning included."""
        super().check()
        if images := self.images:
            _check_images(images)
        effort = self.reasoning_effort
        if self.thinking is not None and effort is not None:
            raise bad_request("thinking and reasoning_effort cannot be given together", param="thinking")
        wrong = effort not in EFFORTS if isinstance(effort, str) else (effort or 0) < 0
        none = effort is False or effort == "none"
        if wrong or (none and any(name in self.model for name in ALWAYS_REASON)):
            raise bad_request(f"Invalid reasoning effort: {effort}", param="reasoning_effort")


def _tokens(message: Message) -> int:
    if message.role == "system" and not message.content:
        return 0
    return tokens_in(message.text) + IMAGE_TOKENS * len(message.images) + MESSAGE_OVERHEAD_TOKENS


def _check_images(urls: list[str]) -> None:
    if len(urls) > MAX_IMAGES:
        raise bad_request(f"At most {MAX_IMAGES} images are allowed, got {len(urls)}", param="messages")
    embedded = [url for url in urls if not url.startswith(("http://", "https://"))]
    kinds = tuple(f"data:image/{kind};base64," for kind in IMAGE_TYPES)
    if not all(url.startswith(kinds) for url in embedded):
        raise bad_request("An image must be a web address or a base64 data URL of a known type", param="messages")
    if sum(len(url) for url in embedded) > MAX_IMAGE_BYTES:
        raise bad_request("The images are together larger than 10 MB", param="messages")
