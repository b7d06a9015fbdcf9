"""What the command hears of its run: progress, the deadline, records for stdout, and when it begins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from batchrun.cli.progress import Progress
from batchrun.errors import Stopped

if TYPE_CHECKING:
    from batchrun.cli.attending import Attendance
    from batchrun.cli.outflow import Outflow
    from batchrun.engine.controls import Controls
    from batchrun.engine.watch import Plan
    from batchrun.types import Record


class RunWatch(Progress):
    """Progress, and what else hangs on a run."""

    def __init__(self, attendance: Attendance, outflow: Outflow | None = None, *, quiet: int) -> None:
        super().__init__(quiet=quiet)
        self._attendance, self._outflow = attendance, outflow

    def plan(self, plan: Plan) -> None:
        """Say what is to be sent, and that it begins."""
        self._attendance.begun(plan.folder)
        super().plan(plan)

    def steer(self, controls: Controls) -> None:
        """Have the deadline end the run, and a slow reader of stdout pause it."""
        if self._outflow:
            self._outflow.steer(controls)
        after_s = self._attendance.stop_after_s(controls.grace_s)
        if after_s is not None:
            cause = Stopped(f"the deadline of {self._attendance.deadline} is reached")
            asyncio.get_running_loop().call_later(after_s, controls.stop, cause)

    def row(self, record: Record) -> None:
        """Count a settled row, and pass it on."""
        super().row(record)
        if self._outflow:
            self._outflow.put(record)
