"""The way back: a mark of where play stood every second, and the moves in between."""

from collections import deque
from typing import Generic, NamedTuple, TypeVar

Mark = TypeVar("Mark")
Step = TypeVar("Step")


class Stretch(NamedTuple, Generic[Mark, Step]):
    """A mark, and the steps taken from it."""

    mark: Mark
    steps: list[Step]


class Timeline(Generic[Mark, Step]):
    """Remembers how to come back to any step of late.

    Marks are large and steps are small, so only every so many steps have a mark; a step between
    is reached from the mark before by taking its steps again.

    Args:
        every: steps after which another mark is due.
        keep: marks kept; the oldest is forgotten with its steps.
    """

    def __init__(self, every: int, keep: int) -> None:
        self._every = every
        self._stretches: deque[Stretch[Mark, Step]] = deque(maxlen=keep)

    def __len__(self) -> int:
        """How many steps one can go back."""
        return sum(len(stretch.steps) for stretch in self._stretches)

    @property
    def marks(self) -> list[Mark]:
        """Those that are kept, oldest first."""
        return [stretch.mark for stretch in self._stretches]

    @property
    def due(self) -> bool:
        """Whether a mark is needed before the next step."""
        return not self._stretches or len(self._stretches[-1].steps) >= self._every

    def mark(self, mark: Mark) -> None:
        """Play stands at `mark` now. Needed, too, wherever something else than a step happened."""
        if self._stretches and not self._stretches[-1].steps:
            self._stretches.pop()  # nothing leads from it to here but what made this mark
        self._stretches.append(Stretch(mark, []))

    def add(self, step: Step) -> None:
        """A step was taken. Not before the first mark."""
        self._stretches[-1].steps.append(step)

    def back(self, count: int) -> Stretch[Mark, Step]:
        """Forget the last `count` steps, or all there are.

        Returns:
            The mark to begin from, and the steps to take from it.
        """
        last = self._stretches[-1]
        while count > len(last.steps) and len(self._stretches) > 1:
            count -= len(last.steps)
            self._stretches.pop()
            last = self._stretches[-1]
        del last.steps[max(0, len(last.steps) - count) :]
        return Stretch(last.mark, list(last.steps))
