"""The report as one Markdown page: tables, and the pictures beside it."""

from collections import Counter
from typing import TYPE_CHECKING

from worldflow.card import WorldCard
from worldflow.figures import Metrics
from worldflow.modes import PLACES, ModeFigures
from worldflow.rollouts import HORIZONS
from worldflow.small_objects import SPANS

if TYPE_CHECKING:
    from worldflow.evaluate import EvaluateConfig, Judgement
    from worldflow.survival import Survival
    from worldflow.truth import TruthJudge


def page(
    judgement: "Judgement", card: WorldCard, config: "EvaluateConfig", pictures: set[str]
) -> str:
    """The text of report.md; `pictures` are the files that lie beside it."""
    metrics = judgement.metrics
    sections = [_head(metrics, card, config), _rollouts(metrics)]
    if judgement.objects:
        sections.append(_objects(metrics))
    sections.append(_one_step(metrics))
    if judgement.truth and judgement.truth.world.figures().steps:
        sections.append(_truth(judgement.truth))
    if metrics["memory_steps"]:
        sections.append(_memory(metrics))
    sections.append(_actions(judgement, card))
    if judgement.survival:
        sections.append(_survival(judgement.survival, "survival.mp4" in pictures))
    return "\n\n".join(sections) + "\n"


def _head(metrics: Metrics, card: WorldCard, config: "EvaluateConfig") -> str:
    rows = {
        "game": card.game,
        "data": f"{metrics['frames']} steps in {metrics['episodes']} episodes",
        "sticky actions": metrics["sticky"],
        "parameters": metrics["parameters"],
        "GFLOP a frame": metrics["gflop_per_frame"],
        "world": metrics["world_hash"],
        "seed": config.seed,
    }
    told = {name: value for name, value in rows.items() if value is not None}
    return f"# {card.name}\n\n" + _table(
        ["", ""], [[name, _text(value)] for name, value in told.items()]
    )


def _rollouts(metrics: Metrics) -> str:
    ahead = [step for step in HORIZONS if metrics[f"psnr_{step}"] is not None]
    names = {"PSNR, dB": "psnr", "the last real frame repeated, dB": "copy_psnr", "SSIM": "ssim"}
    rows = [
        [name, *(_text(metrics[f"{key}_{step}"]) for step in ahead)] for name, key in names.items()
    ]
    return (
        f"## Rollouts\n\n{metrics['clips']} clips under their recorded actions.\n\n"
        + _table(["frames ahead", *map(str, ahead)], rows)
        + "\n\n![PSNR by frames ahead](psnr.png)\n\n![Recordings and rollouts](rollouts.png)"
    )


def _objects(metrics: Metrics) -> str:
    rows = [
        [name, *(_text(metrics[f"object_{name}_{span}"]) for span in SPANS)]
        for name in ("recall", "precision", "brightness")
    ]
    spans = [span.replace("_", " to ") for span in SPANS]
    return (
        "## The small object\n\nFound within 2 pixels of where it is; how bright, where found.\n\n"
        + _table(["frames ahead", *spans], rows)
        + "\n\n![Recall, precision and brightness](objects.png)"
    )


def _one_step(metrics: Metrics) -> str:
    rows = [
        ["NLL excess, nats a frame", _text(metrics["nll_excess_nats"])],
        ["… on ordinary frames", _text(metrics["nll_excess_ordinary"])],
        [f"… on {metrics['event_steps']} event frames", _text(metrics["nll_excess_event"])],
        ["lost when actions are shuffled, nats", _text(metrics["nll_gap_shuffled"])],
    ]
    for event in ("reward", "termination"):
        figures = [_text(metrics[f"{event}_{name}"]) for name in ("precision", "recall", "f1")]
        name = f"{event}: precision, recall, F1 ({metrics[f'{event}_steps']} judged)"
        rows.append([name, ", ".join(figures)])
    return f"## One step ahead\n\n{metrics['judged_steps']} steps.\n\n" + _table(["", ""], rows)


def _truth(truth: "TruthJudge") -> str:
    """The world and its base alone, over all branching steps and by where the choice shows."""
    rows = []
    for name, tally in (("world", truth.world), ("Gaussian base alone", truth.base)):
        if tally:
            rows.append([f"{name}, all", *_mode_cells(tally.figures())])
            rows += [[f"{name}, {place}", *_mode_cells(tally.figures(place))] for place in PLACES]
    header = ["branching steps", "steps", "worst mode error", "chance alone", "sharp"]
    header += ["ball lost", "ball doubled"]
    return (
        "## Against the true distribution\n\n*One cell*: the choice shows within one 8-pixel cell "
        "of the flow's coarsest grid; *one block*: across lines between cells; *several blocks*: "
        "across the 16-pixel lines of its groups of cells, too.\n\n"
        + _table(header, rows)
        + "\n\n![Sharp frames by threshold](sharpness.png)\n\n![Calibration](calibration.png)"
    )


def _mode_cells(figures: ModeFigures) -> list[str]:
    return [_text(value) for value in figures]


def _memory(metrics: Metrics) -> str:
    return (
        f"## Memory\n\nAfter 20 frames under a lid the right sign comes back in "
        f"{_text(metrics['memory_recall'])} of the sampled frames "
        f"({metrics['memory_steps']} places; guessing gives 0.333)."
    )


def _actions(judgement: "Judgement", card: WorldCard) -> str:
    fidelity = judgement.fidelity
    if fidelity is None:
        return (
            "## Actions\n\nNot judged: too little data, or no two actions with different effects."
        )
    effects = [" = ".join(card.action_names[a] for a in effect) for effect in fidelity.effects]
    return (
        f"## Actions\n\nA classifier that learned from real play tells {', '.join(effects)} apart: "
        f"right in {fidelity.real:.3f} of recorded transitions and in {fidelity.dream:.3f} of "
        f"dreamed ones. Fidelity: {_text(judgement.metrics['action_fidelity'])}."
    )


def _survival(survival: "Survival", filmed: bool) -> str:
    whys = Counter(why for why in survival.why if why)
    rows = [[why, str(count)] for why, count in whys.most_common()]
    text = (
        f"## Survival\n\n{len(survival.left)} free runs of {survival.steps} steps; "
        f"{_text(survival.share(survival.steps))} of them stayed within the range of real play. "
        f"Real play itself: {_text(survival.real)} of its windows lie in the range of the rest, "
        f"and {_text(survival.real_runs)} of its own runs of {survival.steps} steps. "
        f"Games ended per 1,000 steps: {survival.ends:.2f}; in real play {survival.real_ends:.2f}."
        "\n\n![Survival](survival.png)"
    )
    if filmed:
        text += "\n\n![Free runs](survival_runs.png)\n\n[Film](survival.mp4)"
    return text + ("\n\n" + _table(["first out of range", "runs"], rows) if rows else "")


def _table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: float | int | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
