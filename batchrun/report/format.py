"""Numbers, money and time as people read them, and text from outside made safe to show."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_LEAST_RATE = 0.0001
_MOST_WRITTEN_OUT = 1e12
"""What is larger is no measurement: somebody else has made it up."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Figure(NamedTuple):
    """A number, ready to read, and what it is."""

    value: str
    meaning: str


def number(value: int) -> str:
    """A whole number with separators."""
    return f"{value:,}"


def rows(value: int) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{value:,} row{'' if value == 1 else 's'}"


def percent(part: float, whole: float) -> str:
    """A share; only none is 0 %, only all is 100 %."""
    if not whole or not part:
        return "0 %"
    if part == whole:
        return "100 %"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f} %"


def dollars(usd: float | None) -> str:
    """US dollars: cents from a dollar upwards, three significant digits below; a positive amount is never $0.00."""
    if usd is None:
        return "unknown"
    if usd == 0:
        return "$0"
    if abs(usd) >= 1:
        return f"{'-' if usd < 0 else ''}${abs(usd):,.2f}"
    text = f"{usd:.{2 - math.floor(math.log10(abs(usd)))}f}".rstrip("0")
    cents = max(2 - len(text.partition(".")[2]), 0)
    return f"${text}{'0' * cents}".replace("$-", "-$")


def rate(per_second: float | None) -> str:
    """A rate, to three significant digits or to the unit."""
    if per_second is None:
        return "unknown"
    if per_second >= 99.95:  # noqa: PLR2004 (from here on three digits are a whole number)
        return _whole(per_second)
    return f"{per_second:#.3g}" if per_second >= _LEAST_RATE or not per_second else f"<{_LEAST_RATE}"


def seconds(value: float) -> str:
    """Seconds to the millisecond, from a thousand to the second, for a table."""
    if value >= 999.9995:  # noqa: PLR2004 (from here on it would be 1000.000)
        return _whole(value)
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"  # noqa: PLR2004 (half a millisecond)


def _whole(value: float) -> str:
    return f"{value:,.0f}" if value < _MOST_WRITTEN_OUT else f"{value:.2e}"


def duration(value: float) -> str:
    """A duration in the two units that matter.

    >>> duration(0.0421), duration(4.218), duration(278), duration(7500), duration(190000)
    ('42 ms', '4.2 s', '4 min 38 s', '2 h 05 min', '2 d 04 h')
    """
    if value < 0.9995:  # noqa: PLR2004 (from here on it would be 1000 ms)
        return f"{value * 1000:.0f} ms"
    if value < 59.95:  # noqa: PLR2004
        return f"{value:.1f} s"
    minutes, second = divmod(round(value), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02} h"
    return f"{hours} h {minute:02} min" if hours else f"{minutes} min {second:02} s"


def period(first_at: int, last_at: int) -> str:
    """Two times of day in microseconds, in UTC; the date stands once if it is the same."""
    first, last = (_EPOCH + timedelta(microseconds=at) for at in (first_at, last_at))
    until = f"{last:%H:%M:%S}" if last.date() == first.date() else f"{last:%Y-%m-%d %H:%M:%S}"
    return f"{first:%Y-%m-%d %H:%M:%S} to {until} UTC"


def visible(text: str) -> str:
    r"""One line of text from outside: white space becomes one space; controls, bidi marks and the like are escaped.

    >>> print(visible("\x1b[31mred\r\n\u202etxet"))
    \x1b[31mred \u202etxet
    """
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)
