"""Which items a person, a visitor or a stranger is shown and why, from one view of models, histories and catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from types import MappingProxyType

import numpy as np

from data.errors import DataError, WorkspaceError
from data.histories import Histories, Step
from data.state.reads import ORDER, Touch
from data.vocabulary import Vocabulary
from features import expressions
from features.expressions import Expression
from features.items import category_name
from models.recommenders import Recommender
from serving.catalogue import Catalogue
from serving.champions import Champion
from serving.decisions.ranking import Choice, arrange, category_limit, choose, freshened, promoted_places
from serving.past import Past, segment
from serving.placements import Placed
from serving.schemas import Context, RankedItem, RecommendAsk, SimilarAsk

FALLBACK = "fallback-popularity"
POPULARITY = "popularity"
COMPLEMENTS = "complements"
TOGETHER = "together"
"""Source of items that the same people touched: what is similar where the champion compares no items."""
NEW = "new"
"""Source of items that are for sale and that nobody touched yet, where the model does not rank them."""
PROMOTED = "promoted"
EXPLORE = "explore"
EVERYBODY = "popularity"
"""The version that answers where nothing personal is done: on purpose, so it is no fallback."""
SPARE = 200
"""So many candidates more than are shown are looked at where the best need not be shown first."""
FEW_PER_PLACE = 4
"""So many of the best are asked for first, for each that is shown, where the model tells a few sooner than many."""
MOST_ROUNDS = 5
"""So often at most further candidates are looked for, where those found are of too few categories."""
VERBS = {
    ORDER: "because you bought {}",
    "product_added": "because you added {} to your cart",
    "product_added_to_wishlist": "because you saved {}",
    "product_viewed": "because you viewed {}",
    "product_clicked": "because you viewed {}",
    "product_reviewed": "because you reviewed {}",
}

Mask = Callable[[Vocabulary], np.ndarray]
"""Which items of a vocabulary may be shown, bool of shape (n_items,)."""


class UnknownItemError(DataError):
    """Neither the model nor the catalogue knows the item."""


class FieldError(DataError):
    """A field of a request has a value that cannot be used.

    Attributes:
        field: Its name.
        reason: What is wrong.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, eq=False)
class View:
    """All that a recommendation needs, at one moment; replaced as one reference.

    Attributes:
        champion: The recommender in force, None if there is none.
        past: What the checked tables tell.
        catalogue: The items now.
    """

    champion: Champion | None
    past: Past
    catalogue: Catalogue

    @cached_property
    def model(self) -> Recommender | None:
        """What ranks: the champion's model, else windowed popularity; None where nothing was ever touched."""
        if self.champion is not None and isinstance(self.champion.model, Recommender):
            return self.champion.model
        return self.past.popular

    @property
    def version(self) -> str:
        """What the answers call it."""
        return FALLBACK if self.champion is None else str(self.champion)

    @cached_property
    def everybody(self) -> View:
        """Without a model of anybody."""
        return replace(self, champion=None)

    @cached_property
    def items(self) -> Vocabulary:
        """The items of `model`."""
        return Vocabulary([]) if self.model is None else self.model.items

    @cached_property
    def codes(self) -> np.ndarray:
        """The code in `items` of each item of the past, -1 for one that is not there."""
        return self.items.codes(self.past.items.all_ids)

    def prepared(self) -> View:
        """Itself, with the codes looked up: with many items no request is to wait for them."""
        _ = self.codes
        return self


@dataclass(frozen=True)
class Ranked:
    """Items for somebody.

    Attributes:
        items: Best first.
        probability: The chance that each was shown in its place, given what was placed before.
        note: Why there are none.
    """

    items: list[RankedItem]
    probability: list[float] = field(default_factory=list)
    note: str | None = None


@dataclass(frozen=True, eq=False)
class Asker:
    """Whoever asks, as far as a ranking goes.

    Attributes:
        past: What the checked tables tell of them, in the past's codes.
        steps: What they did since.
        history: Both in one row, in the model's codes.
        exclude_seen: Whether what they had before is left out.
        barred: Ids that are excluded, in the cart or on the page.
        category: Of what they are looking at, as models call it.
        segments: Those whom they are like, of whom nothing else is known; as `past.popular` calls them.
        basket: What complements are asked for: the cart, else what they are looking at.
        few: So many of the best mostly fill the places; 0 where all candidates are looked at.
    """

    past: Histories | None
    steps: Sequence[Step]
    history: Histories
    exclude_seen: bool
    barred: frozenset[str]
    category: str | None
    segments: tuple[str, ...]
    basket: tuple[str, ...]
    few: int


