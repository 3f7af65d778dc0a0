"""How Alembic reaches the state: over the connection that `State.open` hands it, in that connection's transaction."""

from typing import Any, Literal

from alembic import context

from data.state.schema import Utc, metadata


def _render(kind: str, item: Any, autogen: Any) -> str | Literal[False]:  # noqa: ARG001
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Utc) else False


config = getattr(context, "config", None)
if config is not None:  # None when something other than Alembic imports this file, such as the doctest collector
    context.configure(
        connection=config.attributes["connection"], target_metadata=metadata, render_item=_render, compare_type=True
    )
    context.run_migrations()
