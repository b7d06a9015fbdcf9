"""Everything raised on purpose. A message says what happened and where; a remedy says what to type or change next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchrun.types import ErrorType, Hints, Usage


class BatchrunError(Exception):
    """The root of all of them: `message` says what happened, `remedy` what to do next, and stands in a traceback too.

    `exit_code` is the command's exit code when the error ends it.
    """

    exit_code: int = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if remedy:
            self.add_note(remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (type(self), self.args, vars(self))


def _as_it_was(kind: type[BatchrunError], args: tuple[Any, ...], values: dict[str, Any]) -> BatchrunError:
    """An error that comes out of another process (`pickle`), without the arguments that it was made of."""
    error = kind.__new__(kind, *args)
    vars(error).update(values)
    return error


class ConfigError(BatchrunError):
    """The command line or the configuration cannot be run as given; nothing was sent."""

    exit_code = 2


class PromptError(BatchrunError):
    """One input row, or the whole input, cannot be run as given; `where` is `file:line`, `index` the row's position."""

    exit_code = 2

    def __init__(
        self, message: str, *, where: str = "", index: int | None = None, custom_id: str | None = None, remedy: str = ""
    ) -> None:
        super().__init__(f"{where}: {message}" if where else message, remedy=remedy)
        self.where = where
        self.index = index
        self.custom_id = custom_id


class StoreError(BatchrunError):
    """The disk failed or is full; what was committed is kept."""

    exit_code = 6


class FolderBusy(StoreError):
    """Another run holds the run folder."""

    exit_code = 5


class FolderUnusable(StoreError):
    """The run folder belongs to something else, does not fit this run, or is damaged."""

    exit_code = 7


class EndpointError(BatchrunError):
    """One attempt brought no completion. The subclass says what may be done about it."""

    exit_code = 8

    def __init__(
        self,
        message: str,
        *,
        error_type: ErrorType,
        error_code: str | None = None,
        status_code: int | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        usage: Usage | None = None,
        response: str | None = None,
        hints: Hints | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.hints = hints
        self.error_type = error_type
        self.error_code = error_code
        self.status_code = status_code
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.response = response


class NotSent(EndpointError):
    """The request never reached the endpoint: it costs nothing to send it again."""


class Throttled(EndpointError):
    """The endpoint asked for patience (429, 503): flow control, not a failure of the request."""


class Ambiguous(EndpointError):
    """The request may have been served and charged, but no usable answer came: another attempt may help."""


class AnswerInvalid(EndpointError):
    """A whole answer came and was charged, but it is not what `request.validate` wants: it is asked for once more."""


class Rejected(EndpointError):
    """The endpoint understood this request and will never serve it: another attempt cannot help."""


class EndpointUnusable(EndpointError):
    """No request of this run can succeed (key, billing, model, TLS, redirect): the run ends."""


class BudgetReached(BatchrunError):
    """What is left of `limits.max_cost_usd` is less than the next request may cost; nothing new is sent."""

    exit_code = 4


class Stopped(BatchrunError):
    """A limit of the user's own, other than money, ended the run in good order: a deadline, `batchrun ctl drain`."""

    exit_code = 4


class PilotDone(BatchrunError):
    """The pilot has said what the rest will cost, and nobody has agreed to that; nothing new is sent."""

    exit_code = 4


class RowsFailed(BatchrunError):
    """Rows failed, and whoever asked wanted to be told by an exception; all that was answered is kept."""

    exit_code = 3


class Interrupted(BatchrunError):
    """A signal asked the run to stop; `exit_code` is 128 and the signal's number."""

    def __init__(self, signal_number: int, name: str) -> None:
        super().__init__(f"stopped by {name}", remedy="run the same command again to go on")
        self.exit_code = 128 + signal_number
