"""What the shop sends and chooses: campaigns, offers and wordings at known probabilities, and how people respond."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from simulation import arrow, responses
from simulation.catalogue import offer_ids, variant_ids
from simulation.people import ARMS, HOLDOUT, RANDOM, People
from simulation.scene import Scene

PERSONALISATION, TOPICS, FREQUENCY, HOURS = "personalisation", "topics", "frequency", "hours"


@dataclass(frozen=True, eq=False)
class Sent:
    """Messages to one batch of people, sorted by person, channel and time, m of them; NaN = has not happened.

    A person left alone at an offer's moment has a row too, with `silent`; it is no message.

    Attributes:
        person: Row of `People`, (m,).
        channel: Code, (m,).
        campaign: Code into the campaigns, (m,).
        offer: Code, the number of offers = the offer of nothing, -1 = not about offers, (m,).
        variant: Code, -1 = none, (m,).
        probability: Chance of the offer or variant, given the arm, (m,).
        decided: Whether a decision is logged for it, (m,).
        silent: Whether nothing was sent, (m,).
        sent: Day, (m,).
        opened: By the person, whether or not the shop sees it, (m,).
        machine_opened: When the mail program opened it, (m,).
        clicked: (m,).
        unsubscribed: (m,).
        bounced: (m,).
    """

    person: np.ndarray
    channel: np.ndarray
    campaign: np.ndarray
    offer: np.ndarray
    variant: np.ndarray
    probability: np.ndarray
    decided: np.ndarray
    silent: np.ndarray
    sent: np.ndarray
    opened: np.ndarray
    machine_opened: np.ndarray
    clicked: np.ndarray
    unsubscribed: np.ndarray
    bounced: np.ndarray

    @property
    def decision(self) -> np.ndarray:
        """Number of each row's decision, -1 = none, (m,)."""
        return np.where(self.decided, np.cumsum(self.decided) - 1, -1)


@dataclass(frozen=True, eq=False)
class Plan:
    """Which offer holds for whom and when; k moments.

    Attributes:
        offer: Code of the offer, -1 = none, (n, k).
        at: When it was decided, NaN = nothing was decided, (n, k).
        decision: Number of the decision, -1 = none, (n, k).
    """

    offer: np.ndarray
    at: np.ndarray
    decision: np.ndarray

    def moment(self, person: np.ndarray, day: np.ndarray, *, scene: Scene) -> np.ndarray:
        """The moment whose window `day` lies in, -1 = none, for each of `person`."""
        test = scene.world.experiment
        if self.at.shape[1] == 0:
            return np.full(len(person), -1)
        k = np.clip(day / test.every_days, 0, self.at.shape[1] - 1).astype(np.int64)
        since = day - self.at[person, k]
        with np.errstate(invalid="ignore"):
            return np.where((since >= 0) & (since < test.window_days), k, -1)


@dataclass(frozen=True, eq=False)
class Conversions:
    """Orders that fell into the window of a decision: the decision's number, the day, what was paid; (c,) each."""

    decision: np.ndarray
    at: np.ndarray
    value: np.ndarray


def send(scene: Scene, people: People, rng: np.random.Generator) -> Sent:
    """Send every campaign; whoever unsubscribes from a channel gets no more of it."""
    return respond(scene, people, campaigns(scene, people, rng), rng)


