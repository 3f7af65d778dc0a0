"""A key's requests in a minute hold for all workers on one state, and nobody waits for a state that is away."""

import asyncio

import httpx
import pytest

from data.errors import StateUnavailableError
from data.state import State
from data.state.counting import used
from serving.client import Client, ServiceError
from serving.limits import AWAY_SECONDS, KEPT_MINUTES, LEASES, REQUESTS, RateLimit, TooManyError

START = 29_912_340 * 60.0


class World:
    """Workers on one state with one clock; counts what they ask of the state."""

    def __init__(self, url="sqlite://"):
        self.state = State.open(url)
        self.now = START
        self.commits = 0
        self.away = False

    def worker(self, per_minute):
        return RateLimit(per_minute, self.commit, clock=lambda: self.now)

    async def commit(self, job):
        self.commits += 1
        if self.away:
            raise StateUnavailableError("gone")
        return await asyncio.to_thread(self.store, job)

    def store(self, job):
        with self.state.writing() as connection:
            return job(connection)

    @property
    def counted(self):
        with self.state.reading() as connection:
            return used(connection, [REQUESTS])


async def passed(*limits, times, key="8f"):
    """How many of so many requests to each worker, all at once, were let through."""
    asked = (limit.count(key) for _ in range(times) for limit in limits)
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(one) for one in told} <= {type(None), TooManyError}
    return told.count(None)


def test_two_workers_let_through_the_limit_and_no_more(state_url):
    world = World(state_url)

    async def ask():
        workers = world.worker(230), world.worker(230)
        return [await passed(*workers, times=10) for _ in range(15)]

    assert sum(asyncio.run(ask())) == 230
    assert [(counted.about, amount) for counted, amount in world.counted.items()] == [("29912340 8f", 230)]
    world.state.close()


def test_each_minute_and_each_key_have_their_own():
    world = World()

    async def ask():
        limit = world.worker(3)
        yield await passed(limit, times=5)
        yield await passed(limit, times=5, key="9a")
        world.now += 59.9
        yield await passed(limit, times=5)
        world.now += 0.1
        yield await passed(limit, times=5)

    async def counts():
        return [count async for count in ask()]

    assert asyncio.run(counts()) == [3, 3, 0, 3]


def test_the_state_is_asked_for_every_fiftieth_and_once_when_it_is_used_up():
    world = World()

    async def ask():
        limit = world.worker(1000)
        for _ in range(1000):
            await limit.count("8f")
        asked = world.commits
        await passed(limit, times=100)
        return asked, world.commits

    assert asyncio.run(ask()) == (LEASES, LEASES + 1)


def test_what_is_left_below_a_lease_is_used_up_too():
    world = World()

    async def ask():
        idle, busy = world.worker(100), world.worker(100)
        await idle.count("8f")
        return await passed(busy, times=150)

    assert asyncio.run(ask()) == 98, "all but the lease of two that the idle worker has"


def test_those_who_wait_share_one_lease_and_one_who_gives_up_does_not_take_it_along():
    world = World()

    async def ask():
        limit = world.worker(1000)
        first = asyncio.create_task(limit.count("8f"))
        others = [asyncio.create_task(limit.count("8f")) for _ in range(9)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(*others)

    asyncio.run(ask())
    assert world.commits == 1


def test_a_flood_asks_the_state_a_few_times_only():
    world = World()
    assert asyncio.run(passed(world.worker(100), times=2000)) == 100
    assert world.commits < 10


def test_old_counts_are_removed():
    world = World()

    async def ask():
        limit = world.worker(3)
        for _ in range(KEPT_MINUTES + 40):
            await limit.count("8f")
            world.now += 60

    asyncio.run(ask())
    assert len(world.counted) == KEPT_MINUTES + 1


def test_while_the_state_is_away_requests_pass_and_then_are_counted_again():
    world = World()

    async def ask():
        limit = world.worker(100)
        world.away = True
        through = [await passed(limit, times=1) for _ in range(200)]
        asked, world.away = world.commits, False
        world.now += AWAY_SECONDS
        return sum(through), asked, await passed(limit, times=200)

    assert asyncio.run(ask()) == (200, 1, 100)


def test_a_fault_of_the_state_is_no_endless_loop():
    async def broken(job):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(RateLimit(1, broken, clock=lambda: START).count("8f"))


@pytest.fixture
def limited(workspace):
    """The copy of the shop, with 20 requests a minute in its settings."""
    text = workspace.settings_file.read_text(encoding="utf-8")
    text = text.replace("[serving]\n", "[serving]\nrequests_per_minute = 20\n")
    workspace.settings_file.write_text(text, encoding="utf-8")


def test_over_http_two_services_keep_it_and_tell_in_the_one_shape_when_to_come_again(limited, client, monkeypatch):
    body, service = {"item_id": "i1"}, client.app.state.service
    with type(client)(client.workspace) as other:
        other.ready()
        for one in (service, other.app.state.service):
            monkeypatch.setattr(one.limit, "_clock", lambda: START + 47.5)
        asked = [
            one.post("/v1/similar", body, key=client.key).status_code for _ in range(11) for one in (client, other)
        ]
    assert asked == [200] * 20 + [429] * 2
    assert client.post("/v1/similar", body, key="attune_0_0").status_code == 401, "who has no key uses up nothing"
    assert client.post("/v1/similar", body, key=client.admin).status_code == 200, "each key has its own"
    refused = client.post("/v1/events", {})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "13")
    error = refused.json()["error"]
    assert (error["code"], error["details"]) == ("too_many", [])
    assert "may make 20 requests a minute (serving.requests_per_minute); try again in 13 seconds" in error["message"]
    assert 'attune_requests_total{route="/v1/events",status="429"} 1.0' in client.get("/metrics").text
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(("seconds", "waits"), [("8", [8]), ("13", [])])
def test_the_client_waits_for_the_next_minute_if_it_is_near(seconds, waits, monkeypatch):
    waited = []
    monkeypatch.setattr("serving.client.time.sleep", waited.append)
    error = {"error": {"code": "too_many", "message": "Try again.", "details": []}}
    answer = httpx.Response(429, headers={"Retry-After": seconds}, json=error)
    service = httpx.MockTransport(lambda request: answer)  # noqa: ARG005
    with Client(retries=1, transport=service) as client, pytest.raises(ServiceError) as caught:
        client.similar(item_id="i1")
    assert (caught.value.status, caught.value.code, waited) == (429, "too_many", waits)
