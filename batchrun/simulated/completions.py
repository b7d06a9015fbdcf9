"""POST /completions: bare prompts, without roles, tools or reasoning."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from batchrun.simulated.refusals import bad_request
from batchrun.simulated.text import tokens_in
from batchrun.simulated.wire import Asked, Generation


class CompletionRequest(Generation, kw_only=True, forbid_unknown_fields=True):
    """Its body; `prompt` is one text, or several, or the token ids of one or several."""

    api: ClassVar[str] = "completions"
    prompt: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    images: list[str] | None = None

    @property
    def last_user(self) -> str:
        """The last prompt."""
        return self.prompts()[-1].question

    def prompts(self) -> list[Asked]:
        """Each text or list of token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [_asked(prompt)]
        ids = [one for one in prompt if isinstance(one, int)]
        return [_asked_in_ids(ids)] if ids else [_asked(one) for one in prompt if not isinstance(one, int)]

    def check(self) -> None:
        """Refuse a list of several kinds."""
        super().check()
        if isinstance(self.prompt, list) and len({type(one) for one in self.prompt}) > 1:
            raise bad_request("A list of prompts must hold texts, or token ids, not both", param="prompt")


def _asked(prompt: str | list[int]) -> Asked:
    if isinstance(prompt, list):
        return _asked_in_ids(prompt)
    return Asked(words=prompt, question=prompt, tokens=tokens_in(prompt))


def _asked_in_ids(ids: list[int]) -> Asked:
    words = " ".join(map(str, ids))
    return Asked(words=words, question=words, tokens=len(ids))