def respond(scene: Scene, people: People, rows: dict[str, np.ndarray], rng: np.random.Generator) -> Sent:
    """What people do with what is sent to them: the rest of `Sent` for its first columns, in its order."""
    person, channel, sent = rows["person"], rows["channel"], rows["sent"]
    messages = scene.world.messages
    m, country = len(person), people.country[person]
    kind = {
        name: np.array([getattr(c, name) for c in messages.channels])[channel]
        for name in ("open_logit", "click_logit", "unsubscribe", "bounce", "machine")
    }
    silent = rows["silent"]
    told = ~silent
    line = (person * len(messages.channels) + channel) * 10_000.0 + sent
    recent = np.arange(m) - np.searchsorted(line, line - 7)
    lost = told & (((channel == 0) & (sent >= people.dead_from[person])) | (rng.random(m) < kind["bounce"]))
    arrived = told & ~lost
    opens = arrived & (
        rng.random(m)
        < responses.open_probability(
            kind["open_logit"] + people.open_logit[person],
            hour=scene.calendar.local_hour(sent, country),
            best_hour=people.best_hour[person],
            recent=recent,
            presence=people.presence(person, sent, world=scene.world),
            world=scene.world,
        )
    )
    wording = np.where(rows["variant"] >= 0, people.wording[person, rows["variant"]], 0)
    chance = responses.click_probability(kind["click_logit"] + people.click_logit[person], wording=wording)
    clicks = opens & (rng.random(m) < chance)
    leaves = opens & (rng.random(m) < kind["unsubscribe"] * (1 + 0.3 * recent))
    opened = _when(opens, sent + rng.exponential(messages.open_hours / 24, m), scene)
    clicked = _when(clicks, opened + (0.2 + rng.exponential(messages.click_minutes, m)) / 1440, scene)
    unsubscribed = _when(leaves, opened + (0.5 + rng.exponential(3, m)) / 1440, scene)
    by_machine = arrived & kind["machine"] & people.machine[person]
    responses_of = {
        "opened": opened,
        "machine_opened": _when(by_machine, sent + rng.exponential(messages.machine_minutes / 1440, m), scene),
        "clicked": clicked,
        "unsubscribed": unsubscribed,
        "bounced": _when(lost, sent + rng.uniform(1, 60, m) / 86_400, scene),
    }
    gone = _first_until(unsubscribed, person * len(messages.channels) + channel)
    kept = sent <= gone
    return Sent(**{name: values[kept] for name, values in (rows | responses_of).items()})


def plan(scene: Scene, people: People, sent: Sent) -> Plan:
    """The offers that hold, from what was sent or, for those left alone, decided."""
    n, test = len(people), scene.world.experiment
    moments = len(_moments(scene))
    offer = np.full((n, moments), -1)
    at = np.full((n, moments), np.nan)
    decision = np.full((n, moments), -1)
    rows = np.flatnonzero(sent.offer >= 0)
    k = (sent.sent[rows] / test.every_days).astype(np.int64)
    working = np.isnan(sent.bounced[rows]) & (sent.offer[rows] < len(scene.world.offers))
    offer[sent.person[rows], k] = np.where(working, sent.offer[rows], -1)
    at[sent.person[rows], k] = sent.sent[rows]
    decision[sent.person[rows], k] = sent.decision[rows]
    return Plan(offer=offer, at=at, decision=decision)


def messages_table(scene: Scene, people: People, sent: Sent, *, batch: int) -> pa.Table:
    """The `messages` table."""
    told = np.flatnonzero(~sent.silent)
    world, start_us = scene.world, scene.calendar.start_us
    machine, person = sent.machine_opened[told], sent.opened[told]
    first = np.fmin(machine, person)
    by_machine = ~np.isnan(machine) & ~(person < machine)
    offer = np.where(sent.offer[told] < len(world.offers), sent.offer[told], -1)
    return pa.table(
        {
            "message_id": arrow.numbered(f"m{batch}-", told),
            "user_id": arrow.pick(people.ids, sent.person[told]),
            "channel": arrow.pick(
                arrow.strings([channel.name for channel in world.messages.channels]), sent.channel[told]
            ),
            "campaign_id": arrow.pick(arrow.strings(_campaign_ids(scene)), sent.campaign[told]),
            "offer_id": arrow.pick(offer_ids(world), offer),
            "variant_id": arrow.pick(variant_ids(world), sent.variant[told]),
            "decision_id": arrow.pick(_decision_ids(sent, batch), sent.decision[told]),
            "sent_at": arrow.times(sent.sent[told], start_us),
            "opened_at": arrow.times(first, start_us),
            "machine_opened": pa.array(by_machine, mask=np.isnan(first)),
            "clicked_at": arrow.times(sent.clicked[told], start_us),
            "unsubscribed_at": arrow.times(sent.unsubscribed[told], start_us),
            "bounced_at": arrow.times(sent.bounced[told], start_us),
        }
    )


