"""A yes or no from whoever sits at the terminal."""

from __future__ import annotations

import asyncio
import sys

import click

from batchrun.cli.lines import say, shown


async def asked(question: str) -> bool:
    """Ask on stderr and wait for a line of stdin; no, where one of them is no terminal. It can be cancelled."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
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