def recommend(
    view: View,
    ask: RecommendAsk,
    placed: Placed,
    steps: Sequence[Step],
    *,
    attributes: Mapping[str, str] = MappingProxyType({}),
    now: datetime,
    rng: Callable[[], np.random.Generator],
) -> Ranked:
    """Rank items for whoever asks, by the rules of the placement.

    Args:
        view: What is known.
        ask: The request.
        placed: The placement.
        steps: What they did since the past ends, and are doing, the oldest first.
        attributes: What is known of them, by the names of the columns of `users`.
        now: The moment asked at.
        rng: Makes what draws, where something is drawn at random.

    Raises:
        FieldError: a filter that cannot be read.
    """
    only = [expression for expression in (_filter(ask.filter, view), placed.only) if expression is not None]
    person = _person(view, ask, placed, steps, attributes=attributes, now=now)
    looking_at = view.catalogue.categories(_looking_at(ask.context)[:1])
    may = _may(view, only, sensitive=ask.filter is not None or bool(view.catalogue.sensitive.intersection(looking_at)))
    rules = placed.rules
    size = ask.k if placed.plain else ask.k + max(SPARE, rules.explore_among)
    complements = rules.kind == COMPLEMENTS
    if rules.diversity:
        most = category_limit(ask.k, rules.diversity)
        found = _varied(view, person, size, may, k=ask.k, most=most, complements=complements)
    else:
        found = _candidates(view, person, size, may, complements=complements)
    lifted: set[str] = set()
    if rules.freshness:
        best = list(found)
        age_days = view.catalogue.age_days([choice.item_id for choice in best], now)
        order = freshened(age_days, freshness=rules.freshness, half_life_days=rules.freshness_half_life_days)
        lifted = {best[number].item_id for number in order[: ask.k] if number >= ask.k}
        found = (best[number] for number in order)
    choices = {choice.item_id: choice for choice in _promoted(view, person, placed, ask.k, may)}
    promoted = list(choices)

    def coming() -> Iterator[str]:
        for choice in found:
            choices[choice.item_id] = choice
            yield choice.item_id

    places = arrange(
        list(coming()) if promoted else coming(),  # a promoted item that is a candidate too is shown as one
        rules,
        k=ask.k,
        category=view.catalogue.category,
        promoted=promoted,
        rng=rng,
    )
    shown = [choices[place.item_id] for place in places]
    because = _because(view, person, shown)
    return Ranked(
        items=[
            _shown(
                view,
                choice,
                how=place.how,
                because=because.get(choice.item_id),
                lifted=choice.item_id in lifted,
                category=person.category,
                segments=person.segments,
            )
            for choice, place in zip(shown, places, strict=True)
        ],
        probability=[place.probability for place in places],
        note=None if places else _nothing(view, only),
    )


def for_everybody(
    view: View, ask: RecommendAsk, placed: Placed, *, now: datetime, rng: Callable[[], np.random.Generator]
) -> Ranked:
    """What everybody gets in this place: what is popular, of the category on the page; nothing of the person counts.

    Raises:
        FieldError: a filter that cannot be read.
    """
    context = ask.context.model_copy(update={"recent": [], "attributes": {}})
    nobody = ask.model_copy(update={"user_id": None, "anonymous_id": None, "context": context})
    rules = placed.rules.model_copy(update={"kind": "items", "explore": 0.0})
    return recommend(view.everybody, nobody, replace(placed, rules=rules), [], now=now, rng=rng)


def at_random(placed: Placed) -> Placed:
    """The placement with every place drawn evenly from the best `explore_among` that may stand there."""
    return replace(placed, rules=placed.rules.model_copy(update={"explore": 1.0}))


def similar(view: View, ask: SimilarAsk) -> list[RankedItem]:
    """Items like one item, the most alike first.

    Raises:
        UnknownItemError: nobody knows the item.
        FieldError: a filter that cannot be read.
    """
    model = view.model
    only = _filter(ask.filter, view)
    may = _may(view, [] if only is None else [only])
    code = -1 if model is None else model.items.code(ask.item_id)
    if code < 0 and ask.item_id not in view.catalogue.items:
        raise UnknownItemError(f"item {ask.item_id!r} is not known. Send it with /v1/tables, or train anew.")
    rankings: list[list[Choice]] = []
    if model is not None and code >= 0:
        allowed = may(model.items)
        most = min(len(model.items), ask.k + int((~allowed).sum()))
        ranking = model.similar([code], most)
        kept = [(c, s) for c, s in zip(ranking.items[0], ranking.scores[0], strict=True) if c >= 0 and allowed[c]]
        ids = model.items.ids([c for c, _ in kept])
        alike = zip(ids, (float(score) for _, score in kept), strict=True)
        rankings.append([Choice(i, s, model.name, ask.item_id) for i, s in alike])
    if not any(rankings):
        together = view.past.alike(ask.item_id, may(view.past.items))
        rankings.append([Choice(i, s, TOGETHER, ask.item_id) for i, s in together])
    category = category_name(view.catalogue.categories([ask.item_id])[0])
    rankings.append(list(_popular(view, ask.k + 1, may, groups=() if category is None else (category,))))
    chosen = choose(rankings, k=ask.k, excluded={ask.item_id})
    like = f"like {view.catalogue.name(ask.item_id)}"
    return [_shown(view, c, because=like if c.because_of else None, category=category) for c in chosen]


