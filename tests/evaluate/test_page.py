"""The listening page is whole in one file: players, pictures, notes, texts, and nothing fetched from elsewhere."""

import re

import pytest

from musiclm.evaluate.page import piano_roll, write_page
from tests.arrange.toy_corpus import make_corpus
from tests.arrange.toy_scores import beat, piece, scale


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return write_page(make_corpus(folder / "corpus", 3), folder / "page.html", 4).read_text()


def test_it_has_players_spectrograms_and_piano_rolls(page):
    assert page.count("<audio controls src='data:audio/ogg;base64,") == page.count("<article>") == 4
    assert page.count("src='data:image/png;base64,") == page.count("<svg ") == 4
    assert "violin (melody)" in page and "surf rock" in page and "CC0" in page


def test_it_is_self_contained_and_escaped(page):
    assert not re.search(r"https?:|//[a-z]|<script|<link|url\(", re.sub(r"base64,[^']+", "", page))
    assert "&lt;tune 0&gt;" in page and "<tune" not in page


def test_held_out_wording_is_shown_apart(page):
    assert "in held-out wording" in page  # of the one track that is not trained on


def test_a_piano_roll_holds_the_notes_of_its_window():
    score = piece(scale(step=1.0), beat())
    whole, half = piano_roll(score, 0.0), piano_roll(score, 10.0)
    assert whole.count("<rect") == 20 + 40 and half.count("<rect") == 20 + 40
    assert "drum kit (drums)" in whole
    assert piano_roll(piece(), 0.0).count("<rect") == 0
