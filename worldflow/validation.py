"""How a run is doing on episodes that it does not train on: figures and films."""

from pathlib import Path

import numpy as np
import torch

from worldflow.dataset import ClipSampler, Dataset
from worldflow.model import to_bytes, to_signed
from worldflow.noise import standard_normal
from worldflow.torch_engine import TorchEngine
from worldflow.world import World

CLIPS, HORIZON = 12, 8  # of the figures
FILMS, CONTEXT, LENGTH = 4, 8, 64  # of a film: rollouts, real frames before them, their steps


@torch.inference_mode()
def validate(world: World, held_out: Dataset) -> dict[str, float]:
    """NLL excess (nats per frame) and the PSNR of one sampled step, always on the same clips."""
    model = world.model
    device = model.reward_support.device
    past = model.config.history - 1
    clips = ClipSampler(held_out, CLIPS, HORIZON, seed=0, past=past).clips(0)
    frames = to_signed(clips.frames.to(device))
    given = model.conditions(frames[:, :-1], torch.from_numpy(clips.actions).to(device))
    target = frames[:, past + 1 :].flatten(0, 1)
    eps = torch.randn(target.shape, generator=torch.Generator().manual_seed(0)).to(device)
    nll_excess = model.nll_excess(target + model.config.sigma * eps, given)

    noise = np.stack([standard_normal(0, row, 0, model.noise_size) for row in range(len(target))])
    z = torch.from_numpy(noise).to(device)
    y = model.flow.decode(z[:, :-1], given, torch.ones(len(z), device=device))
    shown = to_signed(to_bytes(model.outcome(y, given).frame))
    mse = (shown - target).square().mean(dim=(1, 2, 3)).clamp(min=1e-6)
    psnr = 10 * torch.log10(4 / mse)

    judged = torch.from_numpy(clips.valid).to(device).flatten()
    return {
        "held_out_nll_excess_nats": float(nll_excess[judged].mean()),
        "held_out_psnr_1": float(psnr[judged].mean()),
    }


def write_film(path: Path, world: World, held_out: Dataset) -> None:
    """Rollouts under the recorded actions, each beneath the truth: `path`.gif and `path`.png.

    Without Pillow there is no film, and a line says so.
    """
    clips = ClipSampler(held_out, FILMS, CONTEXT + LENGTH, seed=1, terminal_fraction=0).clips(0)
    real, engine = clips.frames.numpy(), TorchEngine(world)
    state = engine.start(real[:, :CONTEXT], clips.actions[:, : CONTEXT - 1])
    shown = list(real[:, :CONTEXT].swapaxes(0, 1))
    warm = np.ones(FILMS, np.float32)
    for t in range(CONTEXT - 1, clips.actions.shape[1]):
        noise = np.stack([standard_normal(0, row, t, engine.noise_size) for row in range(FILMS)])
        step = engine.step(state, clips.actions[:, t], noise, warm)
        state = step.state
        shown.append(step.frame)
    dreams = np.stack(shown, axis=1)  # (FILMS, T+1, H, W, 3)
    try:
        from worldflow.film import side_by_side, write_gif, write_strip
    except ImportError as error:
        print(f"no film: {error}; pip install Pillow", flush=True)
        return
    films = [*real, *dreams]
    rate = world.card.frame_rate
    write_gif(path.with_suffix(".gif"), side_by_side(films, columns=FILMS), rate)
    columns = np.arange(CONTEXT - 1, CONTEXT + LENGTH, 6)
    rows = [film[columns] for pair in zip(real, dreams, strict=True) for film in pair]
    write_strip(path.with_suffix(".png"), rows, labels=["real", "dream"] * FILMS)
