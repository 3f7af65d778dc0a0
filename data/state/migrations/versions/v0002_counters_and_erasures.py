"""Counters of what is limited, and who was erased."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "counters",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), server_default="", nullable=False),
        sa.Column("used", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "about", "user_id"),
    )
    op.create_index("counters_by_user_id", "counters", ["user_id"], unique=False)
    op.create_table(
        "tombstones",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("keep_orders", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("person", name="tombstones_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "erasures",
        sa.Column("erasure_id", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("pending", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("receipt", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("erasure_id"),
    )
    op.create_index("erasures_by_person", "erasures", ["person"], unique=False)


def downgrade() -> None:
    """Undo."""
    op.drop_index("erasures_by_person", table_name="erasures")
    op.drop_table("erasures")
    op.drop_table("tombstones")
    op.drop_index("counters_by_user_id", table_name="counters")
    op.drop_table("counters")
