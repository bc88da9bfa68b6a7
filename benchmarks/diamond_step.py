"""DIAMOND's step and ours, timed beside each other on the same cores, batch 1.

    git clone https://github.com/eloialonso/diamond ../diamond
    python benchmarks/diamond_step.py ../diamond breakout --threads 2

DIAMOND runs from its own checkout with its own Atari configuration: three denoising passes, then
its reward and end model, both samples drawn. Its weights are random, which costs no more and no
less than trained ones. Ours is the whole step of a world by ONNX Runtime, its noise drawn, too.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.distributions import Categorical

from worldflow.cost import device_name
from worldflow.errors import InputError
from worldflow.playable import choose_device, load_playable
from worldflow.rollouts import noise_rows

BLOCKS = 6  # of each in turn, so that a disturbance meets both
REST = 1.0  # seconds between blocks: ONNX Runtime's threads spin for a while after a step
WARM_UP = 3  # steps of each block that are not counted

Step = Callable[[], None]


def diamond_step(checkout: Path, actions: int, device: str, *, compiled: bool) -> Step:
    """One step of DIAMOND's `WorldModelEnv`, without its resets.

    Raises:
        InputError: the folder is no checkout of DIAMOND.
    """
    if not (checkout / "src" / "models" / "diffusion").is_dir():
        raise InputError(
            f"{checkout} is no checkout of DIAMOND: git clone https://github.com/eloialonso/diamond"
        )
    sys.path.insert(0, str(checkout / "src"))
    for name in ("wandb", "torcheval", "torcheval.metrics", "torcheval.metrics.functional"):
        sys.modules.setdefault(name, MagicMock())  # it logs with them, in training only
    from models.diffusion import (
        Denoiser,
        DiffusionSampler,
        DiffusionSamplerConfig,
    )
    from models.rew_end_model import RewEndModel

    config = read_config(checkout / "config", actions)
    size = config.env.train.size
    denoiser = Denoiser(instantiate(config.agent.denoiser)).to(device).eval()
    judge = RewEndModel(instantiate(config.agent.rew_end_model)).to(device).eval()
    passes = config.world_model_env.diffusion_sampler.num_steps_denoising
    sampler = DiffusionSampler(denoiser, DiffusionSamplerConfig(num_steps_denoising=passes))
    draw, predict = sampler.sample, judge.predict_rew_end
    if compiled:  # as its trainer does
        draw, predict = (torch.compile(f, mode="reduce-overhead") for f in (draw, predict))
    length = config.agent.denoiser.inner_model.num_steps_conditioning
    frames = torch.rand(1, length, 3, size, size, device=device) * 2 - 1
    acted = torch.zeros(1, length, dtype=torch.long, device=device)
    memory = tuple(
        torch.zeros(1, 1, config.agent.rew_end_model.lstm_dim, device=device) for _ in range(2)
    )
    count = sum(p.numel() for model in (denoiser, judge) for p in model.parameters())
    print(f"DIAMOND: {passes} passes, {count / 1e6:.1f} M parameters, PyTorch {torch.__version__}")

    @torch.no_grad()
    def step() -> None:
        nonlocal frames, acted, memory
        acted[:, -1] = int(torch.randint(actions, ()))
        drawn, _ = draw(frames, acted)
        rewards, ends, memory = predict(frames[:, -1:], acted[:, -1:], drawn[:, None], memory)
        Categorical(logits=rewards).sample().item()
        Categorical(logits=ends).sample().item()
        frames, acted = frames.roll(-1, dims=1), acted.roll(-1, dims=1)
        frames[:, -1] = drawn

    return step


def read_config(folder: Path, actions: int) -> OmegaConf:
    """DIAMOND's own, as its `trainer.yaml` puts it together for Atari."""
    config = OmegaConf.create(
        {
            "agent": OmegaConf.load(folder / "agent" / "default.yaml"),
            "env": OmegaConf.load(folder / "env" / "atari.yaml"),
            "world_model_env": OmegaConf.load(folder / "trainer.yaml").world_model_env,
        }
    )
    config.agent.denoiser.inner_model.num_actions = actions
    config.agent.rew_end_model.num_actions = actions
    return config


def world_step(what: str, device: str, threads: int) -> tuple[Step, int]:
    """One step of ours by ONNX Runtime, and how many actions it has."""
    playable = load_playable(what, engine="onnx", device=device, threads=threads)
    engine, count = playable.engine, 0
    state = engine.start(playable.start_frames[:1], playable.start_actions[:1])
    random, row, warm = np.random.default_rng(0), np.zeros(1, np.int64), np.ones(1, np.float32)

    def step() -> None:
        nonlocal state, count
        noise = noise_rows(0, row, count, engine.noise_size)
        state = engine.step(state, random.integers(engine.action_count, size=1), noise, warm).state
        count += 1

    return step, engine.action_count


def timed(step: Step, repeats: int) -> list[float]:
    """Milliseconds of each."""
    times = []
    for _ in range(WARM_UP + repeats):
        began = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - began))
    return times[WARM_UP:]


def main(arguments: argparse.Namespace) -> None:
    device = choose_device(arguments.device, arguments.threads)
    ours, actions = world_step(arguments.world, device, arguments.threads)
    theirs = diamond_step(arguments.diamond, actions, device, compiled=arguments.compile)
    times: dict[str, list[float]] = {"DIAMOND": [], arguments.world: []}
    for _ in range(BLOCKS):
        for name, step in zip(times, (theirs, ours), strict=True):
            time.sleep(REST)
            times[name] += timed(step, -(-arguments.steps // BLOCKS))
    print(device_name(device))
    for name, values in times.items():
        p50, p99 = np.percentile(values, (50, 99))
        print(f"{name:12} {p50:8.2f} ms median, {p99:8.2f} p99, {len(values)} steps")
    medians = [float(np.median(values)) for values in times.values()]
    print(f"DIAMOND takes {medians[0] / medians[1]:.1f} times as long")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("diamond", type=Path, help="a checkout of its repository")
    parser.add_argument("world", nargs="?", default="breakout", help="what `worldflow bench` takes")
    parser.add_argument("--steps", type=int, default=120, help="of each")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, default=0, help="0: each engine's own choice")
    parser.add_argument("--compile", action="store_true", help="DIAMOND's step by torch.compile")
    main(parser.parse_args())
