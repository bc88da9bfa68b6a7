"""Put a trained and judged agent into the package: `agents/shipped/NAME.safetensors`.

    python benchmarks/ship_agent.py runs/agent agent.json bounce

`--command` says how to train it again, where the card's own command names folders of one machine.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from worldflow.agents.agent_file import SHIPPED, Agent
from worldflow.errors import InputError


def ship(run: str, report: Path, name: str, command: str | None) -> Path:
    """Copy the agent of `run` under `name`, with the figures of `report` on its card.

    Raises:
        InputError: the report judges another agent, or the game of another.
    """
    agent = Agent.load(run)
    told = json.loads(report.read_text())
    if told["agent"] != run or told["game"] != agent.card.game:
        raise InputError(
            f"{report} judges {told['agent']} in {told['game']}, not {run}: evaluate it again"
        )
    told["agent"] = name
    for player in told["players"].values():
        del player["returns"]  # of single episodes: too much for a card
    training = agent.card.training | ({"command": command} if command else {})
    card = dataclasses.replace(agent.card, training=training, metrics=told)
    path = SHIPPED / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    dataclasses.replace(agent, card=card).save(path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="as it was named to `worldflow agent evaluate`")
    parser.add_argument("report", type=Path, help="the JSON file of `worldflow agent evaluate`")
    parser.add_argument("name", help="what the agent is to be called")
    parser.add_argument("--command", help="how to train it again, if not as the card has it")
    arguments = parser.parse_args()
    print(ship(arguments.run, arguments.report, arguments.name, arguments.command))
