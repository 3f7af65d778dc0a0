"""Search for the best recommender: every family with its defaults, the best ones' hyperparameters, then blends.

Knows rows and nothing of where they came from, so it serves shops, public splits and whatever else can be carved.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from data.errors import AttuneError, DataError
from data.files import replacing
from data.progress import telling
from evaluation import intervals
from evaluation.intervals import Interval
from models.recommenders import MODELS, load
from models.recommenders.base import Recommender
from models.recommenders.blend import Blend
from models.recommenders.composite import Composite, Member
from training.blending import MAX_MEMBERS, blend_weights
from training.examples import K
from training.judging import JudgedRows
from training.recipes import Recipe, code_hash
from training.spaces import LEARNT, SPACES, start_of

BLEND = Blend.name
RANKER = "ranker"
SURE = 0.99
"""Of the interval that a gain over what there is must clear: it is the best of many on the same people."""
N_RANDOM = 4
"""Trials of a family, beside its defaults, before TPE has enough to go by."""
REFIT_MARGIN = 1.25
"""A refit learns from more than the fit did: so much longer it may take."""
FIT_SHARE = 0.6
"""Of a trial's time: what a model that can stop at any time may learn for; the rest is for judging."""
MAX_REPEATS = 20
"""So many suggestions in a row that were tried before: there is nothing left to search."""
FAILURES = (AttuneError, MemoryError, RuntimeError, ArithmeticError, np.linalg.LinAlgError)
"""What ends a trial and not the search: data or memory that does not carry the model, numbers that run away."""

State = Literal["complete", "pruned", "failed", "out of time", "skipped"]


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried.

    Attributes:
        number: From 0 on, in the order in which they were tried.
        family: A name in `SPACES`, or "blend".
        recipe: What was tried; `exclude_seen` is the better of the choices.
        quality: The metric on all rows with its interval; None where the trial did not come to an end.
        seconds: What fitting and judging took.
        state: How it ended.
        reason: Why it did not come to an end, or is not taken; empty otherwise.
    """

    number: int
    family: str
    recipe: Recipe
    quality: Interval | None
    seconds: float
    state: State
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        recipe: The best one.
        metric: What it is best at.
        quality: Its metric, on the rows that it was chosen on.
        baseline: The best of the honest baselines; None if none was among the families.
        gain: What the best gains over that baseline on the same people; None without one.
        trials: Everything that was tried.
    """

    recipe: Recipe
    metric: str
    quality: Interval
    baseline: Recipe | None
    gain: Interval | None
    trials: tuple[Trial, ...]

    def best_by_family(self) -> list[Trial]:
        """The trial that was taken of each family, best first."""
        taken = [(trial.quality.estimate, trial) for trial in self.trials if trial.quality and not trial.reason]
        best: dict[str, Trial] = {}
        for _, trial in sorted(taken, key=lambda one: -one[0]):
            best.setdefault(trial.family, trial)
        return list(best.values())

    def frame(self) -> pd.DataFrame:
        """A row per trial: number, family, recipe, metric with `_low` and `_high`, seconds, state and reason."""
        nothing = Interval.around(math.nan)
        return pd.DataFrame(
            {
                "number": trial.number,
                "family": trial.family,
                "recipe": str(trial.recipe),
                self.metric: (trial.quality or nothing).estimate,
                f"{self.metric}_low": (trial.quality or nothing).low,
                f"{self.metric}_high": (trial.quality or nothing).high,
                "seconds": trial.seconds,
                "state": trial.state,
                "reason": trial.reason,
            }
            for trial in self.trials
        )


