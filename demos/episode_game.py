"""A recording, shown in the window as if it were played."""

from collections.abc import Mapping
from pathlib import Path

from worldflow.demos.play_film import free_name, write_film
from worldflow.demos.view import View
from worldflow.episode import Episode

FAR_SECONDS = 15


class EpisodeGame:
    """A `worldflow.demos.view.Game` that shows a recording; the keys of the game do nothing."""

    commands = frozenset({"step_back", "back", "far_back"})

    def __init__(self, episode: Episode) -> None:
        header = episode.header
        self.title, self.frame_rate = episode.path.name, header.frame_rate
        self.key_map: Mapping[str, int] = {}
        self.action_names = header.action_names
        self._episode = episode
        self._rows, self._origins = episode.steps().rows, episode.origin()
        self._controllers = episode.controller()
        self._at = 0  # the frame shown
        self._block = (0, episode.frames(0, 1))  # number of its first frame, frames

    def restart(self, seed: int | None = None) -> None:
        """From its beginning."""
        self._at = 0

    def step(self, action: int) -> None:
        """Show the next frame."""
        self._at = min(self._at + 1, len(self._rows))

    def command(self, name: str) -> None:
        """Go back in the recording."""
        seconds = {"step_back": 1 / self.frame_rate, "back": 1, "far_back": FAR_SECONDS}[name]
        self._at = max(0, self._at - round(seconds * self.frame_rate))

    def view(self) -> View:
        """The frame and what led to it."""
        first, frames = self._block
        if not first <= self._at < first + len(frames):  # read a second at a time
            stop = min(self._at + self.frame_rate, len(self._rows) + 1)
            first, frames = self._block = (self._at, self._episode.frames(self._at, stop))
        frame = frames[self._at - first]
        if not self._at:
            return View(frame, seed=self._episode.header.seed)
        row = self._rows[self._at - 1]
        ended = row["terminated"] or row["truncated"] or self._at == len(self._rows)
        return View(
            frame,
            source=self._origins[self._at - 1],
            player=self._controllers[self._at - 1],
            step=self._at,
            reward=float(row["reward"]),
            total=float(self._rows["reward"][: self._at].sum()),
            action=int(row["action"]),
            temperature=float(row["temperature"]),
            seed=self._episode.header.seed,
            luck=f"{row['noise_row']}:{row['noise_counter']}",
            engine=self._episode.header.engine or "",
            over="end of the recording" if ended else "",
        )

    def appraise(self) -> None:
        """Nothing is left to do after a step."""

    def rest(self) -> None:
        """Nothing is pending."""

    def close(self) -> None:
        """Files are open only while they are read."""


def film_episode(episode: Episode, out: Path | None, frame_rate: int, scale: int) -> Path:
    """A recording as a film, where there is no window to show it in.

    Raises:
        WorkError: the film cannot be written.
    """
    path = out or free_name(episode.path.stem)
    rate, second = frame_rate or episode.header.frame_rate, episode.header.frame_rate
    starts = range(0, len(episode) + 1, second)
    blocks = (episode.frames(t, min(t + second, len(episode) + 1)) for t in starts)
    write_film(path, (frame for block in blocks for frame in block), rate, scale)
    print(f"{episode.path}, {len(episode)} steps: {path}")
    return path
