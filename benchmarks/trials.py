"""What is compared: the trials that are run, who takes part in each, and what is to come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from benchmarks.contestants import Command, Contestant, Place, Race, Worker
from benchmarks.places import FLOOR, OURS
from benchmarks.sides.answering import FEW, Sizes

WE: Final = "modelway"
MLFLOW: Final = "mlflow"
SERVER: Final = "mlflow, lean server"
THE_FLOOR: Final = "floor"

WALL: Final = "wall_s"
CPU: Final = "cpu_s"


class Unit(NamedTuple):
    """How a number is shown, and which way is better."""

    name: str
    factor: float = 1.0
    more_is_better: bool = False


S, MS, MB = Unit(" s"), Unit(" ms", 1e3), Unit(" MB", 1e-6)
PER_S, COUNT = Unit("/s", more_is_better=True), Unit("")


class Goal(NamedTuple):
    """Ours is to be ``times`` as good as ``against``, or, where that is None, to stay at or under ``at_most``."""

    against: str | None = None
    times: float = 0.0
    at_most: float = 0.0
    key: str = ""
    """Which number it is of; the row's own when empty."""


class Row(NamedTuple):
    """One number of a trial, as it is shown; ``at_most`` of a goal is in the number's own unit, seconds or bytes."""

    title: str
    unit: Unit
    goals: tuple[Goal, ...] = ()
    note: str = ""
    key: str = WALL


class Entry(NamedTuple):
    """Somebody who takes part: shown as ``who``, at home in ``place``, brought to the start by ``open``."""

    who: str
    place: str
    open: Callable[[Mapping[str, Place], Sizes], Contestant]


class Trial(NamedTuple):
    """What is measured in turn, round by round; ``share`` of the rounds that were asked for, at least one."""

    rows: tuple[Row, ...]
    entries: tuple[Entry, ...]
    share: float = 1.0
    warm_up: bool = True


def started(who: str, place: str, *command: str) -> Entry:
    """Return an entry that starts a command anew each time; PYTHON, BIN and FOLDER in it are those of its place."""

    def open_(places: Mapping[str, Place], _sizes: Sizes) -> Contestant:
        here = places[place]
        words = [word.replace("PYTHON", str(here.python)).replace("FOLDER", str(here.folder)) for word in command]
        return Command([word.replace("BIN", str(here.python.parent)) for word in words], here)

    return Entry(who, place, open_)


def asked(who: str, place: str, action: str, times: int = 1) -> Entry:
    """Return an entry that has its side do an action ``times`` times for one measurement."""
    return Entry(who, place, lambda places, sizes: Worker(_side(place), action, places[place], sizes, times=times))


def racing(who: str, place: str) -> Entry:
    """Return an entry of many processes."""
    return Entry(who, place, lambda places, sizes: Race(_side(place), places[place], sizes))


def _side(place: str) -> str:
    return MLFLOW if place == SERVER else place


def all_trials(sizes: Sizes) -> tuple[Trial, ...]:
    """Return all trials, in the order in which they are run and shown."""
    return (*_starts(sizes), *_verbs(sizes), _race(sizes), *_large(sizes))


_BY_ALIAS = "mlflow by alias, its faster way; modelstore by state; bentoml has no stages and gives the latest"
_PROGRAMS = {  # who: what to import, what to do then
    WE: (
        "from registry import ModelRegistry",
        f"assert ModelRegistry('FOLDER/registry').get_production_model('{FEW}').version == 'v3'",
    ),
    MLFLOW: (
        "from mlflow import MlflowClient",
        f"assert int(MlflowClient().get_model_version_by_alias('{FEW}', 'champion').version) == 3",
    ),
    "modelstore": (
        "from modelstore import ModelStore",
        (
            f"store = ModelStore.from_file_system('FOLDER/store'); [id] = store.list_models('{FEW}', 'production'); "
            f"store.get_model_info('{FEW}', id)"
        ),
    ),
    "bentoml": ("import bentoml", f"bentoml.models.get('{FEW}:latest')"),
}