def search(
    rows: Sequence[JudgedRows],
    *,
    families: Sequence[str] | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    k: int = K,
    exclude_seen: Sequence[bool] = (False, True),
    blend: bool = True,
    refits: int = 1,
    seed: int = 0,
    resamples: int = 1000,
    folder: Path | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> Found:
    """The recipe with the best NDCG at k on the rows, over people who are no strangers.

    Each family is tried with its defaults, cheapest first. Then one of the best four is drawn, each twice as often
    as the next, and TPE (Bergstra et al. 2011) proposes hyperparameters within them; a trial that is worse than the
    median after some of the rows is cut short. They take the place of what there is, of the defaults first, only where
    they are surely better on the same people: what merely looked better did worse later, on three shops and earlier
    days. A ranker's members are what is best when it is proposed. At last the families' best models are blended, and
    the blend is taken where it is surely better than the best of all.

    A family that fails with its defaults (the data or the memory does not carry it) is left alone, and so is one
    that could not be fitted and refitted in the time left. The same call goes on where another one, with the same
    rows and folder, stopped; with `trials` alone the result is the same as if it had not stopped.

    Args:
        rows: Such as rolling cutoffs, earliest first, or one carve (`carve_last`, `carve_random`).
        families: Names in `SPACES`; by default all of them.
        trials: At most so many in all, defaults included and a blend not; by default until time or ideas run out.
        minutes: Wall-clock limit of this call and of the refits that follow it. A single step that cannot be
            interrupted, such as factoring a matrix, may still pass it.
        k: Length of the rankings.
        exclude_seen: What is tried of every model: leave out what somebody had before (True), or not (False).
        blend: Whether to blend.
        refits: How often the caller will fit the result again: time is kept for it.
        seed: Of fits, draws and proposals.
        resamples: Behind each interval.
        folder: Where the trials and the best model of each family are kept; emptied when the rows are others than
            those it was made for. By default nothing outlives the call.
        on_trial: Called for every trial, those of an earlier call first.

    Raises:
        DataError: no such family, no trial asked for, or no model could be fitted; says why each was not.

    Example:
        >>> import pandas as pd
        >>> from data.interactions import Interactions
        >>> from training.judging import carve_last
        >>> frame = pd.DataFrame({"user_id": list("aabbcc"), "item_id": list("xyxyxy"), "at": [0, 1] * 3})
        >>> found = search([carve_last(Interactions.from_frame(frame))], families=["popularity"], trials=1, k=1)
        >>> found.recipe.model, found.recipe.exclude_seen, found.quality.estimate
        ('popularity', True, 1.0)
    """
    names = list(SPACES) if families is None else list(families)
    if strange := [name for name in names if name not in SPACES]:
        raise DataError(f"{strange[0]!r} is no family to search; choose from {', '.join(SPACES)}.")
    if not names or (trials is not None and trials < 1):
        raise DataError("a search needs a family and at least one trial.")
    with tempfile.TemporaryDirectory() as scratch, telling("searching") as tell:
        run = _Search(
            rows=rows,
            k=k,
            shows=exclude_seen,
            blends=blend,
            refits=refits,
            seed=seed,
            resamples=resamples,
            deadline=math.inf if minutes is None else time.monotonic() + 60 * minutes,
            folder=Path(scratch) if folder is None else folder,
            told=lambda trial, words: (tell(words), on_trial(trial) if on_trial else None),
        )
        run.open(names, keep=folder is not None)
        limit = math.inf if trials is None else trials
        for name in names:
            if run.n_tried < limit and name not in run.defaults_tried:
                run.attempt(name, defaults=True)
        while run.n_tried < limit and (drawn := run.draw(names)):
            run.attempt(drawn)
        if blend and time.monotonic() < run.deadline:
            run.blend()
        return run.found()


@dataclass(frozen=True, eq=False)
class _Best:
    """The best trial of a family, whose models are kept in `folder`, one for each of the rows.

    Attributes:
        family: A name in `SPACES`, or "blend".
        recipe: Of the trial.
        score: Mean of `values`.
        values: The metric of every judged user of all rows, NaN for strangers.
        fit_seconds: Of the fit on the last rows.
        judge_seconds: Of asking the models on all rows.
    """

    family: str
    recipe: Recipe
    score: float
    values: np.ndarray
    fit_seconds: float
    judge_seconds: float


class _Search:
    """A search under way."""

    def __init__(
        self,
        *,
        rows: Sequence[JudgedRows],
        k: int,
        shows: Sequence[bool],
        blends: bool,
        refits: int,
        seed: int,
        resamples: int,
        deadline: float,
        folder: Path,
        told: Callable[[Trial, str], object],
    ) -> None:
        self.rows, self.k, self.shows, self.blends = rows, k, tuple(shows), blends
        self.refits, self.seed = refits, seed
        self.resamples, self.deadline, self.folder, self.told = resamples, deadline, folder, told
        self.people = pd.factorize(np.concatenate([part.ids for part in rows]))[0]
        self.trials: list[Trial] = []
        self.best: dict[str, _Best] = {}
        self.defaults_tried: set[str] = set()
        self.studies: dict[str, optuna.Study] = {}
        self.seen: set[str] = set()
        self.repeats = 0

    def open(self, names: Sequence[str], *, keep: bool) -> None:
        """Go on from what the folder holds of the same rows, or empty it."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        about = {"key": _key(self.rows, self.k, self.shows, self.seed)}
        stamp = self.folder / "search.json"
        if not stamp.is_file() or json.loads(stamp.read_text(encoding="utf-8")) != about:
            for stale in ("models", "scratch"):
                shutil.rmtree(self.folder / stale, ignore_errors=True)
            for file in (self.folder / "trials.db", *self.folder.glob("checkpoint*")):
                file.unlink(missing_ok=True)
            with replacing(stamp) as beside:
                beside.write_text(json.dumps(about), encoding="utf-8")
        storage = f"sqlite:///{(self.folder / 'trials.db').resolve()}" if keep else None
        for name in names:
            study = optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=N_RANDOM),
            )  # fmt: skip
            self.studies[name] = study
            for cut_off in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                study.tell(cut_off.number, state=TrialState.FAIL)  # as if it had never been
            kept = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
            self.trials += [_trial(ended.user_attrs["trial"]) for ended in kept]
            if (self.folder / "models" / name).is_dir():
                self.best[name] = _read_best(self.folder / "models" / name)
        self.trials.sort(key=lambda trial: trial.number)
        ended = [trial for trial in self.trials if trial.state != "out of time"]  # that may be tried again
        self.seen = {_proposed(trial.recipe).fit_key for trial in ended}
        self.defaults_tried = {trial.family for trial in ended}
        for trial in self.trials:
            self.told(trial, f"trial {trial.number}, {trial.recipe}: taken up again")

    @property
    def n_tried(self) -> int:
        """Trials that count."""
        return sum(trial.state != "skipped" for trial in self.trials)

    def draw(self, names: Sequence[str]) -> str | None:
        """The family to try next: of the best few those that there is time for, each twice as often as the next.

        None where there is nothing to try: worse families than may be in a blend need not fill the time.
        """
        best = sorted((name for name in names if name in self.best), key=lambda name: -self.best[name].score)
        limit = self._limit()
        able = [name for name in best[:MAX_MEMBERS] if self._seconds(name) < limit]
        if not able or self.repeats >= MAX_REPEATS:
            return None
        chance = 0.5 ** np.arange(len(able))
        return str(self._rng().choice(able, p=chance / chance.sum()))

    def attempt(self, name: str, *, defaults: bool = False) -> None:
        """One trial of a family, with its defaults or with what TPE proposes; a ranker's members are the best."""
        study, space, limit = self.studies[name], SPACES[name], self._limit()
        if limit <= self._seconds(name):
            took = f" and it took {self._seconds(name):.0f} s before" if self._seconds(name) else ""
            reason = f"no trial of more than {max(limit, 0):.0f} s can be fitted again in the time left{took}"
            self._tell(Trial(self.n_tried, name, Recipe(start_of(name)[0]), None, 0.0, "skipped", reason))
            return
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=N_RANDOM, multivariate=True, seed=int(self._rng().integers(2**31))
        )
        model, first = start_of(name)
        usual = MODELS[model]().params
        if defaults:
            study.enqueue_trial({**usual, **first})
        asked = study.ask()
        params = {**space(asked), **(self._members_for(limit) if name == RANKER else {})}
        recipe = Recipe(model, {param: value for param, value in params.items() if value != usual[param]})
        if recipe.fit_key in self.seen:
            self.repeats += 1
            study.tell(asked, state=TrialState.FAIL)
            return
        started = time.monotonic()
        state: State = "complete"
        reason, best = "", None
        try:
            with at_most(limit):
                best = self._measured(name, recipe, asked, limit, prune=not defaults)
        except optuna.TrialPruned:
            state, reason = "pruned", "worse than the median of its family on the first rows"
        except OutOfTime:
            state, reason = "out of time", f"stopped after {limit:.0f} s: longer could not be fitted again in the time"
        except FAILURES as error:
            state, reason = "failed", str(error) or type(error).__name__
        trial = Trial(self.n_tried, name, recipe, None, time.monotonic() - started, state, reason)
        if best is not None:
            there = self.best.get(name)
            if there is not None and there.recipe != best.recipe:  # itself, if it was kept and then cut off
                reason = self._no_better(best.values, there)
            trial = replace(trial, recipe=best.recipe, quality=self._interval(best.values), reason=reason)
            if not reason:
                self._keep(best)
        asked.set_user_attr("trial", json.dumps(asdict(trial)))
        study.tell(asked, best.score if best else None, state=TrialState.COMPLETE if best else TrialState.PRUNED)
        self.repeats = 0
        self.seen.add(recipe.fit_key)
        self._tell(trial)

    def blend(self) -> None:
        """Try the best blend of the families' best models; it must be surely better than the best there is."""
        started = time.monotonic()
        names = self._singles()
        if len(names) < 2:
            return
        limit = max(self.deadline - started - self._refits(self._first()), 1e-3)
        try:
            with at_most(limit):
                self._blend(names, started)
        except OutOfTime:
            reason = f"stopped after {limit:.0f} s: the best there is must be fitted again in the time"
            seconds = time.monotonic() - started
            self._tell(Trial(self.n_tried, BLEND, Recipe(BLEND), None, seconds, "out of time", reason))

    def _blend(self, names: list[str], started: float) -> None:
        models = [self._models(name) for name in names]
        shows = self.best[names[0]].recipe.exclude_seen
        weights = blend_weights(self.rows, models, first=0, exclude_seen=shows, k=self.k)
        members = np.flatnonzero(weights).tolist()
        if len(members) == 1:
            return
        chosen = [names[member] for member in members]
        recipe = Recipe(BLEND, {"members": self._members(chosen), "weights": weights[members].tolist()}, shows)
        blends = (
            Blend.of([models[m][number] for m in members], weights[members].tolist())
            for number in range(len(self.rows))
        )
        values = np.concatenate(
            [
                part.judge(model, exclude_seen=shows, k=self.k).values("ndcg", "warm")
                for part, model in zip(self.rows, blends, strict=True)
            ]
        )
        reason = self._no_better(values, self._first())
        if not reason:
            fit_seconds = sum(self.best[name].fit_seconds for name in chosen)
            self.best[BLEND] = _Best(BLEND, recipe, _mean(values), values, fit_seconds, 0.0)
        state: State = "pruned" if reason else "complete"
        seconds = time.monotonic() - started
        self._tell(Trial(self.n_tried, BLEND, recipe, self._interval(values), seconds, state, reason))

    def found(self) -> Found:
        """The best of all."""
        if not self.best:
            why = "; ".join(f"{trial.family}: {trial.reason}" for trial in self.trials)
            raise DataError(f"no recommender could be fitted. {why}")
        best = self._first()
        baselines = [found for found in self.best.values() if found.recipe.is_baseline]
        baseline = max(baselines, key=lambda found: found.score, default=None)
        return Found(
            recipe=best.recipe,
            metric=f"ndcg_at_{self.k}",
            quality=self._interval(best.values),
            baseline=None if baseline is None else baseline.recipe,
            gain=None if baseline is None else self._gain(best.values, baseline.values, level=0.95),
            trials=tuple(self.trials),
        )

    def _no_better(self, values: np.ndarray, than: _Best) -> str:
        """Why these values do not take the place of what there is; empty where they are surely better."""
        gain = self._gain(values, than.values, level=SURE)
        return "" if gain.low > 0 else f"not surely better than {than.recipe}: {gain}"

    def _first(self) -> _Best:
        """The best of all; the earlier of equals."""
        return max(self.best.values(), key=lambda found: found.score)

    def _singles(self) -> list[str]:
        """Families that are not made of others, the best first."""
        singles = [name for name, best in self.best.items() if not issubclass(MODELS[best.recipe.model], Composite)]
        return sorted(singles, key=lambda name: -self.best[name].score)

    def _members_for(self, limit: float) -> dict[str, Any]:
        """The best models as the members of a ranker, which fits each twice for each of the rows in so many seconds."""
        seconds = 0.0
        chosen: list[str] = []
        for name in self._singles():
            cost = 2 * REFIT_MARGIN * len(self.rows) * self.best[name].fit_seconds
            if len(chosen) < MAX_MEMBERS and seconds + cost < limit:
                seconds += cost
                chosen.append(name)
        return {"members": self._members(chosen)} if chosen else {}

    def _members(self, names: Sequence[str]) -> list[Member]:
        recipes = [self.best[name].recipe for name in names]
        return [Member(model=recipe.model, params=dict(recipe.params)) for recipe in recipes]

    def _measured(self, family: str, recipe: Recipe, asked: optuna.Trial, limit: float, *, prune: bool) -> _Best:
        """Fit and judge on all rows, leaving the models in `scratch`.

        Raises:
            optuna.TrialPruned: worse than the median after some of them.
        """
        scratch = self.folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        values: list[list[np.ndarray]] = [[] for _ in self.shows]
        fit_seconds = judge_seconds = 0.0
        found_out: dict[str, Any] = {}
        began = time.monotonic()
        for number, part in enumerate(self.rows):
            started = time.monotonic()
            share = (limit - started + began) / (len(self.rows) - number)
            model = recipe.fit(
                part.known,
                self.seed,
                minutes=None if math.isinf(limit) else FIT_SHARE * share / 60,
                checkpoint=self.folder / f"checkpoint{number}",  # one each: the fits before it are done again
            )
            fit_seconds = time.monotonic() - started
            found_out = {param: getattr(model, name) for param, name in LEARNT.get(recipe.model, {}).items()}
            for of, shows in zip(values, self.shows, strict=True):
                of.append(part.judge(model, exclude_seen=shows, k=self.k).values("ndcg", "warm"))
            judge_seconds += time.monotonic() - started - fit_seconds
            model.save(scratch / str(number))
            del model
            asked.report(max(_mean(np.concatenate(of)) for of in values), number)
            if prune and number < len(self.rows) - 1 and asked.should_prune():
                raise optuna.TrialPruned
        pooled = [np.concatenate(of) for of in values]
        best = int(np.argmax([_mean(of) for of in pooled]))
        shown = replace(recipe, params={**found_out, **recipe.params}, exclude_seen=self.shows[best])
        return _Best(family, shown, _mean(pooled[best]), pooled[best], fit_seconds, judge_seconds / len(self.shows))

    def _keep(self, best: _Best) -> None:
        """Make the trial in `scratch` the best of its family."""
        scratch, name = self.folder / "scratch", best.family
        np.save(scratch / "values.npy", best.values)
        told = {
            "family": best.family,
            **asdict(best.recipe),
            "score": best.score,
            "fit_seconds": best.fit_seconds,
            "judge_seconds": best.judge_seconds,
        }
        (scratch / "best.json").write_text(json.dumps(told), encoding="utf-8")
        with replacing(self.folder / "models" / name) as beside:
            scratch.rename(beside)
        self.best[name] = best

    def _models(self, name: str) -> list[Recommender]:
        return [load(self.folder / "models" / name / str(number)) for number in range(len(self.rows))]

    def _limit(self) -> float:
        """Seconds that a trial may take: it and its refits must fit beside the refits of what is best so far."""
        members = sorted(self.best.values(), key=lambda found: -found.score)[: MAX_MEMBERS if self.blends else 1]
        refits = sum(self._refits(one) for one in members)
        blending = 3 * sum(one.judge_seconds for one in self.best.values()) if self.blends else 0
        return (self.deadline - time.monotonic() - refits - blending) / (1 + self.refits * REFIT_MARGIN)

    def _refits(self, one: _Best) -> float:
        """Seconds that the caller will need for one of them."""
        return self.refits * (REFIT_MARGIN * one.fit_seconds + one.judge_seconds)

    def _seconds(self, name: str) -> float:
        """What a trial of a family took at the most."""
        return max((trial.seconds for trial in self.trials if trial.family == name), default=0.0)

    def _rng(self) -> np.random.Generator:
        """Of the next trial alone: so that a search that was cut off goes on as if it had not been."""
        return np.random.default_rng([self.seed, self.n_tried, self.repeats])

    def _interval(self, values: np.ndarray) -> Interval:
        return intervals.mean(values, groups=self.people, resamples=self.resamples)

    def _gain(self, values: np.ndarray, than: np.ndarray, *, level: float) -> Interval:
        return intervals.paired_difference(values, than, groups=self.people, level=level, resamples=self.resamples)

    def _tell(self, trial: Trial) -> None:
        self.trials.append(trial)
        best = max(self.best.values(), key=lambda found: found.score, default=None)
        state = "" if trial.state == "complete" else f"{trial.state}: "
        outcome = ", ".join(filter(None, (f"{trial.quality or ''}", f"{state}{trial.reason}")))
        so_far = f"; best so far {best.score:.4f} by {best.family}" if best else ""
        self.told(trial, f"trial {trial.number}, {trial.recipe}: {outcome}{so_far}")