def decisions_table(scene: Scene, people: People, sent: Sent, *, batch: int) -> pa.Table:
    """The `decisions` table: the offers and wordings chosen, and those whom nothing was offered."""
    world, rows = scene.world, np.flatnonzero(sent.decided)
    about_offers = sent.offer[rows] >= 0
    things = pa.concat_arrays([offer_ids(world), variant_ids(world)])
    offers = len(world.offers) + 1
    chosen = np.where(about_offers, sent.offer[rows], offers + sent.variant[rows])
    arm = people.arm[sent.person[rows]]
    arm = np.where(about_offers | (arm != HOLDOUT), arm, len(ARMS) - 1)
    test = world.experiment
    shares = np.array([test.random_share, test.holdout_share, 1 - test.random_share - test.holdout_share])
    usual_wording = np.array([test.random_share, 0, 1 - test.random_share])
    lists = pa.array([things[:offers].to_pylist(), things[offers:].to_pylist()], pa.list_(pa.string()))
    each = pa.array(np.arange(len(rows) + 1, dtype=np.int32))
    return pa.table(
        {
            "decision_id": _decision_ids(sent, batch),
            "user_id": arrow.pick(people.ids, sent.person[rows]),
            "at": arrow.times(sent.sent[rows], scene.calendar.start_us),
            "kind": arrow.pick(arrow.strings(["offer", "variant"]), np.where(about_offers, 0, 1)),
            "placement": arrow.pick(arrow.strings([world.messages.channels[0].name]), np.zeros(len(rows), int)),
            "slot": arrow.pick(arrow.strings(["headline"]), np.where(about_offers, -1, 0)),
            "arm": arrow.pick(arrow.strings(list(ARMS)), arm),
            "arm_share": pa.array(np.where(about_offers, shares[arm], usual_wording[arm])),
            "chosen": pa.ListArray.from_arrays(each, things.take(pa.array(chosen))),
            "probability": pa.ListArray.from_arrays(each, pa.array(sent.probability[rows])),
            "candidates": lists.take(pa.array(np.where(about_offers, 0, 1))),
            "model_version": arrow.pick(arrow.strings(["even", "none", "rule-1"]), arm),
        }
    )


def outcomes_table(scene: Scene, sent: Sent, conversions: Conversions, *, batch: int) -> pa.Table:
    """The `outcomes` table: what the shop saw of each decision, and the orders in its window."""
    rows = np.flatnonzero(sent.decided & ~sent.silent & np.isnan(sent.bounced))
    seen_open = np.where(np.isnan(sent.machine_opened), sent.opened, np.nan)
    times = [sent.sent, seen_open, sent.clicked, sent.unsubscribed]
    happened = [rows[~np.isnan(at[rows])] for at in times]
    kind = np.concatenate(
        [np.full(len(r), k) for k, r in enumerate(happened)] + [np.full(len(conversions.at), len(times))]
    )
    at = np.concatenate([*(times[k][r] for k, r in enumerate(happened)), conversions.at])
    decision = np.concatenate([*(sent.decision[r] for r in happened), conversions.decision])
    value = np.concatenate([np.full(len(at) - len(conversions.at), np.nan), conversions.value])
    world = scene.world
    decided = np.flatnonzero(sent.decided)
    about = np.where(sent.offer >= 0, sent.offer, len(world.offers) + 1 + sent.variant)[decided[decision]]
    order = np.lexsort((kind, at, decision))
    return pa.table(
        {
            "outcome_id": arrow.numbered(f"c{batch}-", np.arange(len(order))),
            "decision_id": arrow.pick(_decision_ids(sent, batch), decision[order]),
            "chosen_id": arrow.pick(pa.concat_arrays([offer_ids(world), variant_ids(world)]), about[order]),
            "position": pa.array(np.zeros(len(order), np.int64)),
            "kind": arrow.pick(
                arrow.strings(["impression", "open", "click", "unsubscribe", "conversion"]), kind[order]
            ),
            "at": arrow.times(at[order], scene.calendar.start_us),
            "value": arrow.numbers(value[order]),
        }
    )


