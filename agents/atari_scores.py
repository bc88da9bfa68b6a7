"""What random and human players score in Atari games: the ends of the human-normalised scale.

From Wang et al., "Dueling Network Architectures for Deep Reinforcement Learning" (2016), table 2,
for the 26 games of the Atari 100k benchmark (Kaiser et al. 2020): full games, raw score.
"""

from typing import NamedTuple


class Reference(NamedTuple):
    """Mean returns of whole games."""

    random: float
    human: float


REFERENCES = {
    "ALE/Alien-v5": Reference(227.8, 7127.7),
    "ALE/Amidar-v5": Reference(5.8, 1719.5),
    "ALE/Assault-v5": Reference(222.4, 742.0),
    "ALE/Asterix-v5": Reference(210.0, 8503.3),
    "ALE/BankHeist-v5": Reference(14.2, 753.1),
    "ALE/BattleZone-v5": Reference(2360.0, 37187.5),
    "ALE/Boxing-v5": Reference(0.1, 12.1),
    "ALE/Breakout-v5": Reference(1.7, 30.5),
    "ALE/ChopperCommand-v5": Reference(811.0, 7387.8),
    "ALE/CrazyClimber-v5": Reference(10780.5, 35829.4),
    "ALE/DemonAttack-v5": Reference(152.1, 1971.0),
    "ALE/Freeway-v5": Reference(0.0, 29.6),
    "ALE/Frostbite-v5": Reference(65.2, 4334.7),
    "ALE/Gopher-v5": Reference(257.6, 2412.5),
    "ALE/Hero-v5": Reference(1027.0, 30826.4),
    "ALE/Jamesbond-v5": Reference(29.0, 302.8),
    "ALE/Kangaroo-v5": Reference(52.0, 3035.0),
    "ALE/Krull-v5": Reference(1598.0, 2665.5),
    "ALE/KungFuMaster-v5": Reference(258.5, 22736.3),
    "ALE/MsPacman-v5": Reference(307.3, 6951.6),
    "ALE/Pong-v5": Reference(-20.7, 14.6),
    "ALE/PrivateEye-v5": Reference(24.9, 69571.3),
    "ALE/Qbert-v5": Reference(163.9, 13455.0),
    "ALE/RoadRunner-v5": Reference(11.5, 7845.0),
    "ALE/Seaquest-v5": Reference(68.4, 42054.7),
    "ALE/UpNDown-v5": Reference(533.4, 11693.2),
}


def human_normalised(game: str, mean_return: float) -> float | None:
    """0 for random play, 1 for a human's; None for a game that has no published scores."""
    if game not in REFERENCES:
        return None
    reference = REFERENCES[game]
    return (mean_return - reference.random) / (reference.human - reference.random)
