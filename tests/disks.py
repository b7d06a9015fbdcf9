"""Disks of their own, small enough to be filled."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest


@contextmanager
def disk_of(size: int | str):
    """A disk of so many bytes (or `8m`); skips where mounting is not allowed at all."""
    if why := _why_not():
        pytest.skip(f"mounting is not allowed here: {why}")
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(_mount(size, name), check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def remount(disk: Path, options: str) -> None:
    """Change a disk while it is in use."""
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


@cache
def _why_not() -> str:
    """What stands against mounting, asked once: what fails later is no reason to skip."""
    with tempfile.TemporaryDirectory() as name:
        try:
            done = subprocess.run(_mount("1m", name), capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            return str(error)
        if done.returncode:
            return done.stderr.strip() or f"exit {done.returncode}"
        subprocess.run(["umount", "--lazy", name], check=True)
    return ""


def _mount(size: int | str, name: str) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", name]
