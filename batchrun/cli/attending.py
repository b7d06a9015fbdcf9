"""A run that nobody looks at: its deadline, and who is told when it begins and how it ended."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.lines import last_line, log_as, say
from batchrun.errors import BatchrunError, ConfigError, FolderBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchrun.cli.pings import Pings
    from batchrun.standing import Standing

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_OPTIONS = [
    click.option(
        "--deadline", metavar="TIME", help="Be done by then, e.g. 90s, 45m, 1h30m: end in good order (exit 4)."
    ),
    click.option("--skip-if-running", is_flag=True, help="Another run holds OUT: end with 0 instead of 5."),
    click.option(
        "--heartbeat-url", metavar="URL", help="Ping URL/start, then URL or URL/fail, as healthchecks.io takes it."
    ),
    click.option("--webhook", metavar="URL", help="Post how the run ended to URL, as JSON."),
    click.option(
        "--metrics-file",
        metavar="FILE",
        type=click.Path(),
        help="Write gauges for Prometheus (node-exporter's textfile) to FILE.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        metavar="text|json",
        default="text",
        show_default=True,
        is_eager=True,
        expose_value=False,
        callback=lambda _context, _option, form: log_as(form),
        help="What is said on stderr: lines, or a JSON object a line.",
    ),
]


def attended_by(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that `Attendance` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Attendance:
    """What is owed to those who are not there; `code` and `why` are to be set when the run has ended."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._began_at = time.monotonic()
        self._deadline, self._deadline_s = options["deadline"], seconds_of(options["deadline"])
        self._heartbeat: str | None = options["heartbeat_url"]
        self._webhook: str | None = options["webhook"]
        self._metrics_file: str | None = options["metrics_file"]
        self._pings: Pings | None = None
        if self._heartbeat or self._webhook:
            from batchrun.cli import pings

            self._pings = pings.Pings({"--heartbeat-url": self._heartbeat, "--webhook": self._webhook})
        self.folder: str | None = None
        self.code, self.why = 0, ""

    def begun(self, folder: str) -> None:
        """The folder is held, and nothing is sent yet; raises ConfigError or StoreError for an unwritable file."""
        self.folder = folder
        if self._metrics_file:
            self._gauge(self._metrics_file, None)
        if self._heartbeat and self._pings:
            self._pings.send("--heartbeat-url", _below(self._heartbeat, "start"))

    def ended(self, code: int, why: str) -> None:
        """Tell everybody; whatever goes wrong with that is a warning, and takes a few seconds at most."""
        found = self._standing()
        if self._metrics_file and (self.folder or code):
            try:
                self._gauge(self._metrics_file, code, found)
            except BatchrunError as error:
                say(f"warning: --metrics-file: {error.message}")
        said = f"exit {code}: {why}"
        if found:
            said += f"; {found.succeeded:,} of {found.rows:,} rows have a result, {found.failed:,} failed"
        if self._pings is None:
            return
        if self._heartbeat:
            url = _below(self._heartbeat, "fail") if code else self._heartbeat
            self._pings.send("--heartbeat-url", url, said.encode())
        if self._webhook:
            self._pings.send("--webhook", self._webhook, _payload(code, why, found), "application/json")
        self._pings.finish()

    def stop_after_s(self, grace_s: float) -> float | None:
        """In how many seconds nothing new is to be sent, so that what is out then has its grace before the deadline."""
        if self._deadline_s is None:
            return None
        left_s = self._deadline_s - (time.monotonic() - self._began_at)
        return max(0.0, left_s - min(grace_s, self._deadline_s / 2))

    @property
    def deadline(self) -> str:
        """As it was typed."""
        return str(self._deadline)

    def _gauge(self, file: str, code: int | None, found: Standing | None = None) -> None:
        from batchrun.cli.gauges import write_gauges

        write_gauges(file, found, now_s=time.time(), exit_code=code)

    def _standing(self) -> Standing | None:
        if self.folder is None or not (self._metrics_file or self._heartbeat or self._webhook):
            return None
        from batchrun.standing import stand
        from batchrun.store.folder import RunFolder

        try:
            return stand(RunFolder(self.folder))
        except BatchrunError:
            return None


@contextmanager
def attended(options: dict[str, Any]) -> Iterator[Attendance]:
    """However the block ends, those who asked for it are told; a folder that is held ends it quietly if asked."""
    attendance = Attendance(options)
    try:
        yield attendance
    except FolderBusy as error:
        if options["skip_if_running"]:
            if not options["quiet"]:
                last_line(0, f"skipped: {error.message}", "nothing; the other run goes on")
            return
        attendance.ended(error.exit_code, error.message)
        raise
    except BatchrunError as error:
        attendance.ended(error.exit_code, error.message)
        raise
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        attendance.ended(code, "stopped by a signal" if code > 1 else type(error).__name__)
        raise
    attendance.ended(attendance.code, attendance.why)


def seconds_of(text: str | None) -> float | None:
    """What `90s`, `45m`, `1h30m`, `2d` or a bare number of seconds says; raises ConfigError."""
    if text is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", f"{text}s" if text.replace(".", "", 1).isdigit() else text)
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    whole = "".join(number + unit for number, unit in parts) in {text, f"{text}s"}
    if not whole or seconds <= 0:
        raise ConfigError(f"--deadline {text!r} is no time", remedy="write e.g. --deadline 90s, 45m, 1h30m or 2d")
    return seconds


def _below(url: str, name: str) -> str:
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def _payload(code: int, why: str, found: Standing | None) -> bytes:
    import msgspec

    return msgspec.json.encode({"event": "ended", "exit_code": code, "why": why, "run": found})
