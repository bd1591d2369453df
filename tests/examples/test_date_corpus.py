"""The texts against babel's own formatting, and the split that keeps evaluation dates out of training."""

import datetime
import itertools
import re

import numpy as np
import pytest

pytest.importorskip("babel", reason="the date corpus is made from the CLDR data in babel")

from babel import Locale
from babel.dates import format_date

from examples.date_corpus import LOCALES, SKELETONS, DateCorpus
from keras_attn.text import CharacterTokenizer

BOUNDARIES = (16, 24, 32, 44)
NATIVE_DIGITS = {
    "ar_EG": "٠١٢٣٤٥٦٧٨٩",
    "bn": "০১২৩৪৫৬৭৮৯",
    "fa": "۰۱۲۳۴۵۶۷۸۹",
    "mr": "०१२३४५६७८९",
    "my": "၀၁၂၃၄၅၆၇၈၉",
}


@pytest.fixture(scope="module")
def corpus():
    return DateCorpus()


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return CharacterTokenizer(corpus.characters)


@pytest.fixture(scope="module")
def two_locales():
    return DateCorpus(["de", "ko"])


@pytest.fixture(scope="module")
def held_out_dates(two_locales):
    """Enough draws to meet nearly every held-out date of the two locales."""
    return {(tag, iso) for tag, _, iso in two_locales.held_out(50_000, seed=0)}


def days(first, count, step=1):
    return [first + datetime.timedelta(i) for i in range(0, count, step)]


def babel_texts(tag, date):
    """What babel itself writes, one text for each distinct pattern."""
    locale = Locale.parse(tag)
    skeletons = locale.datetime_skeletons
    patterns = {locale.date_formats[width].pattern for width in ("short", "medium", "long", "full")}
    patterns |= {skeletons[skeleton].pattern for skeleton in SKELETONS if skeleton in skeletons}
    if not 1950 <= date.year <= 2049:
        patterns = {pattern for pattern in patterns if "yy" not in pattern}
    digits = str.maketrans("0123456789", NATIVE_DIGITS.get(tag, "0123456789"))
    return sorted(f"{tag} {format_date(date, pattern, locale).translate(digits)}" for pattern in patterns)


def test_every_form_equals_babel(corpus):
    dates = days(datetime.date(1900, 1, 1), 73049, step=2741) + days(datetime.date(2019, 1, 1), 365, step=13)
    dates += [datetime.date(year, 12, 31) for year in (1949, 1950, 2049, 2050, 2099)]
    dates += [datetime.date(2000, 2, 29)]
    assert {date.month for date in dates} == set(range(1, 13))
    assert {date.weekday() for date in dates} == set(range(7))
    for tag, date in itertools.product(LOCALES, dates):
        assert sorted(corpus.texts(tag, date)) == babel_texts(tag, date)
    assert corpus.forms == sum(len(babel_texts(tag, dates[-1])) for tag in LOCALES)


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("fr", "fr mardi 5 mars 2019"),
        ("de", "de 5. März 2019"),
        ("ja", "ja 2019年3月5日"),
        ("ar_EG", "ar_EG ٥ مارس ٢٠١٩"),
        ("en", "en 3/5/19"),
        ("fi", "fi tiistai 5. maaliskuuta 2019"),  # the stand-alone weekday, the inflected month
        ("cs", "cs 5. března 2019"),
    ],
)
def test_known_texts(corpus, tag, text):
    assert text in corpus.texts(tag, datetime.date(2019, 3, 5))


def test_a_text_means_one_date_and_fits(corpus):
    dates = days(datetime.date(2010, 1, 1), 730)  # day, month and two-digit year are all plausible as each other
    meanings = {}
    for tag, date in itertools.product(LOCALES, dates):
        for text in corpus.texts(tag, date):
            assert meanings.setdefault(text, date) == date
    assert max(map(len, meanings)) == corpus.longest_input <= BOUNDARIES[-1]
    assert set().union(*meanings) <= set(corpus.characters)


def test_characters_are_sorted_and_distinct(corpus):
    assert list(corpus.characters) == sorted(set(corpus.characters))
    assert set("0123456789-") | set("".join(LOCALES)) <= set(corpus.characters)


