"""A small shop and workspaces for the tests of the features room."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from data.tables import Tables
from data.workspace import Workspace

CUTOFF = datetime(2026, 3, 1, tzinfo=UTC)


def days_ago(days: float) -> datetime:
    return CUTOFF - timedelta(days=days)


@pytest.fixture
def cutoff() -> datetime:
    return CUTOFF


@pytest.fixture(name="ago")
def _ago():
    return days_ago


@pytest.fixture
def events():
    """Rows of (user, event, days before the cutoff, further columns) as an `events` frame."""

    def frame(*rows):
        return pd.DataFrame([
            {"event_id": str(number), "user_id": user, "event": event, "occurred_at": days_ago(days), **more}
            for number, (user, event, days, more) in enumerate(rows)
        ])  # fmt: skip

    return frame


@pytest.fixture
def orders():
    """Rows of (user, order, item, quantity, price, days before the cutoff, further columns) as an `orders` frame."""

    def frame(*rows):
        return pd.DataFrame([
            {"order_id": order, "line_id": str(number), "user_id": user, "item_id": item, "quantity": float(quantity),
             "unit_price": price, "discount": 0.0, "occurred_at": days_ago(days), **more}
            for number, (user, order, item, quantity, price, days, more) in enumerate(rows)
        ])  # fmt: skip

    return frame


@pytest.fixture
def messages():
    """Rows of (user, channel, days before the cutoff it was sent, further columns) as a `messages` frame."""

    def frame(*rows):
        times = dict.fromkeys(("opened_at", "clicked_at", "unsubscribed_at", "bounced_at"), pd.NaT)
        found = pd.DataFrame([
            {"message_id": str(number), "user_id": user, "channel": channel, "sent_at": days_ago(days),
             "machine_opened": False, **times, **more}
            for number, (user, channel, days, more) in enumerate(rows)
        ])  # fmt: skip
        return found.assign(**{name: pd.to_datetime(found[name], utc=True) for name in times})

    return frame


@pytest.fixture
def frames(events, orders, messages):
    """Every table that features read, a few rows each."""
    return {
        "users": pd.DataFrame({
            "user_id": ["ann", "ann", "bob"],
            "updated_at": [days_ago(300), days_ago(5), days_ago(100)],
            "created_at": [days_ago(300), days_ago(300), days_ago(100)],
            "country": ["DE", "AT", "DE"],
            "channels": [["email"], ["email", "sms"], ["email"]],
        }),
        "identities": pd.DataFrame({"anonymous_id": ["a1"], "user_id": ["bob"], "at": [days_ago(3)]}),
        "items": pd.DataFrame({
            "item_id": ["tea", "cup"], "category": ["drinks", "kitchen"], "brand": ["leaf", "clay"],
            "price": [4.0, 9.0],
        }),
        "events": events(
            ("ann", "product_viewed", 20, {"item_id": "tea", "session_id": "s1", "dwell_seconds": 10.5}),
            ("ann", "product_added", 2, {"item_id": "cup", "session_id": "s2", "dwell_seconds": 3.0}),
            ("ann", "product_viewed", 1.5, {"item_id": "cup", "session_id": "s2", "dwell_seconds": 4.25}),
            (None, "product_viewed", 40, {"item_id": "tea", "session_id": "s3", "anonymous_id": "a1"}),
        ),
        "orders": orders(
            ("ann", "o1", "tea", 2, 4.0, 60, {}),
            ("ann", "o2", "cup", 1, 9.0, 10, {"discount": 1.0}),
            ("bob", "o3", "tea", 1, 4.0, 30, {}),
        ),
        "messages": messages(
            ("ann", "email", 8, {"opened_at": days_ago(7.5), "clicked_at": days_ago(7)}),
            ("bob", "sms", 4, {}),
        ),
    }  # fmt: skip


@pytest.fixture
def small_shop(frames):
    """The same, opened."""
    return Tables.from_frames(**frames)


@pytest.fixture
def workspace_of(tmp_path):
    """A workspace whose tables count as checked."""

    def make(**frames):
        workspace = Workspace.create(tmp_path / "shop")
        for name, frame in frames.items():
            frame.to_parquet(workspace.tables_dir / f"{name}.parquet")
        mark_checked(workspace)
        return workspace

    def mark_checked(workspace):
        shutil.copytree(workspace.tables_dir, workspace.checked_dir, dirs_exist_ok=True)
        (workspace.checked_dir / "fingerprint.txt").write_text(workspace.fingerprint())

    make.mark_checked = mark_checked
    return make