def consents_table(scene: Scene, people: People, sent: Sent, rng: np.random.Generator) -> pa.Table:
    """The `consents` table: a yes or a no to each purpose at sign-up, and a no at each unsubscription."""
    channels = [channel.name for channel in scene.world.messages.channels]
    purposes = arrow.strings(["marketing", PERSONALISATION, *channels])
    n = len(people)
    personal = rng.random(n) >= scene.world.messages.impersonal_share
    granted = np.column_stack([people.reached.any(axis=1), personal, people.reached])
    left = np.flatnonzero(~np.isnan(sent.unsubscribed))
    wide = granted.shape[1]
    return pa.table(
        {
            "user_id": arrow.pick(people.ids, np.concatenate([np.repeat(np.arange(n), wide), sent.person[left]])),
            "purpose": arrow.pick(purposes, np.concatenate([np.tile(np.arange(wide), n), 2 + sent.channel[left]])),
            "granted": pa.array(np.concatenate([granted.ravel(), np.zeros(len(left), bool)])),
            "at": arrow.times(
                np.concatenate([np.repeat(people.created, wide), sent.unsubscribed[left]]), scene.calendar.start_us
            ),
        }
    )


def preferences_table(scene: Scene, people: People, rng: np.random.Generator) -> pa.Table:
    """The `preferences` table: topics, how often and at what hours, as some people say at sign-up."""
    n = len(people)
    topics = [category.name for category in scene.world.catalogue.categories]
    hours = [f"{hour:02d}-{(hour + 3) % 24:02d}" for hour in range(24)]
    values = arrow.strings([*topics, "weekly", "monthly", *hours])
    names = arrow.strings([TOPICS, FREQUENCY, HOURS])
    value = np.column_stack(
        [
            people.affinity.argmax(axis=1),
            len(topics) + rng.integers(2, size=n),
            len(topics) + 2 + (people.best_hour - 1).astype(np.int64) % 24,
        ]
    )
    person, name = np.nonzero(rng.random((n, 3)) < scene.world.messages.topic_share)
    return pa.table(
        {
            "user_id": arrow.pick(people.ids, person),
            "name": arrow.pick(names, name),
            "value": arrow.pick(values, value[person, name]),
            "at": arrow.times(people.created[person], scene.calendar.start_us),
        }
    )


def _moments(scene: Scene) -> np.ndarray:
    """First days of the moments at which offers are made; their windows end in time."""
    test = scene.world.experiment
    return np.arange(0, max(scene.calendar.days - test.window_days, 0), test.every_days)


