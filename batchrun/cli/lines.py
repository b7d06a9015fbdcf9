"""Lines for people, on stderr: what is said there is always plain text, one thing a line."""

from __future__ import annotations

import click


def say(text: str) -> None:
    """Say something on stderr; control characters, which may come from a peer, are shown and not obeyed."""
    click.echo("".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text), err=True)


def last_line(code: int, why: str, next_command: str) -> None:
    """The last line of a command: its exit code, why, and what to type next."""
    say(f"exit {code}: {why.splitlines()[0] if why else 'no reason given'}. Next: {next_command or 'see --help'}")
