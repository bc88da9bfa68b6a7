"""Put a trained and evaluated world into the package: `worldflow/worlds/NAME.safetensors`.

    python benchmarks/ship_world.py runs/breakout report/metrics.json breakout

`--command` says how to train it again, where the card's own command names folders of one machine.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from worldflow.errors import InputError
from worldflow.world import SHIPPED, World


def ship(run: str, report: Path, name: str, command: str | None) -> Path:
    """Copy the world of `run` under `name`, with the figures of `report` on its card.

    Raises:
        InputError: the report judges another world.
    """
    world = World.load(run)
    metrics = json.loads(report.read_text())
    if metrics["world_hash"] != world.hash:
        raise InputError(
            f"{report} judges the world {metrics['world_hash']}, but {run} is {world.hash}: "
            "evaluate it again"
        )
    told = {key: value for key, value in metrics.items() if value is not None}
    training = world.card.training | ({"command": command} if command else {})
    card = dataclasses.replace(world.card, name=name, training=training, metrics=told)
    path = SHIPPED / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    dataclasses.replace(world, card=card).save(path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run folder or a world file")
    parser.add_argument("report", type=Path, help="metrics.json of `worldflow evaluate`")
    parser.add_argument("name", help="what the world is to be called")
    parser.add_argument("--command", help="how to train it again, if not as the card has it")
    arguments = parser.parse_args()
    print(ship(arguments.run, arguments.report, arguments.name, arguments.command))
