"""Records written to stdout as they come, by a thread of its own: `batchrun run … -o -`.

Theory of operation. The loop hands records over and never waits; the thread writes what there is, a batch at a time,
and may wait for whoever reads. While more than MOST_WAITING records wait, the run is paused: what is in flight still
comes in, nothing new is sent. A reader that has left ends the run in good order. All of it is in the run folder anyway.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

import pyarrow as pa

from batchrun.engine.controls import GO_ON_BELOW, MOST_WAITING
from batchrun.errors import BatchrunError, Stopped, StoreError
from batchrun.export.forms import columns_for, writer_for
from batchrun.export.target import opened
from batchrun.exporting import COLUMNS
from batchrun.store.schema import to_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.engine.controls import Controls
    from batchrun.export.forms import Form
    from batchrun.types import Api, Record

_BATCH = 64
_WHO = "stdout"


class Outflow:
    """Writes the records of one run in the order in which they are handed over."""

    def __init__(self, form: Form, api: Api) -> None:
        self._form, self._api = form, api
        self._waiting: deque[Record] = deque()
        self._wake, self._ending, self._broken, self._paused = threading.Event(), False, False, False
        self._controls: Controls | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BatchrunError | None = None
        self._thread = threading.Thread(target=self._write, name="batchrun-stdout", daemon=True)
        self._thread.start()

    def steer(self, controls: Controls) -> None:
        """What it pauses the run with; called inside the running loop."""
        self._loop, self._controls = asyncio.get_running_loop(), controls

    def put(self, record: Record) -> None:
        """Hand a record over. It never waits; called from the loop's thread."""
        self._waiting.append(record)
        self._wake.set()
        if len(self._waiting) > MOST_WAITING and not self._paused and self._controls and not self._broken:
            self._paused = True
            self._controls.pause(_WHO)

    def finish(self) -> None:
        """Return when the reader has all of it, or has left."""
        self._ending = True
        self._wake.set()
        self._thread.join()

    def raise_failure(self) -> None:
        """Raise StoreError if stdout could not be written; that its reader has left is none."""
        if isinstance(self._failure, StoreError):
            raise self._failure

    def _write(self) -> None:
        try:
            with opened("-", binary=False) as sink:
                schema = pa.schema([COLUMNS.field(name) for name in columns_for(self._form, COLUMNS.names)])
                writer = writer_for(self._form, sink, schema, api=self._api, run_id="")
                while not (self._ending and not self._waiting):
                    self._wake.wait()
                    self._wake.clear()
                    while self._waiting:
                        records = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                        writer.write(to_batch(records, schema))
                        self._go_on()
                writer.close()
        except BrokenPipeError:
            self._give_up(Stopped("whoever read stdout has left"))
        except BatchrunError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001 (a dead writer must never look like a slow one)
            self._give_up(StoreError(f"stdout: writing failed: {type(error).__name__}: {error}"))

    def _go_on(self) -> None:
        if self._paused and len(self._waiting) < GO_ON_BELOW:
            self._paused = False
            self._call(lambda controls: controls.resume(_WHO))

    def _give_up(self, cause: BatchrunError) -> None:
        self._broken, self._failure = True, cause
        self._waiting.clear()
        self._call(lambda controls: controls.stop(cause))

    def _call(self, do: Callable[[Controls], None]) -> None:
        controls, loop = self._controls, self._loop
        if controls and loop and not loop.is_closed():
            loop.call_soon_threadsafe(do, controls)