def steps_of(context: Context, touches: Sequence[Touch], worth: Mapping[str, float], now: datetime) -> list[Step]:
    """What somebody did lately and, as the newest steps, is doing now; the oldest first.

    Args:
        context: What they are doing.
        touches: What they did, the newest first.
        worth: Weight by kind of event; what has none is left out.
        now: The moment asked at; nothing is later.
    """
    doing = [(item, "product_viewed") for item in reversed(context.recent)]
    doing += [(item, "product_added") for item in context.cart]
    doing += [(context.viewing, "product_viewed")] if context.viewing else []
    moment = int(now.timestamp())
    did = [(touch.item_id, touch.event, min(int(touch.at.timestamp()), moment)) for touch in reversed(touches)]
    every = did + [(item, event, moment) for item, event in doing]
    return [Step(item, worth[event], at, event) for item, event, at in every if worth.get(event, 0.0) > 0]


def _person(
    view: View,
    ask: RecommendAsk,
    placed: Placed,
    steps: Sequence[Step],
    *,
    attributes: Mapping[str, str],
    now: datetime,
) -> Asker:
    past = None if ask.user_id is None else view.past.of_user(ask.user_id)
    if view.catalogue.sensitive:
        steps = [step for step in steps if not _sensitive(view, step.item_id)]
    lately = Histories.of_steps(view.items, [steps], now=int(now.timestamp()))
    rules, context = placed.rules, ask.context
    exclude_seen = rules.exclude_seen
    if exclude_seen is None:
        exclude_seen = view.champion is not None and view.champion.exclude_seen
    history = lately if past is None else _followed(past.recoded(view.codes, len(view.items)), lately)
    if (told := view.catalogue.insensitive(view.items)) is not None:
        history = history.where(told[history.item])
    segments = [] if len(history.item) else [segment(name, value) for name, value in attributes.items()]
    looking_at = _looking_at(context)
    return Asker(
        past=past,
        steps=steps,
        history=history,
        exclude_seen=exclude_seen,
        barred=frozenset((*ask.exclude, *context.cart, *([context.viewing] if context.viewing else []))),
        category=category_name(view.catalogue.categories(looking_at[:1])[0]) if looking_at else None,
        segments=tuple(name for name in segments if view.past.popular and name in view.past.popular.groups),
        basket=tuple(item_id for item_id in context.cart or looking_at[:1] if not _sensitive(view, item_id)),
        few=0 if rules.freshness else FEW_PER_PLACE * ask.k + (rules.explore_among if rules.explore else 0),
    )


def _looking_at(context: Context) -> list[str]:
    """The item on the page, else those they looked at or put into the cart last."""
    return [context.viewing] if context.viewing else [*context.recent[:1], *context.cart[-1:]]


def _sensitive(view: View, item_id: str) -> bool:
    return view.catalogue.category(item_id) in view.catalogue.sensitive


def _followed(before: Histories, lately: Histories) -> Histories:
    """One row followed by another, in the order of time."""
    kinds = tuple(dict.fromkeys((*before.kinds, *lately.kinds)))
    code = np.array([kinds.index(kind) for kind in lately.kinds], dtype=np.int16)
    at = np.concatenate([np.minimum(before.at, lately.now[0]), lately.at])
    order = np.argsort(at, kind="stable")
    kind = np.concatenate([before.kind, code[lately.kind] if len(code) else lately.kind])
    return replace(
        lately,
        indptr=np.array([0, len(order)]),
        item=np.concatenate([before.item, lately.item])[order],
        weight=np.concatenate([before.weight, lately.weight])[order],
        at=at[order],
        kind=kind[order],
        kinds=kinds,
    )


