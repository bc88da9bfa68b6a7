"""What dreaming for a learner costs on top of the bare engine: frames/s of both, side by side.

    python benchmarks/dream_speed.py bounce --batch 64 --threads 2

Both draw their noise on the device; `dreams` also stacks frames, cuts off, and begins anew at
starts. Random actions, dreams of 64 steps.
"""

import argparse
import time
from collections.abc import Callable

import torch

from worldflow.agents.dreams import Dreams, Starts
from worldflow.dataset import open_dataset
from worldflow.playable import choose_device
from worldflow.world import World


def frames_per_second(step: Callable[[], None], batch: int, steps: int, device: str) -> float:
    """After three steps to warm up (and to compile)."""
    for _ in range(3):
        step()
    synchronise(device)
    began = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise(device)
    return steps * batch / (time.perf_counter() - began)


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@torch.no_grad()
def main(arguments: argparse.Namespace) -> None:
    device, batch = choose_device(arguments.device, arguments.threads), arguments.batch
    world = World.load(arguments.world, device)
    dataset = open_dataset(arguments.data) if arguments.data else None
    model, actions = world.model, world.model.action_count
    generator = torch.Generator(device).manual_seed(0)
    stage = Dreams(
        world,
        Starts(world, dataset),
        envs=batch,
        stack=4,
        horizon=64,
        compiled=arguments.compile,
    )
    stage.restart(generator)
    state, warm = stage.state, torch.ones(batch, device=device)
    bare = torch.compile(model.step, dynamic=False) if arguments.compile else model.step

    def chosen() -> torch.Tensor:
        return torch.randint(actions, (batch,), generator=generator, device=device)

    def engine_step() -> None:
        nonlocal state
        noise = torch.randn((batch, model.noise_size), generator=generator, device=device)
        *_, state = bare(state, chosen(), noise, warm)

    def dream_step() -> None:
        stage.step(chosen(), generator)

    engine = frames_per_second(engine_step, batch, arguments.steps, device)
    dreams = frames_per_second(dream_step, batch, arguments.steps, device)
    print(
        f"{device}, batch {batch}: engine {engine:.0f} frames/s, dreams {dreams:.0f} frames/s,",
        end="",
    )
    print(f" {100 * (engine / dreams - 1):.1f} % on top")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", help="a shipped world, a run folder or a .safetensors file")
    parser.add_argument("--data", help="episodes for dreams to begin at")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    main(parser.parse_args())
