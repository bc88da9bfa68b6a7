"""Recording play: an episode for each stretch of it, and a film beside each."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from worldflow.envs.start import Context
from worldflow.episode import SUFFIX, Episode, EpisodeWriter, Header, StepRecord
from worldflow.errors import InputError, WorkError
from worldflow.film import Mp4Writer, write_gif, write_webp

FLUSH_SECONDS = 1.0  # the most that a crash may lose
FILMS = ("mp4", "gif", "webp")
FILM_SCALE = 6


class Place(NamedTuple):
    """A frame of a recording: frame `step` of the episode `name`, in the same folder."""

    name: str
    step: int


class Tape:
    """One recording: an episode with its films. There is no file before the first step."""

    def __init__(
        self, folder: Path, stem: str, header: Header, start: Context, films: Sequence[str]
    ) -> None:
        self.path: Path | None = None  # once there is one
        self.steps = 0
        self._folder, self._stem, self._films = folder, stem, films
        self._header = header
        self._start: Context | None = start
        self._writer: EpisodeWriter | None = None
        self._mp4: Mp4Writer | None = None
        self._flushed = time.monotonic()

    def append(self, record: StepRecord) -> None:
        """Record one step."""
        writer = self._writer or self._open()
        writer.append(record)
        self.steps += 1
        if self._mp4 is not None:
            self._mp4.add(record.frame)
        # A block is a second of play; played slowly, that may be a minute of the player's.
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending of the episode."""
        if self._writer is not None:
            self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Finish the episode, then the films."""
        if self._writer is None or self.path is None:
            return
        # Marks on the way back name this tape for long; its encoder takes megabytes.
        mp4, self._mp4 = self._mp4, None
        try:
            self._writer.close()
        finally:
            if mp4 is not None:
                mp4.close()
        for kind, write in (("gif", write_gif), ("webp", write_webp)):
            if kind in self._films:
                frames = Episode.open(self.path).frames()
                write(self.path.with_suffix(f".{kind}"), frames, self._header.frame_rate)

    def place(self, step: int) -> Place | None:
        """Where frame `step` is found on disk; of frame 0 only a parent has a copy."""
        if step and self.path is not None:
            return Place(self.path.name, step)
        if self._header.parent is None or self._header.parent_step is None:
            return None
        return Place(self._header.parent, self._header.parent_step)

    def _open(self) -> EpisodeWriter:
        assert self._start is not None
        start, self._start = self._start, None
        path = _free_path(self._folder, self._stem)
        self._writer = EpisodeWriter(path, self._header, start.frames, start.actions)
        self.path = path
        if "mp4" in self._films:
            film = path.with_suffix(".mp4")
            self._mp4 = Mp4Writer(film, self._header.frame_rate, FILM_SCALE, live=True)
            self._mp4.add(start.frames[-1])
        return self._writer


class Spot(NamedTuple):
    """A frame on tape, whether the tape has a file yet or not."""

    tape: Tape
    step: int


class Recorder:
    """A folder of recordings. Nothing in it is ever written over.

    Args:
        folder: made when the first recording begins.
        films: of "mp4", "gif" and "webp"; what is made beside each episode.

    Raises:
        InputError: an unknown film, or `folder` is a file.
    """

    def __init__(self, folder: Path, films: Sequence[str] = ("mp4",)) -> None:
        for film in films:
            if film not in FILMS:
                raise InputError(f"films={film}: expected some of {', '.join(FILMS)}")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; recordings need a folder")
        self.folder, self.steps = folder, 0  # steps of all recordings
        self.paths: list[Path] = []  # of all recordings
        self.tape: Tape | None = None  # that runs
        self._films = films

    @property
    def spot(self) -> Spot | None:
        """The newest frame on tape; None while nothing is recorded."""
        return None if self.tape is None else Spot(self.tape, self.tape.steps)

    def begin(self, stem: str, header: Header, start: Context) -> None:
        """Begin `STEM-0001.episode`, or the next free number; the one before must have ended."""
        self.tape = Tape(self.folder, stem, header, start, self._films)

    def append(self, record: StepRecord) -> None:
        """Record one step, if a recording runs. One that fails has run.

        Raises:
            InputError: the folder cannot be made.
            WorkError: the disk is full or fails.
        """
        tape = self.tape
        if tape is None:
            return
        try:
            with _explained(self.folder):
                tape.append(record)
        except (InputError, WorkError):
            with contextlib.suppress(WorkError):
                self.end()
            raise
        self.steps += 1
        if tape.steps == 1 and tape.path is not None:
            self.paths.append(tape.path)

    def flush(self) -> None:
        """Write what is pending: play rests. Raises WorkError."""
        if self.tape is not None:
            with _explained(self.folder):
                self.tape.flush()

    def end(self) -> None:
        """Finish the recording that runs, if any. Raises WorkError."""
        tape, self.tape = self.tape, None
        if tape is not None:
            with _explained(self.folder):
                tape.close()


def _free_path(folder: Path, stem: str) -> Path:
    """The first number for which there is neither an episode nor a film."""
    taken = {path.stem for path in folder.glob(f"{stem}-*")}
    number = next(n for n in range(1, 10**6) if f"{stem}-{n:04}" not in taken)
    return folder / f"{stem}-{number:04}{SUFFIX}"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """A disk that fails while a film is written is one clear line, as it is for an episode."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise WorkError(f"{path}: cannot be recorded: {reason}; what there is is kept") from error