def _campaign_ids(scene: Scene) -> list[str]:
    """Ids in the order of their codes: channel by channel, then the offers' moments."""
    found = [
        f"{channel.name}-{number:03d}"
        for channel in scene.world.messages.channels
        for number in range(-(-scene.calendar.days // channel.every_days))
    ]
    return [*found, *(f"offers-{number:03d}" for number in range(len(_moments(scene))))]


def _decision_ids(sent: Sent, batch: int) -> pa.Array:
    return arrow.numbered(f"d{batch}-", np.arange(int(sent.decided.sum())))


def campaigns(scene: Scene, people: People, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Who is to get what and when, were there no unsubscribing: the first columns of `Sent`, in its order."""
    world, test, n = scene.world, scene.world.experiment, len(people)
    parts: list[dict[str, np.ndarray]] = []
    before = 0
    for channel, about in enumerate(world.messages.channels):
        days = np.arange(0, scene.calendar.days, about.every_days)
        chosen = rng.random((n, len(days))) < world.messages.send_share
        person, number = np.nonzero(chosen & people.reached[:, [channel]] & (people.created[:, None] < days))
        tests = (channel == 0) & (number % test.variant_every == 0)
        variant, probability = _variants(scene, people, person, rng)
        parts.append(
            {
                "person": person,
                "channel": np.full(len(person), channel),
                "campaign": before + number,
                "offer": np.full(len(person), -1),
                "variant": np.where(tests, variant, -1 if channel else 0),
                "probability": np.where(tests, probability, np.nan),
                "decided": tests,
                "silent": np.zeros(len(person), bool),
                "day": days[number],
            }
        )
        before += len(days)
    moments = _moments(scene)
    person, number = np.nonzero(people.reached[:, [0]] & (people.created[:, None] < moments))
    offer, probability = _offers(scene, people, person, rng)
    parts.append(
        {
            "person": person,
            "channel": np.zeros(len(person), int),
            "campaign": before + number,
            "offer": offer,
            "variant": np.full(len(person), -1),
            "probability": probability,
            "decided": np.ones(len(person), bool),
            "silent": offer == len(world.offers),
            "day": moments[number],
        }
    )
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    hour = rng.uniform(world.messages.first_hour, world.messages.last_hour, len(rows["person"]))
    day = rows.pop("day")
    rows["sent"] = np.maximum(scene.calendar.at_hour(day, hour, people.country[rows["person"]]), day)
    inside = rows["sent"] < scene.calendar.days
    order = np.lexsort((rows["sent"], rows["channel"], rows["person"]))
    order = order[inside[order]]
    return {name: values[order] for name, values in rows.items()}


def _offers(
    scene: Scene, people: People, person: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The offer for each of `person`, by their arm, and its probability given the arm."""
    choices = len(scene.world.offers) + 1
    usual = scene.world.experiment.usual_probability
    favourite = people.tier[person] % (choices - 1)
    even = rng.integers(choices, size=len(person))
    other = (favourite + 1 + rng.integers(choices - 1, size=len(person))) % choices
    by_rule = np.where(rng.random(len(person)) < usual, favourite, other)
    arm = people.arm[person]
    offer = np.select([arm == RANDOM, arm == HOLDOUT], [even, np.full(len(person), choices - 1)], by_rule)
    ruled = np.where(offer == favourite, usual, (1 - usual) / (choices - 1))
    return offer, np.select([arm == RANDOM, arm == HOLDOUT], [1 / choices, 1.0], ruled)


def _variants(
    scene: Scene, people: People, person: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The wording for each of `person`, drawn evenly or by the usual rule (the first is the favourite)."""
    choices = len(scene.world.variants)
    usual = scene.world.experiment.usual_probability if choices > 1 else 1.0
    even = rng.integers(choices, size=len(person))
    other = 1 + rng.integers(max(choices - 1, 1), size=len(person))
    by_rule = np.where(rng.random(len(person)) < usual, 0, other)
    random = people.arm[person] == RANDOM
    variant = np.where(random, even, by_rule)
    ruled = np.where(variant == 0, usual, (1 - usual) / max(choices - 1, 1))
    return variant, np.where(random, 1 / choices, ruled)


def _when(happens: np.ndarray, at: np.ndarray, scene: Scene) -> np.ndarray:
    """`at` where it happens within the simulated days, else NaN."""
    return np.where(happens & (at < scene.calendar.days), at, np.nan)


def _first_until(at: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The earliest `at` of each row's group, inf where there is none; groups lie together."""
    first = np.flatnonzero(np.diff(group, prepend=-1) != 0)
    if not len(first):
        return at
    earliest = np.minimum.reduceat(np.where(np.isnan(at), np.inf, at), first)
    return np.repeat(earliest, np.diff(np.append(first, len(at))))