def _starts(sizes: Sizes) -> tuple[Trial, ...]:
    homes = {who: OURS if who == WE else who for who in _PROGRAMS}
    imports = [started(who, homes[who], "PYTHON", "-c", first) for who, (first, _) in _PROGRAMS.items()]
    resolves = [started(who, homes[who], "PYTHON", "-c", "; ".join(both)) for who, both in _PROGRAMS.items()]
    lines = (
        started(WE, OURS, "BIN/modelway", "--url", "FOLDER/models", "models", "list"),
        started(MLFLOW, MLFLOW, "BIN/mlflow", "models", "--help"),
        started("mlflow experiments search", MLFLOW, "BIN/mlflow", "experiments", "search"),
        started("bentoml", "bentoml", "BIN/bentoml", "models", "list"),
    )
    eightfold = (Goal(MLFLOW, 8), Goal(MLFLOW, 8, key=CPU))
    list_models = Row(
        f"modelway models list, {sizes.models} models",
        S,
        (*eightfold, Goal(at_most=0.5, key=CPU)),
        "no command of mlflow's lists models: this is `mlflow models --help`",
    )
    empty = started(THE_FLOOR, OURS, "PYTHON", "-c", "pass")
    return (
        Trial((Row("import", S, note="the floor is an empty Python"),), (empty, *imports)),
        Trial((Row("fresh process: import, resolve production", S, eightfold, _BY_ALIAS),), tuple(resolves)),
        Trial((list_models,), lines),
    )


def _verbs(sizes: Sizes) -> tuple[Trial, ...]:
    many = f"{sizes.versions:,} versions"
    resolve = (
        asked(WE, OURS, "resolve", times=200),
        asked(MLFLOW, MLFLOW, "resolve_alias", times=50),
        asked("mlflow, by stage", MLFLOW, "resolve_stage", times=20),
        asked(SERVER, SERVER, "resolve_alias", times=20),
        asked("modelstore", "modelstore", "resolve", times=50),
        asked("bentoml", "bentoml", "resolve", times=50),
    )
    register = (
        asked(WE, OURS, "register_small", times=20),
        asked(MLFLOW, MLFLOW, "register_small", times=10),
        asked("mlflow, one run for all", MLFLOW, "register_small_in_one_run", times=10),
        asked(SERVER, SERVER, "register_small", times=5),
        asked("modelstore", "modelstore", "register_small", times=3),
        asked("bentoml", "bentoml", "register_small", times=10),
    )
    listing = (asked(MLFLOW, MLFLOW, "list_warm"), asked(SERVER, SERVER, "list_warm"))
    change = tuple(
        asked(who, place, "change_stage", times=3) for who, place in ((WE, OURS), (MLFLOW, MLFLOW), (SERVER, SERVER))
    )
    unlike = "ours is hashed and fsynced, the others are neither; mlflow with a run for each version"
    return (
        Trial((Row("resolve production, warm", MS, (Goal(MLFLOW, 10),), _BY_ALIAS),), resolve),
        Trial((Row(f"register {sizes.small_bytes / 1e6:g} MB", MS, (Goal(MLFLOW, 2),), unlike),), register),
        Trial((Row(f"stage change, {many}", MS, (Goal(MLFLOW, 20),)),), change),
        Trial((Row(f"list {many}, warm", MS, (Goal(MLFLOW, 10),)),), (asked(WE, OURS, "list_warm"), *listing)),
        Trial(
            (Row(f"list {many}, cold", MS, (Goal(MLFLOW, 10),), "mlflow warm, as in the row above"),),
            (asked(WE, OURS, "list_cold"), listing[0]),
        ),
    )


def _race(sizes: Sizes) -> Trial:
    title = f"{sizes.processes} processes x {sizes.cycles}: register, stage, alias"
    rows = (
        Row(title, PER_S, (Goal(MLFLOW, 5),), key="per_s"),
        Row("most versions in production at one look", COUNT, (Goal(at_most=1),), key="most_in_production"),
        Row("cycles that ended in an error", COUNT, (Goal(at_most=0),), key="failed"),
    )
    return Trial(rows, (racing(WE, OURS), racing(MLFLOW, MLFLOW)), share=0.6, warm_up=False)


def _large(sizes: Sizes) -> tuple[Trial, ...]:
    much = f"{sizes.large_bytes / (1 << 30):.2g} GiB"
    near = (Goal(THE_FLOOR, 0.9),)

    def memory(what: str) -> Row:
        return Row(f"{what} {much}: memory over base", MB, (Goal(at_most=200e6),), key="over_base_bytes")

    def against_floor(action: str, *rows: Row, others: tuple[Entry, ...] = ()) -> Trial:
        return Trial(rows, (asked(THE_FLOOR, FLOOR, action), asked(WE, OURS, action), *others), share=0.7)

    no_hash = "floor: read once, sha256, write, fsync. mlflow only copies: no hash, no fsync"
    return (
        against_floor(
            "register_large",
            Row(f"register {much}", S, near, no_hash),
            memory("register"),
            others=(asked(MLFLOW, MLFLOW, "register_large"),),
        ),
        against_floor("map_large", Row(f"load {much}, mapped and verified", S, near, "floor: read, sha256")),
        against_floor("load_large", Row(f"load {much} as bytes, verified", S, near, "floor: read into memory, sha256")),
        against_floor(
            "download_large",
            Row(f"download {much}, verified", S, near, "floor: read once, sha256, write"),
            memory("download"),
        ),
    )