def _may(view: View, only: Sequence[Expression], *, sensitive: bool = True) -> Mask:
    """What may be shown; nothing of a sensitive category unless they look for that."""

    def may(items: Vocabulary) -> np.ndarray:
        allowed = view.catalogue.allowed(items)
        if not sensitive and (told := view.catalogue.insensitive(items)) is not None:
            allowed = allowed & told
        for expression in only:
            allowed = allowed & view.catalogue.allowed(items, expression)
        return allowed

    return may


def _candidates(view: View, person: Asker, k: int, may: Mask, *, complements: bool = False) -> Iterator[Choice]:
    """What may be shown, best first: by the model, then what is popular, then what nobody touched yet.

    No model knows more of a person without a history than whom they are like, so that comes first where it is known.
    A source is asked only when those before it are used up.
    """
    ranked = (_popular_for, _by_model) if person.segments else (_by_model, _popular_for)
    sources = (*([_complements] if complements else []), *ranked, _unknown)
    return choose((source(view, person, k, may) for source in sources), k=k)


def _varied(
    view: View, person: Asker, size: int, may: Mask, *, k: int, most: int, complements: bool
) -> Iterator[Choice]:
    """Candidates, then some of other categories where so many are of a few that `most` of each fill fewer than k."""
    given: dict[str, None] = {}
    full: set[str] = set()
    for _ in range(1 + MOST_ROUNDS):
        others = _outside(view, full, may) if full else may
        further = _candidates(view, person, size, others, complements=complements and not given)
        before = len(given)
        for choice in further:
            if choice.item_id not in given:
                given[choice.item_id] = None
                yield choice
        count = Counter(map(view.catalogue.category, given))
        full = {category for category, n in count.items() if category is not None and n >= most}
        if sum(most if category in full else n for category, n in count.items()) >= k or len(given) == before:
            break


def _left_out(view: View, person: Asker) -> frozenset[str]:
    """What this person must not be shown. The model is told by codes instead: a history may be long."""
    if not person.exclude_seen:
        return person.barred
    past = [] if person.past is None else view.past.items.ids(person.past.item)
    return person.barred.union(past, (step.item_id for step in person.steps))


def _complements(view: View, person: Asker, k: int, may: Mask) -> Iterable[Choice]:
    complements = view.past.complements
    if complements is None:
        return []
    codes, scores, because = complements.of_cart(person.basket)
    kept = np.flatnonzero(_but(may, _left_out(view, person))(complements.items)[codes])[:k]
    ids, of = complements.items.ids(codes[kept]), complements.items.ids(because[kept])
    return (Choice(i, s, COMPLEMENTS, b) for i, s, b in zip(ids, scores[kept].tolist(), of, strict=True))


def _by_model(view: View, person: Asker, k: int, may: Mask) -> Iterable[Choice]:
    model = view.model
    if view.champion is None or model is None or not (len(person.history.item) or model.serves_cold_users):
        return []
    may = _but(may, person.barred)
    groups = () if person.category is None else (person.category,)
    return _ranking(model, person.history, k, may, exclude_seen=person.exclude_seen, groups=groups, few=person.few)


def _popular_for(view: View, person: Asker, k: int, may: Mask) -> Iterable[Choice]:
    groups = person.segments if person.category is None else (person.category, *person.segments)
    return _popular(view, k, _but(may, _left_out(view, person)), groups=groups)


def _popular(view: View, k: int, may: Mask, *, groups: tuple[str, ...]) -> Iterable[Choice]:
    popular = view.past.popular
    if popular is None:
        return []
    return _ranking(popular, Histories.of_steps(popular.items, [[]]), k, may, groups=groups)


def _but(may: Mask, left_out: Collection[str]) -> Mask:
    """Without some items."""

    def narrower(items: Vocabulary) -> np.ndarray:
        allowed = may(items)
        if codes := [code for code in map(items.code, left_out) if code >= 0]:
            allowed = allowed.copy()
            allowed[codes] = False
        return allowed

    return narrower


def _outside(view: View, categories: Collection[str], may: Mask) -> Mask:
    """Without the items of some categories."""
    return lambda items: may(items) & ~view.catalogue.of_categories(items, categories)


def _ranking(
    model: Recommender,
    history: Histories,
    k: int,
    may: Mask,
    *,
    exclude_seen: bool = False,
    groups: tuple[str, ...],
    few: int = 0,
) -> Iterator[Choice]:
    """The best k; where the model tells a few sooner, these come first, and again with the others."""
    for most in (few, k) if model.few_cost_less and 0 < few < k else (k,):
        ranking = model.recommend(history, most, exclude_seen=exclude_seen, allowed=may(model.items), groups=[groups])
        ids = model.items.ids(ranking.items[0][ranking.items[0] >= 0])
        for id_, score in zip(ids, ranking.scores[0].tolist(), strict=False):
            yield Choice(id_, score, model.name)
        if len(ids) < most:
            break


