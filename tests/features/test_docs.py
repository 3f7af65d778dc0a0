"""The page of features is that of the definitions."""

from __future__ import annotations

from features.docs import PAGE, page


def test_the_page_is_written_from_the_definitions():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m features.docs`"