def test_batches_decode_to_what_babel_writes(corpus, tokenizer):
    tags = set()
    for inputs, labels in itertools.islice(corpus.batches(tokenizer, 50, seed=0), 40):
        source, target = inputs["source_ids"], inputs["target_ids"]
        assert source.dtype == target.dtype == labels.dtype == np.int32
        assert source.shape[1] in BOUNDARIES
        assert (source.shape[0], target.shape, labels.shape) == (50, (50, 11), (50, 11))
        assert (target[:, 0] == tokenizer.start_id).all()
        assert (labels[:, -1] == tokenizer.end_id).all()
        np.testing.assert_array_equal(target[:, 1:], labels[:, :-1])
        texts = tokenizer.decode(source)
        np.testing.assert_array_equal(tokenizer.encode(texts, length=source.shape[1]), source)
        for text, iso in zip(texts, tokenizer.decode(labels), strict=True):
            tag = text.split(" ")[0]
            assert text in babel_texts(tag, datetime.date.fromisoformat(iso))
            tags.add(tag)
    assert tags == set(LOCALES)


def test_batches_use_the_smallest_boundary(corpus, tokenizer):
    seen = set()
    for inputs, _ in itertools.islice(corpus.batches(tokenizer, 7, seed=1), 2000):
        width = inputs["source_ids"].shape[1]
        shorter = max((boundary for boundary in BOUNDARIES if boundary < width), default=0)
        assert (inputs["source_ids"][:, shorter] != tokenizer.pad_id).all()
        seen.add(width)
    assert seen == set(BOUNDARIES)


def test_training_never_meets_a_held_out_date(two_locales, held_out_dates):
    tokenizer = CharacterTokenizer(two_locales.characters)
    trained = set()
    for inputs, labels in itertools.islice(two_locales.batches(tokenizer, 1000, seed=0), 150):
        tags = tokenizer.decode(inputs["source_ids"][:, :2])
        trained.update(zip(tags, tokenizer.decode(labels), strict=True))
    assert len(trained) > 80_000
    assert not trained & held_out_dates


def test_one_date_in_twenty_is_held_out(two_locales, held_out_dates):
    for tag in two_locales.locales:
        count = sum(held_tag == tag for held_tag, _ in held_out_dates)
        assert count / 73049 == pytest.approx(0.05, abs=0.003)


def test_the_split_is_the_same_in_every_process_and_corpus(corpus, held_out_dates):
    german = sorted(iso for tag, iso in held_out_dates if tag == "de" and iso[:4] == "2019")
    assert german[:4] == ["2019-01-23", "2019-02-07", "2019-04-05", "2019-04-14"]
    pairs = {(tag, iso) for tag, _, iso in corpus.held_out(100, seed=3) if tag in ("de", "ko")}
    assert pairs <= held_out_dates


def test_held_out_pairs_are_those_of_babel(corpus):
    pairs = corpus.held_out(9, seed=0)
    assert [tag for tag, _, _ in pairs] == [tag for tag in LOCALES for _ in range(9)]
    for tag, text, iso in pairs:
        assert text in babel_texts(tag, datetime.date.fromisoformat(iso))


def test_two_digit_years_mean_1950_to_2049(corpus):
    assert "en 12/31/49" not in corpus.texts("en", datetime.date(1949, 12, 31))
    pairs = DateCorpus(["en"]).held_out(10_000, seed=0)
    years = {int(iso[:4]) for _, text, iso in pairs if re.search(r"/\d\d$", text)}
    assert years == set(range(1950, 2050))
    assert {int(iso[:4]) for _, _, iso in pairs} == set(range(1900, 2100))


def test_a_seed_fixes_the_draws(corpus, tokenizer):
    def first(seed):
        return [
            np.concatenate([inputs["source_ids"].ravel(), labels.ravel()])
            for inputs, labels in itertools.islice(corpus.batches(tokenizer, 8, seed), 5)
        ]

    assert all(map(np.array_equal, first(0), first(0)))
    assert not all(map(np.array_equal, first(0), first(1)))
    assert corpus.held_out(2, seed=0) == corpus.held_out(2, seed=0) != corpus.held_out(2, seed=1)


@pytest.mark.parametrize("boundaries", [(16, 24, 32), (24, 16, 44)])
def test_boundaries_must_rise_to_the_longest_input(corpus, tokenizer, boundaries):
    with pytest.raises(ValueError, match=r"`boundaries`.*Received"):
        corpus.batches(tokenizer, 8, seed=0, boundaries=boundaries)


def test_a_tokenizer_must_know_every_character(corpus):
    with pytest.raises(ValueError, match=r"`tokenizer`.*Received"):
        corpus.batches(CharacterTokenizer(corpus.characters[1:]), 8, seed=0)


@pytest.mark.parametrize("locales", [(), ("dz",)])
def test_locales_must_be_some_whose_digits_are_known(locales):
    with pytest.raises(ValueError, match=r"`locales`.*Received"):
        DateCorpus(locales)