def _unknown(view: View, person: Asker, k: int, may: Mask) -> Iterable[Choice]:
    """Items for sale that nobody touched before the last check, the newest first."""
    codes = view.catalogue.unknown_to(view.past.items)
    codes = codes[_but(may, _left_out(view, person))(view.catalogue.items)[codes]][:k]
    return (Choice(id_, 0.0, NEW) for id_ in view.catalogue.items.ids(codes))


def _promoted(view: View, person: Asker, placed: Placed, k: int, may: Mask) -> Iterable[Choice]:
    """The promoted items that may be shown, best first; as many as there may be places for."""
    wanted = sum(promoted_places(k, placed.rules.promoted_share)) if placed.promoted else 0
    if not wanted:
        return []

    def among(items: Vocabulary) -> np.ndarray:
        if isinstance(placed.promoted, Expression):
            return may(items) & view.catalogue.allowed(items, placed.promoted)
        listed = np.zeros(len(items), dtype=bool)
        listed[[code for code in map(items.code, placed.promoted) if code >= 0]] = True
        return may(items) & listed

    return _candidates(view, person, wanted + k, among)


def _because(view: View, person: Asker, choices: Sequence[Choice]) -> dict[str, str]:
    """Of those that the model brought: what the person did with the item of the history that speaks most for each."""
    model, history = view.model, person.history
    asked = [choice.item_id for choice in choices if model is not None and choice.source == model.name]
    if model is None or not asked or not len(history.item):
        return {}
    codes = model.reasons(history, [model.items.code(item_id) for item_id in asked])
    of = np.where(codes[:, None] == history.item, history.weight, -np.inf)
    kinds = [history.kinds[kind] for kind in history.kind[of.argmax(axis=1)]]
    because: dict[str, str] = {}
    for item_id, code, kind in zip(asked, codes.tolist(), kinds, strict=True):
        if code >= 0:
            own = model.items.all_ids[code]
            told = VERBS.get(kind, "because of your interest in {}").format(view.catalogue.name(own))
            because[item_id] = "because of your earlier interest in it" if own == item_id else told
    return because


def _shown(
    view: View,
    choice: Choice,
    *,
    how: str = "ranked",
    because: str | None,
    lifted: bool = False,
    category: str | None,
    segments: tuple[str, ...] = (),
) -> RankedItem:
    """An item with its reason in words: what really put it there. It was asked for in a `category` and `segments`."""
    source = {"promoted": PROMOTED, "explored": EXPLORE}.get(how, choice.source)
    own = view.catalogue.category(choice.item_id)
    reason: str | None
    if source == PROMOTED:
        reason = "promoted"
    elif lifted or choice.source == NEW:
        reason = f"new in {own}" if own else "new"
    elif choice.source == COMPLEMENTS and choice.because_of is not None:
        reason = f"often bought with {view.catalogue.name(choice.because_of)}"
    elif because is not None:
        reason = because
    elif (ranker := view.past.popular if choice.source == POPULARITY else view.model) is None:
        reason = None
    elif category_name(own) == category and own not in view.catalogue.sensitive and ranker.knows(category):
        reason = f"popular in {own}"
    elif choice.source == POPULARITY and segments:
        reason = "popular with customers like you"
    else:  # no step of the history holds it up, so what serves strangers does
        reason = "popular right now" if ranker.serves_cold_users else None
    return RankedItem(item_id=choice.item_id, score=choice.score, source=source, reason=reason)


def _filter(text: str | None, view: View) -> Expression | None:
    if text is None:
        return None
    try:
        found = expressions.parse(text, place="filter", example="category == 'tea' and price < 10")
        view.catalogue.allowed(view.catalogue.items, found)
    except WorkspaceError as error:
        raise FieldError("filter", str(error).removeprefix("filter: ")) from error
    except RecursionError as error:
        raise FieldError("filter", "is nested too deeply") from error
    return found


def _nothing(view: View, only: Sequence[Expression]) -> str:
    """Why no item is shown."""
    told = " and ".join(expression.text for expression in only)
    if not _may(view, only)(view.catalogue.items).any():
        return f"No item is available for which {told} holds." if only else "No item is available."
    which = f"Every available item for which {told} holds" if only else "Every available item"
    return f"{which} is in the cart, on the page, excluded, or was seen before."
