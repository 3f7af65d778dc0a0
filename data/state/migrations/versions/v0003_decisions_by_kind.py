"""What was sent to somebody is found among all that was decided for them."""

from alembic import op

revision = "v0003"
down_revision = "v0002"


def upgrade() -> None:
    """Apply."""
    op.drop_index("decisions_by_user_id", table_name="decisions")
    op.create_index("decisions_by_user_id_kind", "decisions", ["user_id", "kind"], unique=False)


def downgrade() -> None:
    """Undo."""
    op.drop_index("decisions_by_user_id_kind", table_name="decisions")
    op.create_index("decisions_by_user_id", "decisions", ["user_id"], unique=False)
