"""What a training run tells while it runs: `log.jsonl`, TensorBoard, a progress bar."""

import json
import sys
from pathlib import Path
from typing import Any

from worldflow.checkpoint import Progress
from worldflow.errors import InputError


class Log:
    """`log.jsonl`, one line a report; TensorBoard beside it if asked.

    Lines after `step` belong to updates that are about to be made again, and go.
    """

    def __init__(self, out: Path, step: int, tensorboard: bool) -> None:
        self.path = out / "log.jsonl"
        if self.path.exists():
            lines = [line for line in self.path.read_text().splitlines() if _step(line) <= step]
            self.path.write_text("".join(line + "\n" for line in lines))
        self.board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise InputError("tensorboard=true needs it: pip install tensorboard") from error
            self.board = SummaryWriter(out)

    def write(self, figures: dict[str, float]) -> None:
        """Append one line; `figures` has the key "step"."""
        with self.path.open("a") as file:
            file.write(json.dumps(figures) + "\n")
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(name, value, figures["step"])


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line that a killed run left half-written
        return sys.maxsize


class ProgressBar:
    """tqdm over updates or minutes; without tqdm, a line for every report.

    Use with `contextlib.closing`.
    """

    def __init__(self, steps: int, minutes: float, progress: Progress) -> None:
        self.by_step = steps > 0
        self.total = steps if self.by_step else minutes
        self.began_at = (progress.frames, progress.seconds)
        try:
            from tqdm import tqdm
        except ImportError:
            self.bar: Any = None
            return
        layout = "{l_bar}{bar}| {n:.1f}/{total:.1f} {unit} [{elapsed}<{remaining}{postfix}]"
        self.bar = tqdm(
            total=self.total,
            initial=self._done(progress),
            unit="updates" if self.by_step else "min",
            bar_format=layout,
            mininterval=1.0,
        )

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()

    def _done(self, progress: Progress) -> float:
        """At most all: tqdm forgets a total that is passed, and then cannot show itself."""
        return min(progress.step if self.by_step else progress.seconds / 60, self.total)

    def advance(self, progress: Progress) -> None:
        """Move to where the run stands."""
        if self.bar is not None:
            self.bar.update(max(0.0, self._done(progress) - self.bar.n))

    def show(self, progress: Progress, figures: dict[str, float]) -> None:
        """Speed in this session, NLL excess, PSNR of one step."""
        frames, seconds = self.began_at
        rate = (progress.frames - frames) / max(progress.seconds - seconds, 1e-6)
        text = (
            f"{rate:.0f} frames/s, NLL excess {figures['held_out_nll_excess_nats']:.1f} nats, "
            f"PSNR {figures['held_out_psnr_1']:.1f} dB"
        )
        if self.bar is not None:
            self.bar.set_postfix_str(text)
        else:
            print(f"update {progress.step}: {text}", flush=True)
