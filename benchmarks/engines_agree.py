"""Do PyTorch and ONNX Runtime draw the same? Exit code 1 if they do not hold the bars.

    python benchmarks/engines_agree.py breakout --rows 4 --steps 256
    python benchmarks/engines_agree.py breakout --rows 4 --steps 256 --dtype float16

From the same state at each step: float32 within 1/255 at every pixel, but in frames with a
selector within 1e-5 of a boundary, of which at most 1 % may differ more; float16 within 2/255 at
99.9 % of the colours, and 99.9 % of the selectors choose the same component. Then both run free,
with the same luck, until they part; that has no bar.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldflow.agreement import Agreement, as_torch, compare, free_run, watched_selectors
from worldflow.card import Playable
from worldflow.export import DTYPES
from worldflow.model import StreamState, WorldModel
from worldflow.onnx_engine import OnnxEngine
from worldflow.onnx_file import STEP_INPUTS
from worldflow.onnx_graph import to_onnx, traced
from worldflow.onnx_ops import folded, halved
from worldflow.onnx_session import open_session
from worldflow.playable import choose_device
from worldflow.rollouts import noise_rows
from worldflow.timing import first_state
from worldflow.torch_engine import TorchEngine
from worldflow.world import World

TOLERANCE = {"float32": 1, "float16": 2}  # levels of 255
MOST_FLIPPED = 0.01  # of the frames, in float32
LEAST_WITHIN = 0.999  # of colours, and of selectors, in float16


class Picks(nn.Module):
    """The components that a step draws, all of them: `(N, sites)`."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        frames: Tensor,
        actions: Tensor,
        keys: Tensor,
        values: Tensor,
        steps: Tensor,
        recency: Tensor,
        action: Tensor,
        noise: Tensor,
        temperature: Tensor,
    ) -> Tensor:
        state = StreamState(frames, actions, keys, values, steps, recency)
        with watched_selectors() as seen:
            self.model.step(state, action, noise, temperature)
        return torch.cat([picks.flatten(1) for picks in seen.picks], dim=1)


def selectors_agreeing(
    world: World, ours: Playable, reference: TorchEngine, rows: int, steps: int
) -> float:
    """The share of selectors that choose the same component in half precision."""
    model = halved(folded(world.model).cpu())
    frame = torch.zeros((2, model.size, model.size, 3), dtype=torch.uint8)
    rest = torch.zeros(2, dtype=torch.int64), torch.zeros(2, model.noise_size), torch.ones(2)
    graph = traced(Picks(model), (*model.first_state(frame), *rest), STEP_INPUTS, ("picks",))
    session = open_session(graph.SerializeToString())
    return float(np.mean(list(_agreeing(session, ours, reference, rows, steps))))


def _agreeing(
    session: object, ours: Playable, reference: TorchEngine, rows: int, steps: int
) -> Iterator[NDArray[np.bool_]]:
    state, random = first_state(ours, rows), np.random.default_rng(0)
    names = {node.name for node in session.get_inputs()}  # type: ignore[attr-defined]
    for index in range(steps):
        action = random.integers(ours.engine.action_count, size=rows)
        noise = noise_rows(0, np.arange(rows), index, ours.engine.noise_size)
        given = action, noise, np.ones(rows, np.float32)
        feeds = dict(zip(STEP_INPUTS, (*map(np.asarray, state.values()), *given), strict=True))
        feeds = {name: value for name, value in feeds.items() if name in names}
        (picks,) = session.run(None, feeds)  # type: ignore[attr-defined]
        with watched_selectors() as seen:
            reference.step(as_torch(state, reference.device), *given)
        yield picks == torch.cat([p.flatten(1) for p in seen.picks], dim=1).cpu().numpy()
        state = ours.engine.step(state, *given).state


def report(found: Agreement) -> str:
    """The figures as text."""
    lines = [
        f"{found.frames} frames, each drawn by both engines from the same state",
        f"{found.near_ties} with a near tie; {found.flipped} of these differ by more than "
        f"{found.tolerance}/255 somewhere",
        f"{found.unexplained} without a near tie do so; at most {found.worst}/255 there",
        f"{found.share_within:.6%} of colours are within {found.tolerance}/255",
    ]
    share, count = found.object_share_within, found.object_colours
    if share is not None:
        lines.append(f"{share:.6%} of the {count} colours on the game's object")
    return "\n".join([*lines, f"{found.outcomes_differing} rewards or terminations differ"])


def main(arguments: argparse.Namespace) -> int:
    dtype, rows, steps = arguments.dtype, arguments.rows, arguments.steps
    device = choose_device(arguments.device, arguments.threads)
    world = World.load(arguments.world)
    reference = TorchEngine(world if device == "cpu" else World.load(arguments.world, device))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.onnx"
        path.write_bytes(to_onnx(world, dtype))
        engine = OnnxEngine(path, device=device, threads=arguments.threads)
    ours = Playable(world.card, engine, world.start_frames, world.start_actions)
    tolerance = TOLERANCE[dtype]
    found = compare(ours, reference, rows=rows, steps=steps, tolerance=tolerance)
    print(f"{world.card.name} {world.hash}, {dtype}, {device}, {engine.provider}")
    print(report(found))
    holds = found.unexplained == 0 and found.flipped <= MOST_FLIPPED * found.frames
    if dtype == "float16":
        share = selectors_agreeing(world, ours, reference, rows, min(steps, arguments.picks))
        print(f"{share:.6%} of selectors choose the same component")
        holds = min(found.share_within, share) >= LEAST_WITHIN
    together = free_run(ours, reference, rows=rows, steps=steps, tolerance=tolerance)
    print(f"free-running, together for {together} frames of {steps}")
    print("the bars hold" if holds else "THE BARS DO NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", help="a shipped world, a run folder or a .safetensors file")
    parser.add_argument("--rows", type=int, default=4, help="rollouts side by side")
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--picks", type=int, default=64, help="steps whose selectors are compared")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, default=0, help="0: each engine's own choice")
    sys.exit(main(parser.parse_args()))
