"""One step ahead along the recording: likelihood, reward, termination, and the futures drawn.

The model always sees the true frames (teacher forcing). Clips with 64 frames still to come never
hold an episode's end, so these figures come from *stretches*: episodes are cut, whole, into
pieces of 64 steps, and pieces are taken in seeded order. Every step is equally likely to be
judged, rare ones as rarely as they happen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldflow.blocks import Truth
from worldflow.engine import Engine
from worldflow.episode import Episode
from worldflow.rollouts import noise_rows
from worldflow.truth import TruthJudge

STRETCH = 64  # steps
# Noise rows of their own for samples and scores: rollouts count theirs from 0.
SAMPLE_ROWS, SCORE_ROWS = 1 << 32, 2 << 32
ANOTHER_DRAW = 1 << 34  # rows to the same sample, drawn again


class Stretch(NamedTuple):
    """Consecutive steps of an episode, and the real frames before them."""

    episode: Episode
    start: int  # the first step judged: from frame `start` to frame `start + 1`
    length: int  # steps judged
    context: int  # frames given at first, frame `start` being the last of them


@dataclass(frozen=True)
class OneStepConfig:
    """How much of the recording is judged step by step."""

    steps: int = 4096  # at least, in whole stretches; or all there are
    context: int = 8  # real frames before a stretch; one at an episode's start
    seed: int = 0
    batch: int = 64  # stretches side by side


class OneStep(NamedTuple):
    """What was recorded and told of N judged steps."""

    nll_excess: NDArray[np.float32]  # (N,), nats per frame, of the recorded next frame
    nll_shuffled: NDArray[np.float32]  # (N,), the same, given an action of another step
    reward: NDArray[np.float32]  # (N,), recorded
    reward_told: NDArray[np.float32]  # (N,)
    terminated: NDArray[np.bool_]  # (N,), recorded
    p_terminated: NDArray[np.float32]  # (N,)
    event: NDArray[np.bool_]  # (N,), a reward, an end or a lost life


class _Recording(NamedTuple):
    """B stretches with the same context of C frames, padded to the S steps of the longest."""

    frames: NDArray[np.uint8]  # (B, C + S, H, W, 3)
    actions: NDArray[np.int64]  # (B, C - 1 + S)
    reward: NDArray[np.float32]  # (B, S)
    terminated: NDArray[np.bool_]  # (B, S)
    life_lost: NDArray[np.bool_]  # (B, S)
    live: NDArray[np.bool_]  # (B, S), False where padded
    truths: list[Truth]  # B hidden states of the game, each entry (steps, ...); often {}


def draw_stretches(episodes: list[Episode], config: OneStepConfig) -> list[Stretch]:
    """Stretches of at least `config.steps` steps together, in an order given by the seed."""
    stretches = []
    for episode in episodes:
        # Without the frames before it, a later start than the game's own would be a guess.
        first = 0 if len(episode.start_actions) == 0 else config.context - 1
        for start in range(first, len(episode), STRETCH):
            length = min(STRETCH, len(episode) - start)
            stretches.append(Stretch(episode, start, length, min(config.context, start + 1)))
    order = np.random.default_rng(config.seed).permutation(len(stretches))
    chosen, steps = [], 0
    for index in order:
        if steps >= config.steps:
            break
        chosen.append(stretches[index])
        steps += stretches[index].length
    return chosen


def judge_steps(
    engine: Engine,
    stretches: list[Stretch],
    config: OneStepConfig,
    judge: TruthJudge | None = None,
) -> OneStep:
    """Draw and score each step of `stretches` once, at temperature 1.

    Args:
        judge: holds what is drawn against the truth, for games that know it.
    """
    parts = []
    total = sum(stretch.length for stretch in stretches)
    with tqdm(total=total, desc="one step", unit="frame", unit_scale=True) as progress:
        for first_row, batch in _batches(stretches, config.batch):
            rows = first_row + np.arange(len(batch))
            parts.append(_judge_batch(engine, batch, rows, config.seed, judge, progress))
    return OneStep(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _batches(stretches: list[Stretch], size: int) -> Iterator[tuple[int, list[Stretch]]]:
    """Up to `size` stretches of equal context at a time, and how many came before them."""
    before = 0
    for context in sorted({stretch.context for stretch in stretches}):
        alike = [stretch for stretch in stretches if stretch.context == context]
        for first in range(0, len(alike), size):
            batch = alike[first : first + size]
            yield before, batch
            before += len(batch)


def _judge_batch(
    engine: Engine,
    stretches: list[Stretch],
    rows: NDArray[np.int64],
    seed: int,
    judge: TruthJudge | None,
    progress: "tqdm[Any]",
) -> OneStep:
    """Judge B stretches side by side, with the noise of `rows` `(B,)`."""
    recording = _read(stretches)
    context = stretches[0].context
    shuffled = _shuffle(recording, context, np.random.default_rng((seed, int(rows[0]))))
    temperature = np.ones(len(rows), np.float32)
    told = np.zeros((4, *recording.live.shape), np.float32)  # nll, shuffled nll, reward, p
    state = engine.start(recording.frames[:, :context], recording.actions[:, : context - 1])
    for index in range(recording.live.shape[1]):
        action = recording.actions[:, context - 1 + index]
        truth = recording.frames[:, context + index]
        noise = noise_rows(seed, SCORE_ROWS + rows, index, engine.noise_size)
        told[0, :, index] = engine.score(state, action, truth, noise)
        told[1, :, index] = engine.score(state, shuffled[:, index], truth, noise)
        luck = partial(_luck, engine.noise_size, seed, rows, index)
        step = engine.step(state, action, luck(np.arange(len(rows)), 0), temperature)
        told[2, :, index], told[3, :, index] = step.reward, step.p_terminated
        if judge is not None:
            judge.see(state, action, luck, step.frame, _hidden(recording, index))
        state = engine.observe(step.state, truth)
        progress.update(int(recording.live[:, index].sum()))
    nll, nll_shuffled, reward_told, p_terminated = told[:, recording.live]
    event = (recording.reward != 0) | recording.terminated | recording.life_lost
    return OneStep(
        nll_excess=nll,
        nll_shuffled=nll_shuffled,
        reward=recording.reward[recording.live],
        reward_told=reward_told,
        terminated=recording.terminated[recording.live],
        p_terminated=p_terminated,
        event=event[recording.live],
    )


def _luck(
    size: int,
    seed: int,
    rows: NDArray[np.int64],
    counter: int,
    chosen: NDArray[np.int64],
    draw: int,
) -> NDArray[np.float32]:
    """The noise `(R, size)` that the R rows `chosen` are sampled from, the `draw`-th time."""
    return noise_rows(seed, SAMPLE_ROWS + draw * ANOTHER_DRAW + rows[chosen], counter, size)


def _hidden(recording: _Recording, index: int) -> list[Truth]:
    """The B recorded hidden states of step `index`; {} where padded, or where none was told."""
    return [
        {name: value[index] for name, value in truth.items()} if live else {}
        for truth, live in zip(recording.truths, recording.live[:, index], strict=True)
    ]


def _read(stretches: list[Stretch]) -> _Recording:
    """The recording of stretches with the same context; padding repeats the last value."""
    longest = max(stretch.length for stretch in stretches)

    def padded(values: NDArray[Any], missing: int) -> NDArray[Any]:
        return np.concatenate([values, values[-1:].repeat(missing, axis=0)])

    columns: list[list[NDArray[Any]]] = []
    truths: list[Truth] = []
    for episode, start, length, context in stretches:
        first, stop, missing = start - context + 1, start + length, longest - length
        steps = episode.steps(start, stop)
        values = (
            episode.frames(first, stop + 1),
            episode.actions(first, stop),
            steps.rows["reward"].astype(np.float32),
            steps.rows["terminated"],
            steps.rows["life_lost"],
        )
        live = np.arange(longest) < length
        columns.append([*(padded(value, missing) for value in values), live])
        truths.append(steps.truth)
    frames, actions, reward, terminated, life_lost, live = map(np.stack, zip(*columns, strict=True))
    return _Recording(frames, actions, reward, terminated, life_lost, live, truths)


def _shuffle(recording: _Recording, context: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The judged actions `(B, S)`, dealt out anew among the steps that are not padding."""
    actions = recording.actions[:, context - 1 :].copy()
    actions[recording.live] = random.permutation(actions[recording.live])
    return actions
