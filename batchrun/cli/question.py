"""Whether somebody sits at the terminal, and a yes or no from him."""

from __future__ import annotations

import asyncio
import sys

import click

from batchrun.cli.lines import say, shown


def can_ask() -> bool:
    """Whether somebody sees stderr and can type; a stream that was closed is None."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


async def asked(question: str) -> bool:
    """Ask on stderr and wait for a line of stdin; no, where nobody can be asked. It can be cancelled."""
    if not can_ask():
        return False
    click.echo(shown(f"{question} [y/N] "), err=True, nl=False)
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), there.set)
    try:
        await there.wait()
    except asyncio.CancelledError:
        say("")
        raise
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
