"""A learned world as a game for the window: the session's commands by name, and its view."""

from collections.abc import Mapping

from worldflow.demos.cast import HUMAN
from worldflow.demos.session import Session
from worldflow.demos.view import View
from worldflow.errors import InputError

FAR_SECONDS = 15
SAME_LUCK_SECONDS = 4
TEMPERATURES = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5, 2.0)
COMMANDS = (
    "source",
    "split",
    "take_over",
    "next_player",
    "hotter",
    "colder",
    "step_back",
    "back",
    "far_back",
    "same_luck",
    "record",
)


class WorldGame:
    """A `worldflow.demos.view.Game` around a session."""

    commands = frozenset((*COMMANDS, "temperature"))  # the last with its value: "temperature:0.85"

    def __init__(self, session: Session) -> None:
        card = session.playable.card
        self.title = f"worldflow: {card.name}"
        self.key_map: Mapping[str, int] = card.key_map
        self.action_names, self.frame_rate = card.action_names, card.frame_rate
        self.session = session
        self._notice = (0, "")

    def restart(self, seed: int | None = None) -> None:
        """A new game; None: with the next seed."""
        self.session.restart(seed)

    def step(self, action: int) -> None:
        """Take one step."""
        self.session.step(action)

    def appraise(self) -> None:
        """Score and record the newest frame."""
        self.session.appraise()

    def rest(self) -> None:
        """Nothing will happen for a while."""
        self.session.rest()

    def close(self) -> None:
        """Finish what is recorded."""
        self.session.close()

    def command(self, name: str) -> None:
        """Do one of `commands`; where it cannot be done, the view says why."""
        try:
            self._tell(self._do(name))
        except InputError as error:
            self._tell(str(error))

    def _do(self, name: str) -> str:
        """Do it, and say what was done."""
        session = self.session
        session.appraise()
        name, _, value = name.partition(":")
        match name:
            case "source":
                return self._switch("dream" if session.source == "real" else "real")
            case "split":
                return self._switch("dream" if session.source == "split" else "split")
            case "take_over" | "next_player":
                return self._change_player(name)
            case "hotter" | "colder":
                return self._change_temperature(name)
            case "temperature":
                session.temperature = float(value)
                return f"temperature {session.temperature:g}"
            case "record":
                return self._record()
            case "same_luck":
                back = session.rewind(SAME_LUCK_SECONDS * self.frame_rate, same_luck=True)
                return f"{back / self.frame_rate:.1f} s back, same luck: now act otherwise"
        seconds = {"step_back": 1 / self.frame_rate, "back": 1, "far_back": FAR_SECONDS}[name]
        back = session.rewind(round(seconds * self.frame_rate))
        return f"{back / self.frame_rate:.1f} s back, new luck"

    def _switch(self, source: str) -> str:
        session = self.session
        if source == "real":
            session.switch("real")
            begun = bool(session.reality().actions)
            return "the real game, where it stood" if begun else "the real game begins"
        session.switch("split" if source == "split" else "dream")
        return "dream | real | difference" if source == "split" else "the dream goes on from here"

    def _change_player(self, name: str) -> str:
        cast, seed = self.session.cast, self.session.seed + self.session.figures.step
        if not len(cast):
            raise InputError("nobody else can play this game")
        if name == "take_over":
            cast.hand_over(seed)
        else:
            cast.next_understudy(seed)
        human = cast.player == HUMAN
        return f"you play; T: {cast.understudy} does" if human else f"{cast.controller} plays"

    def _change_temperature(self, name: str) -> str:
        now = self.session.temperature
        if name == "hotter":
            now = min((t for t in TEMPERATURES if t > now), default=now)
        else:
            now = max((t for t in TEMPERATURES if t < now), default=now)
        self.session.temperature = now
        return f"temperature {now:g}"

    def _record(self) -> str:
        recorder = self.session.recorder
        tape = recorder.tape
        self.session.toggle_recording()
        if tape is None:
            return f"recording into {recorder.folder}"
        return f"recorded {tape.path}" if tape.path else "nothing was recorded"

    def view(self) -> View:
        """What is to be seen now."""
        session = self.session
        failure, session.failure = session.failure, None
        if failure is not None:
            self._tell(str(failure))
        figures, engine = session.figures, session.playable.engine
        return View(
            frame=session.frame,
            companion=session.reality().frame if session.source == "split" else None,
            source=session.source,
            player=session.cast.controller,
            step=figures.step,
            reward=figures.reward,
            total=figures.total,
            action=figures.action,
            p_terminated=figures.p_terminated,
            surprise=tuple(bits for _, bits in session.surprise),
            step_seconds=session.step_seconds,
            temperature=session.temperature,
            seed=session.seed,
            luck=f"{session.luck.row}:{session.luck.counter}",
            engine=f"{engine.name} {engine.device} {engine.dtype}",
            recording=self._recording(),
            over=figures.over,
            notice=self._notice,
        )

    def _recording(self) -> str | None:
        tape = self.session.recorder.tape
        return None if tape is None else f"{tape.steps / self.frame_rate:.0f} s"

    def _tell(self, notice: str) -> None:
        self._notice = (self._notice[0] + 1, notice)
