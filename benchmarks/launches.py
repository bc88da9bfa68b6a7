"""How much of a ball's recall can be known: is it launched at places that only chance foretells?

    python benchmarks/launches.py data/breakout-held

Where a game brings its ball in play is often the console's own secret. This finds the places at
which a ball comes back in recordings after it was out of sight, how often it takes the same one in
one episode and in another, and what a perfect simulator would be given as recall that knew all but
these places, and drew them by how often each is taken.
"""

import argparse
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.dataset import open_dataset
from worldflow.envs.objects import object_of
from worldflow.errors import InputError
from worldflow.small_objects import NEAR, SPANS, WHOLE, SmallObject, find_blobs

GONE = 5  # frames out of sight in a row, after which it comes anew
COMMON = 0.05  # of all places of coming, the share near one that makes that a launch
HISTORY = 8  # frames that a rollout is given
HORIZON = max(last for _, last in SPANS.values())  # frames ahead that are judged


class Episode(NamedTuple):
    """Where the ball of one episode is to be seen."""

    shown: NDArray[np.bool_]  # (T+1,)
    comes: dict[int, tuple[float, float]]  # frame -> place, row and column


def watch(small: SmallObject, frames: NDArray[np.uint8]) -> Episode:
    strength = small.strength(frames)
    shown = np.asarray(strength.sum(axis=(1, 2)) >= WHOLE * small.mass)
    comes = {}
    for t in range(GONE, len(frames)):
        if shown[t] and not shown[t - GONE : t].any():
            greatest = max(find_blobs(strength[t]), key=lambda blob: blob.mass, default=None)
            if greatest:
                comes[t] = (greatest.y, greatest.x)
    return Episode(shown, comes)


def judge(episodes: list[Episode]) -> dict[str, float]:
    """Shares, in [0, 1], and the recall of that simulator by frames ahead."""
    places = np.array([place for episode in episodes for place in episode.comes.values()])
    if not len(places):
        raise InputError("no ball comes back in these recordings; give longer ones")
    owner = np.repeat(np.arange(len(episodes)), [len(episode.comes) for episode in episodes])
    alike = np.linalg.norm(places[:, None] - places, axis=2) <= NEAR
    launches = alike.mean(axis=1) >= COMMON
    pairs = [(alike[i, j], owner[i] == owner[j]) for i, j in combinations(launches.nonzero()[0], 2)]
    if not pairs:
        raise InputError("no ball comes back twice at one place; give longer recordings")
    same = np.array(pairs, np.bool_)
    chance = float(same[~same[:, 1], 0].mean())
    after, seen = np.zeros(HORIZON + 1), np.zeros(HORIZON + 1)
    launched = iter(launches.tolist())
    for episode in episodes:
        begun = np.zeros(len(episode.shown), np.int64)
        for t in episode.comes:
            begun[t] = next(launched)
        begun = begun.cumsum()
        for now in range(HISTORY - 1, len(begun) - HORIZON):
            ahead = episode.shown[now + 1 : now + 1 + HORIZON]
            seen[1:] += ahead
            after[1:] += ahead & (begun[now + 1 : now + 1 + HORIZON] > begun[now])
    figures = {
        "launches": float(launches.sum()),
        "same place, of two in one episode": float(same[same[:, 1], 0].mean()),
        "same place, of two in two episodes": chance,
    }
    for name, (first, last) in SPANS.items():
        share = after[first : last + 1].sum() / seen[first : last + 1].sum()
        figures[f"balls launched since, frames {name}"] = float(share)
        figures[f"recall that can be known, frames {name}"] = float(1 - share * (1 - chance))
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a folder of episodes of a game with an object")
    dataset = open_dataset(parser.parse_args().data)
    source = dataset.header.source
    found = object_of(source, dataset.frame_shape)
    if not found:
        raise SystemExit(f"{source}: no object is defined of it (envs/objects.py)")
    for told, value in judge([watch(found, e.frames()) for e in dataset.episodes]).items():
        print(f"{told:<40} {value:.3f}")
