"""Action fidelity: can the recorded actions be read off dreamed frames as off real ones?

A classifier learns inverse dynamics from one half of the recording. From the other half, the same
transitions are shown to it twice, as recorded and as dreamed under the same actions. Actions that
do the same thing (FIRE in flight, NOOP) are one *effect*: nobody could tell them apart.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.episode import Episode
from worldflow.inverse_dynamics import WINDOW, Windows, learn_inverse_dynamics, tell_actions
from worldflow.rollouts import Clip, read_clips

FIT_STEPS = 4096  # transitions to learn from, at most
PIECE = 64  # steps read at a time
KEPT_CLIPS = 64  # whose dreams are judged, at most
ENOUGH = 20  # transitions under an action, before it is judged
TOLD_APART = 0.7  # share of right answers between two actions from which they are two effects


class Fidelity(NamedTuple):
    """How well actions were read."""

    effects: list[list[int]]  # actions that look alike are together; those too rare are left out
    real: float  # share of effects told right from recorded frames, each effect weighing the same
    dream: float  # the same from dreamed frames


def judged_clips(episodes: list[Episode], clips: list[Clip]) -> list[int]:
    """Numbers of up to 64 clips that lie in the second half of the recording, spread evenly."""
    start = _starts(episodes)
    half = sum(map(len, episodes)) // 2
    inside = [i for i, clip in enumerate(clips) if start[id(clip.episode)] + clip.start >= half]
    spread = np.linspace(0, len(inside) - 1, min(KEPT_CLIPS, len(inside))).astype(int)
    return [inside[index] for index in spread]


def judge_fidelity(
    episodes: list[Episode],
    clips: list[Clip],
    dreams: dict[int, NDArray[np.uint8]],
    context: int,
    seed: int,
) -> Fidelity | None:
    """Read the actions of recorded transitions, and of dreamed ones.

    Args:
        dreams: number of a clip -> its rollouts `(S, horizon, H, W, 3)`, S >= 1; the first counts.
        context: real frames before each rollout.

    Returns:
        None where there is nothing to tell: no dreams, or all actions have one effect.
    """
    if not dreams:
        return None
    numbers = sorted(dreams)
    horizon = dreams[numbers[0]].shape[1]
    frames, actions = read_clips([clips[number] for number in numbers], context + horizon)
    real = _clip_windows(frames, actions, context)
    fit = _fit_windows(episodes, np.random.default_rng(seed))
    if len(fit.actions) == 0 or len(_common(real.actions)) < 2:
        return None
    dreamed = frames.copy()
    dreamed[:, context:] = np.stack([dreams[number][0] for number in numbers])
    model = learn_inverse_dynamics(fit, len(episodes[0].header.action_names), seed)
    told = tell_actions(model, real)
    effects = group_actions(told, real.actions)
    if len(effects) < 2:
        return None
    told_of_dream = tell_actions(model, _clip_windows(dreamed, actions, context))
    return Fidelity(
        effects,
        accuracy(told, real.actions, effects),
        accuracy(told_of_dream, real.actions, effects),
    )


def _common(actions: NDArray[np.int64]) -> list[int]:
    """The actions `(N,)` that were taken often enough to be judged."""
    taken, counts = np.unique(actions, return_counts=True)
    common: list[int] = taken[counts >= ENOUGH].tolist()
    return common


def group_actions(told: NDArray[np.int64], true: NDArray[np.int64]) -> list[list[int]]:
    """Actions as effects: two are one if the classifier cannot tell them apart on real frames.

    That is, where it says one of the two, it is right in fewer than 70 % of the cases, either
    action weighing the same; guessing gives 50 %. Actions taken fewer than 20 times are left out.
    """
    effects: list[list[int]] = []
    for action in _common(true):
        alike = [e for e in effects if any(not _apart(told, true, action, other) for other in e)]
        effects = [e for e in effects if e not in alike] + [sorted(sum(alike, [action]))]
    return sorted(effects)


def _apart(told: NDArray[np.int64], true: NDArray[np.int64], one: int, other: int) -> bool:
    """Whether the answers tell action `one` from `other`."""
    shares = []
    for action in (one, other):
        answers = told[(true == action) & np.isin(told, (one, other))]
        shares.append(float((answers == action).mean()) if len(answers) else 1.0)
    return sum(shares) / 2 >= TOLD_APART


def accuracy(told: NDArray[np.int64], true: NDArray[np.int64], effects: list[list[int]]) -> float:
    """The share of right effects, in [0, 1]; each effect weighs the same."""
    shares = [np.isin(told[np.isin(true, effect)], effect).mean() for effect in effects]
    return float(np.mean(shares))


def _starts(episodes: list[Episode]) -> dict[int, int]:
    """Where each episode begins, in steps through all of them, by its `id`."""
    lengths = np.array([0, *map(len, episodes)])
    return {id(e): int(s) for e, s in zip(episodes, lengths.cumsum(), strict=False)}


def _fit_windows(episodes: list[Episode], random: np.random.Generator) -> Windows:
    """Windows of the first half of the recording, in pieces drawn at random."""
    half = sum(map(len, episodes)) // 2
    start = _starts(episodes)
    pieces = [
        (episode, first, min(first + PIECE, len(episode), half - start[id(episode)]))
        for episode in episodes
        for first in range(0, len(episode), PIECE)
    ]
    pieces = [piece for piece in pieces if piece[2] - piece[1] >= WINDOW]
    random.shuffle(pieces)
    parts = []
    for episode, first, stop in pieces[: FIT_STEPS // PIECE]:
        parts.append(_windows(episode.frames(first, stop + 1), episode.actions(first, stop)))
    return _join(parts)


def _clip_windows(frames: NDArray[np.uint8], actions: NDArray[np.int64], context: int) -> Windows:
    """The windows of clips `(C, L, H, W, 3)` whose last frame comes after the context."""
    begin = max(0, context + 1 - WINDOW)
    parts = [
        _windows(film[begin:], taken[begin:]) for film, taken in zip(frames, actions, strict=True)
    ]
    return _join(parts)


def _windows(frames: NDArray[np.uint8], actions: NDArray[np.int64]) -> Windows:
    """All windows of one film: `frames` `(T + 1, H, W, 3)`, `actions` `(T,)`."""
    count = len(frames) - WINDOW + 1
    return Windows(frames, np.arange(count), actions[WINDOW - 2 :])


def _join(parts: list[Windows]) -> Windows:
    if not parts:
        return Windows(
            np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64)
        )
    offsets = np.cumsum([0, *(len(part.frames) for part in parts[:-1])])
    return Windows(
        np.concatenate([part.frames for part in parts]),
        np.concatenate([part.first + offset for part, offset in zip(parts, offsets, strict=True)]),
        np.concatenate([part.actions for part in parts]),
    )
