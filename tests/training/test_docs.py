"""The picture in the docs is the one that the code draws."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from training.docs import PICTURE, draw


def test_the_picture_of_the_split_is_up_to_date() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(), "run `make docs`"
    assert ET.fromstring(draw()).tag.endswith("svg")
