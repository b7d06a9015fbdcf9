"""Words that pass for an answer: plain talk, or one of the labels that a prompt lists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

CHARS_PER_TOKEN = 4
SENTENCES = (
    "The main point is stated early and the rest supports it.",
    "Two details matter most here: what was asked, and what was left out.",
    "The tone is matter-of-fact, with a hint of impatience near the end.",
    "Nothing in the text contradicts this reading.",
    "A careful reader would ask for the date and the amount before going on.",
    "In short, the request is reasonable and can be met with little effort.",
    "The figures given are consistent with each other.",
    "There is one open question, and it does not change the outcome.",
    "The second part repeats the first in other words.",
    "Taken together, this suggests acting soon rather than late.",
    "The wording leaves some room, but the intention is clear.",
    "A short reply that confirms the next step would be enough.",
)
MAX_LABELS = 30
MAX_LABEL_WORDS = 3

_CUES = ("one of", "one word", "label", "option", "categor", "choice", "class", "sentiment", "topic")
_CUE = r"\b(?:one of|one word|labels?|options?|categor(?:y|ies)|choices?|class(?:es)?|sentiment|topics?)\b"
_LISTS = (
    re.compile(_CUE + r"[^:\n]{0,60}:[ \t]*((?:\n[ \t]*[-*][ \t]+[^\n]+)+)", re.IGNORECASE),
    re.compile(_CUE + r"[^:(\n]{0,60}[:(][ \t]*([^\n)]{3,600})", re.IGNORECASE),
    re.compile(r"\bone of\b(?: these| the following)?([^:\n]{3,600})", re.IGNORECASE),
)
_BETWEEN_LABELS = re.compile(r"\s*(?:[,;|/]\s*(?:or\b|and\b)?|\bor\b|\n[ \t]*[-*][ \t])\s*", re.IGNORECASE)


def tokens_in(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text) // CHARS_PER_TOKEN)


def pieces(text: str) -> list[str]:
    """Its tokens."""
    return [text[at : at + CHARS_PER_TOKEN] for at in range(0, len(text), CHARS_PER_TOKEN)]


def labels_in(prompt: str) -> list[str]:
    """The labels that a prompt lists, e.g. after `one of:` or `Labels:`; an empty list where there are fewer than two.

    >>> labels_in("Classify the ticket as one of: billing, shipping, or other. Answer with the label.")
    ['billing', 'shipping', 'other']
    """
    lowered = prompt.lower()
    if not any(cue in lowered for cue in _CUES):  # most prompts; the patterns are slow
        return []
    for found in (found for pattern in _LISTS for found in pattern.finditer(prompt)):
        listed = re.split(r"[.?!](?:\s|$)", found[1], maxsplit=1)[0]
        labels = [label.strip(" \t\"'`*[]{}") for label in _BETWEEN_LABELS.split(listed)]
        labels = [label for label in labels if label]
        if 1 < len(labels) <= MAX_LABELS and all(len(label.split()) <= MAX_LABEL_WORDS for label in labels):
            return labels
    return []


def label_answer(labels: list[str], draw: Random) -> str:
    """One of the labels, drawn."""
    return f"{draw.choice(labels)} (simulated)"


def sentences(what: str, question: str, tokens: int, draw: Random) -> str:
    """Whole sentences, together at least `tokens` long, that open by saying `what` they are: `answer to`."""
    head = " ".join(question[:160].split())[:60]
    parts = [f'Simulated {what} "{head}":' if head else f"Simulated {what.split(maxsplit=1)[0]}:"]
    missing = tokens * CHARS_PER_TOKEN - len(parts[0])
    at = draw.randrange(len(SENTENCES))
    while missing > 0 or len(parts) == 1:
        parts.append(SENTENCES[at % len(SENTENCES)])
        missing -= len(parts[-1]) + 1
        at += 1
    return " ".join(parts)
