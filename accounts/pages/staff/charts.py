"""The geometry of charts. templates/staff/chart.html draws them as SVG: shapes with classes, no style and no script, so
that they pass the strictest policy and follow light and dark mode like the words beside them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import count

WIDTH, HEIGHT = 720, 180
LEFT, BELOW, ABOVE = 64, 24, 12  # room for numbers and days


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    day: date
    number: int


@dataclass(frozen=True)
class Line:
    y: float
    number: int


@dataclass(frozen=True)
class Chart:
    bars: Sequence[Bar]
    lines: Sequence[Line]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT

    @property
    def ends(self) -> tuple[Bar, Bar]:
        return self.bars[0], self.bars[-1]


def by_day(numbers: Sequence[tuple[date, int]]) -> Chart:
    top = ceiling(max(number for _day, number in numbers))
    step = (WIDTH - LEFT) / len(numbers)
    room = HEIGHT - BELOW - ABOVE

    def y(number: float) -> float:
        return round(ABOVE + room * (1 - number / top), 2)

    bars = [
        Bar(round(LEFT + place * step, 2), y(number), round(step * 0.8, 2), round(room * number / top, 2), day, number)
        for place, (day, number) in enumerate(numbers)
    ]
    return Chart(bars, [Line(y(number), number) for number in (0, top // 2, top)])


def ceiling(most: int) -> int:
    """The next of 2, 4, 10, 20, 40, 100 ..."""
    steps: Iterator[int] = (digit * 10**power for power in count() for digit in (2, 4, 10))
    return next(step for step in steps if most <= step)


@dataclass(frozen=True)
class Share:
    name: object
    number: int
    percent: float
    width: float


def shares(numbers: Sequence[tuple[object, int]]) -> Sequence[Share]:
    whole = sum(number for _name, number in numbers) or 1
    return [
        Share(name, number, round(100 * number / whole, 1), round(WIDTH * number / whole, 2))
        for name, number in numbers
    ]
