"""A run that is going on shows itself in its folder, and does what it is asked there: see store/live.py."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from batchrun.config import load_config
from batchrun.endpoint.descriptors import make_room
from batchrun.engine.controls import CHANGEABLE
from batchrun.errors import BatchrunError, ConfigError, Stopped
from batchrun.store.live import PERIOD_S, Answer, Board, Control, Live, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.engine.controls import Controls
    from batchrun.store.folder import RunFolder

_BY_HAND = "ctl"
_OF_STATUS = ("in_flight", "ceiling", "throttled", "retrying", "oldest_s", "oldest", "waits_for")


@contextmanager
def controlled(folder: RunFolder, controls: Controls, open_rows: int) -> Iterator[None]:
    """While the block runs, inside a running loop, the run can be seen and steered by other processes."""
    board = Board(folder)
    answers: list[Answer] = []
    task = asyncio.get_running_loop().create_task(_serve(board, controls, open_rows, answers))
    try:
        yield
    finally:
        task.cancel()
        board.exchange(_live(controls, open_rows, answers))  # what was answered just now is its last word
        board.close()


def change_of(text: str) -> Control:
    """What `KEY=VALUE` asks of a run.

    Raises:
        ConfigError: there is no such key or value, or it cannot change while a run is going on.
    """
    limits = load_config(overrides={"input": "any.jsonl"}, sets=[text]).limits
    key = text.partition("=")[0].strip()
    if key not in {f"limits.{name}" for name in CHANGEABLE}:
        can = ", ".join(f"limits.{name}" for name in CHANGEABLE)
        remedy = f"these can: {can}; for any other end it (batchrun ctl OUT drain) and run it again"
        raise ConfigError(f"{key} cannot change while a run is going on", remedy=remedy)
    return Control(id=_new_id(), do="set", key=key, value=getattr(limits, key.removeprefix("limits.")))


def request(folder: RunFolder, control: Control | str) -> Answer:
    """Ask the run that is going on in a folder, and wait for its answer; see `ask`."""
    if isinstance(control, str):
        control = msgspec.convert({"id": _new_id(), "do": control}, Control)
    return ask(folder, control)


def _new_id() -> str:
    return os.urandom(8).hex()


async def _serve(board: Board, controls: Controls, open_rows: int, answers: list[Answer]) -> None:
    while True:
        control = await asyncio.to_thread(board.exchange, _live(controls, open_rows, answers))
        if control:
            answers.append(_done(control, controls))
        else:
            await asyncio.sleep(PERIOD_S)


def _live(controls: Controls, open_rows: int, answers: list[Answer]) -> Live:
    status = controls.status()
    return Live(
        pid=os.getpid(),
        at=time.time_ns() // 1000,
        open_rows=open_rows,
        concurrency=controls.limits.concurrency,
        paused=controls.paused,
        answer=answers[-1] if answers else None,
        **{name: getattr(status, name) for name in _OF_STATUS},
    )


def _done(control: Control, controls: Controls) -> Answer:
    try:
        said = _do(control, controls)
    except BatchrunError as error:
        return Answer(id=control.id, done=False, said=error.message, remedy=error.remedy)
    except msgspec.ValidationError as error:
        return Answer(id=control.id, done=False, said=f"{control.key}: {error}", remedy="batchrun ctl --help")
    return Answer(id=control.id, done=True, said=said)


def _do(control: Control, controls: Controls) -> str:
    if control.do == "pause":
        controls.pause(_BY_HAND)
        return f"paused; {controls.status().in_flight:,} in flight go on"
    if control.do == "resume":
        controls.resume(_BY_HAND)
        return "the run is still paused by who reads its output" if controls.paused else "the run goes on"
    if control.do == "drain":
        in_flight = controls.status().in_flight
        controls.drain(Stopped("ended by `batchrun ctl`"))
        return f"nothing new is sent; the run ends when {in_flight:,} in flight are answered"
    name = control.key.removeprefix("limits.")
    if name not in CHANGEABLE:
        raise ConfigError(f"{control.key} cannot change while a run is going on", remedy="batchrun ctl --help")
    if name == "concurrency":
        make_room(control.value)
    before = getattr(controls.limits, name)
    controls.set_limit(name, control.value)
    return f"{control.key} {_shown(before)} -> {_shown(getattr(controls.limits, name))}"


def _shown(value: float | None) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
