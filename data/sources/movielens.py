"""MovieLens in its usual layouts: who rated which film, and when."""

from __future__ import annotations

from data.errors import DataError
from data.sources.intake import Brought, Intake, moment, number_as_id, with_id

# The columns of each layout in one order: as Parquet, as CSV (ml-latest, ml-20m, ml-32m), as `::` files (ml-1m).
RATINGS = (
    ("user", "item", "rating", "timestamp"),
    ("userId", "movieId", "rating", "timestamp"),
    ("column0", "column1", "column2", "column3"),
)
FILMS = (
    ("item_id", "movie_title", "class"),
    ("movieId", "title", "genres"),
    ("column0", "column1", "column2"),
)
PEOPLE = (
    ("user_id", "age", "gender", "occupation", "zip_code"),
    ("column0", "column2", "column1", "column3", "column4"),
)


def movielens(intake: Intake) -> Brought:
    """A rating becomes the event `product_reviewed` with the stars as its value; films become items.

    Reads a folder with `ratings` and, if they are there, `items` or `movies`, and `users`. A film's category is its
    first genre; the column `genres` keeps all. Age, gender, occupation and zip code of people are kept as attributes.

    Source: Harper and Konstan 2015, https://doi.org/10.1145/2827872.
    """
    user, item, rating, timestamp = _read(intake, "raw_ratings", ("ratings",), RATINGS)
    intake.view(
        "parsed",
        f"""
        SELECT
            {number_as_id(user)} AS user_id,
            {number_as_id(item)} AS item_id,
            TRY_CAST({rating} AS DOUBLE) AS value,
            {moment(timestamp, form="epoch_seconds")} AS occurred_at,
            coalesce({rating}::VARCHAR, 'empty') AS rating_text,
            coalesce({timestamp}::VARCHAR, 'empty') AS time_text
        FROM raw_ratings
        """,
    )
    intake.view(
        "named",
        """
        SELECT *, CASE
            WHEN user_id IS NULL THEN 'no user'
            WHEN item_id IS NULL THEN 'no film'
            WHEN value IS NULL THEN 'rating is not a number: ' || rating_text
            WHEN occurred_at IS NULL THEN 'timestamp is not a time: ' || time_text
        END AS reason
        FROM parsed
        """,
    )
    events = """
        SELECT user_id, 'product_reviewed' AS event, occurred_at, item_id, value
        FROM named WHERE reason IS NULL
    """
    tables = {"events": intake.view("events", with_id("event_id", events))}
    if intake.path.is_dir() and intake.optional_file("items", "movies"):
        item, title, genres = _read(intake, "raw_items", ("items", "movies"), FILMS)
        films = f"""
            SELECT {number_as_id(item)} AS item_id, {title} AS name,
                nullif(regexp_split_to_array({genres}, '[| ]')[1], '(no') AS category, {genres} AS genres
            FROM raw_items
        """
        tables["items"] = intake.view("items", films)
    if intake.path.is_dir() and intake.optional_file("users"):
        user, *attributes = _read(intake, "raw_users", ("users",), PEOPLE)
        named = ", ".join(f"{theirs} AS {ours}" for theirs, ours in zip(attributes, PEOPLE[0][1:], strict=True))
        tables["users"] = intake.view("users", f"SELECT {number_as_id(user)} AS user_id, {named} FROM raw_users")
    return Brought(tables, refused=intake.view("refused", "SELECT * FROM named WHERE reason IS NOT NULL"))


def _read(intake: Intake, view: str, names: tuple[str, ...], layouts: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Open a file as a view; returns its columns in our order, as SQL."""
    file = intake.file(*names)
    found = intake.read(view, file, needs=()).columns
    for layout in layouts:
        if set(layout) <= set(found):
            return tuple(f'"{column}"' for column in layout)
    raise DataError(f"{file} has the columns {list(found)}; MovieLens has one of {layouts}. Is it the right file?")