class OutOfTime(BaseException):  # no Exception, so that no model's own handling swallows it
    """A trial was stopped at its limit."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Stop the body after so long, where this thread and system can be interrupted.

    Raises:
        OutOfTime: it was stopped.
    """
    if math.isinf(seconds) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, frame: FrameType | None) -> None:
        if _importing(frame):  # a module that was imported by half would fail whoever imports it next
            signal.setitimer(signal.ITIMER_REAL, 0.1)
        else:
            raise OutOfTime("no time was left")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _proposed(recipe: Recipe) -> Recipe:
    """Without what the fit found out."""
    learnt = LEARNT.get(recipe.model, {})
    return replace(recipe, params={name: value for name, value in recipe.params.items() if name not in learnt})


def _key(rows: Sequence[JudgedRows], k: int, shows: Sequence[bool], seed: int) -> str:
    """Two searches of one key try the same on the same rows."""
    digest = blake2b(json.dumps([code_hash(), k, list(shows), seed]).encode(), digest_size=16)
    for part in rows:
        known, asked, taken = part.known, part.histories, part.held_out
        told = known.attributes
        names = [known.items.hash, known.users.hash, part.items.hash, known.kinds, told and told.names]
        digest.update(json.dumps(names).encode())
        for array in (
            *((told.matrix.indptr, told.matrix.indices, told.matrix.data) if told else ()),
            *(known.user, known.item, known.weight, known.at, known.kind),
            *(asked.indptr, asked.item, asked.now),
            *(taken.indptr, taken.indices),
        ):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _trial(told: str) -> Trial:
    """A trial from its JSON."""
    values: dict[str, Any] = json.loads(told)
    quality = values.pop("quality")
    return Trial(**values | {"recipe": Recipe(**values["recipe"]), "quality": quality and Interval(**quality)})


def _read_best(folder: Path) -> _Best:
    told: Mapping[str, Any] = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    return _Best(
        family=told["family"],
        recipe=Recipe(told["model"], told["params"], told["exclude_seen"]),
        score=told["score"],
        values=np.load(folder / "values.npy"),
        fit_seconds=told["fit_seconds"],
        judge_seconds=told["judge_seconds"],
    )


def _mean(values: np.ndarray) -> float:
    """Of those that have one; 0 where nobody has."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
