"""Dates in the formats of 48 locales, with their ISO 8601 form. Needs babel, which includes the CLDR."""

import re
import zlib

import numpy as np
from babel import Locale
from babel.dates import DateTimeFormat

LOCALES = (  # noqa: SIM905
    "am ar_EG bg bn cs de el en en_GB es fa fi fr gu he hi hu hy id it ja ka kk km kn ko lo lv ml mr my nl "
    "pa pl pt_BR ro ru si sv sw ta te th tr uk vi zh zh_Hant"
).split()
SKELETONS = ("yMd", "yMMMd", "yMMMMd", "yMEd", "yMMMEd", "yMMMMEEEEd")
# babel formats dates with ASCII digits and has no table of the others.
ZEROS = {"latn": "0", "arab": "٠", "arabext": "۰", "beng": "০", "deva": "०", "mymr": "၀"}

DATES = np.arange("1900-01-01", "2100-01-01", dtype="datetime64[D]")
MONTHS = DATES.astype("datetime64[M]")
TWO_DIGIT_YEARS = tuple(DATES.searchsorted(np.array(["1950-01-01", "2050-01-01"], DATES.dtype)))
# The properties of a date that a part of a text can depend on, with a date for each value of each property.
YEAR, MONTH, DAY, WEEKDAY, NOTHING = range(5)
VALUES = np.zeros((len(DATES), 5), "int32")
VALUES[:, YEAR], VALUES[:, MONTH] = np.divmod((MONTHS - MONTHS[0]).astype(int), 12)
VALUES[:, DAY] = (DATES - MONTHS).astype(int)
VALUES[:, WEEKDAY] = DATES.astype(int) % 7
SAMPLES = [DATES[np.unique(column, return_index=True)[1]].tolist() for column in VALUES.T]
PIECES = 6  # tag, weekday, day, month, year, era
COLUMNS = {"y": YEAR, "M": MONTH, "L": MONTH, "d": DAY, "E": WEEKDAY, "c": WEEKDAY, "G": NOTHING}


class DateCorpus:
    """Generates pairs of a localised date and the same date in ISO 8601.

    A form is a CLDR pattern of a locale (short, medium, long, full, `SKELETONS`) in the locale's digits. An input is
    the tag and the date: `"fr mardi 5 mars 2019"` for `"2019-03-05"`. Years are 1900 to 2099, two-digit years 1950 to
    2049. A hash selects one in twenty (locale, date) pairs for evaluation, so that a held-out date is unseen in every
    form of its locale.

    Args:
        locales: CLDR locale tags.

    Attributes:
        locales: Tuple of the tags.
        forms: The number of forms.
        characters: A string of all characters of inputs and outputs, sorted.
        longest_input: Length of the longest input, including its tag.

    Raises:
        ValueError: If `locales` is empty, or the digits of a locale are not in `ZEROS`.
    """

    def __init__(self, locales=LOCALES):
        self.locales = tuple(locales)
        if not self.locales:
            raise ValueError(f"`locales` must have at least one locale. Received: locales={locales!r}")
        forms = [_forms(tag) for tag in self.locales]
        self._form_counts = np.array([len(of_locale) for of_locale in forms])
        self._first_form = self._form_counts.cumsum() - self._form_counts
        self._form_locales = np.arange(len(self.locales)).repeat(self._form_counts)
        spans, columns, pieces = zip(*(form for of_locale in forms for form in of_locale), strict=True)
        self.forms = len(pieces)
        self._spans, self._columns = np.array(spans), np.array(columns, "int32")
        # `_texts[base + value]` is the text of a piece.
        sizes = np.array([[len(texts) for texts in form] for form in pieces])
        self._bases = (sizes.cumsum() - sizes.ravel()).reshape(sizes.shape).astype("int32")
        self._texts = [text for form in pieces for texts in form for text in texts]
        self._lengths = np.array([len(text) for text in self._texts], "int32")
        self._starts = self._lengths.cumsum(dtype="int32") - self._lengths
        self.longest_input = max(sum(max(map(len, texts)) for texts in form) for form in pieces)
        self.characters = "".join(sorted(set("0123456789-").union(*self._texts)))
        held_out = np.concatenate([_is_held_out(tag) for tag in self.locales])
        self._training, self._held_out = self._split(~held_out), self._split(held_out)

    def texts(self, locale, date):
        """The inputs for a `datetime.date` in each form of a locale that can express it, a list of str."""
        number = (np.datetime64(date) - DATES[0]).astype(int)
        able = (self._spans[:, 0] <= number) & (number < self._spans[:, 1])
        forms = (able & (self._form_locales == self.locales.index(locale))).nonzero()[0]
        return self._write(forms, np.full(len(forms), number))

    def held_out(self, per_locale, seed):
        """Evaluation pairs, `per_locale` of each locale, with a random form and a random held-out date.

        Returns:
            A list of `(locale, input, iso)`, such as `("en", "en 3/5/19", "2019-03-05")`.
        """
        locales = np.arange(len(self.locales)).repeat(per_locale)
        forms, dates = self._draw(np.random.default_rng(seed), locales, self._held_out)
        texts, isos = self._write(forms, dates), DATES[dates].astype(str).tolist()
        return [(self.locales[i], text, iso) for i, text, iso in zip(locales, texts, isos, strict=True)]

    def batches(self, tokenizer, batch_size, seed, boundaries=(16, 24, 32, 44)):
        """Endless training batches with a random locale, form and date, never a held-out pair.

        The inputs of a batch have the same padded length, so that there are only `len(boundaries)` shapes.

        Args:
            tokenizer: A `keras_attn.text.CharacterTokenizer` with all `characters`.
            batch_size: Number of rows per batch, B.
            seed: Integer random seed.
            boundaries: Padded lengths of the inputs, S, increasing.

        Returns:
            A generator of `({"source_ids": (B, S), "target_ids": (B, 11)}, labels (B, 11))`, all int32:
            `target_ids` is the start id and the ISO date, `labels` the ISO date and the end id.

        Raises:
            ValueError: If `boundaries` do not reach the longest input, or `tokenizer` lacks a character.
        """
        boundaries = np.array(boundaries)
        if (np.diff(boundaries) <= 0).any() or boundaries[-1] < self.longest_input:
            raise ValueError(
                f"`boundaries` must increase to at least {self.longest_input}. Received: boundaries={boundaries}"
            )
        if missing := set(self.characters).difference(tokenizer.characters):
            raise ValueError(f"`tokenizer` must have every character. Received: none for {sorted(missing)}")
        return self._batches(tokenizer, batch_size, np.random.default_rng(seed), boundaries)

    def _batches(self, tokenizer, batch_size, rng, boundaries):
        text_ids = tokenizer.encode(["".join(self._texts)])[0]
        iso_ids = tokenizer.encode(DATES.astype(str).tolist())
        iso_ids = np.insert(iso_ids, [0, 10], [tokenizer.start_id, tokenizer.end_id], axis=1)
        waiting = [np.empty((0, 1 + PIECES), "int32") for _ in boundaries]
        while True:
            locales = rng.integers(len(self.locales), size=max(4096, 2 * batch_size))
            forms, dates = self._draw(rng, locales, self._training)
            pieces = self._pieces(forms, dates)
            drawn = np.column_stack([dates.astype("int32"), pieces])
            buckets = boundaries.searchsorted(self._lengths[pieces].sum(axis=1))
            batches = []
            for bucket, boundary in enumerate(boundaries):
                rows = np.concatenate([waiting[bucket], drawn[buckets == bucket]])
                full = len(rows) // batch_size * batch_size
                waiting[bucket] = rows[full:]
                sources = self._join(rows[:full, 1:], text_ids, boundary, tokenizer.pad_id)
                sources = sources.reshape(-1, batch_size, boundary)
                targets = iso_ids[rows[:full, 0]].reshape(-1, batch_size, iso_ids.shape[1])
                for source, target in zip(sources, targets, strict=True):
                    batches.append(({"source_ids": source, "target_ids": target[:, :-1]}, target[:, 1:]))
            yield from (batches[i] for i in rng.permutation(len(batches)))

    def _split(self, chosen):
        """The (locale, date) pairs of the split, numbered by row, and the range of each form."""
        pairs = chosen.nonzero()[0]
        return pairs, *pairs.searchsorted(self._form_locales * len(DATES) + self._spans.T)

    def _draw(self, rng, locales, split):
        """A random form of each locale, and a random date of the split that it can express."""
        pairs, first, end = split
        forms = self._first_form[locales] + rng.integers(self._form_counts[locales])
        return forms, pairs[rng.integers(first[forms], end[forms])] % len(DATES)

    def _pieces(self, forms, dates):
        """Indices into `_texts`, shape (B, pieces)."""
        return self._bases[forms] + VALUES[dates[:, None], self._columns[forms]]

    def _write(self, forms, dates):
        return ["".join(self._texts[i] for i in pieces) for pieces in self._pieces(forms, dates)]

    def _join(self, pieces, text_ids, width, pad_id):
        """Concatenates the ids of each row's pieces, and pads the rows to `width`."""
        lengths = self._lengths[pieces]
        counts = lengths.ravel()
        shifts = self._starts[pieces].ravel() - (counts.cumsum(dtype="int32") - counts)
        padded = np.full((len(pieces), width), pad_id, "int32")
        filled = np.arange(width) < lengths.sum(axis=1, keepdims=True)
        padded[filled] = text_ids[np.arange(counts.sum()) + shifts.repeat(counts)]
        return padded


def _is_held_out(tag):
    """The held-out dates of a locale, independent of the machine and of the other locales."""
    keys = DATES.astype("int64").view("uint64") ^ np.uint64(zlib.crc32(tag.encode()) << 32)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):  # splitmix64
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    return keys % np.uint64(20) == 0


def _forms(tag):
    """The forms of a locale: the dates that they can express, and each piece's column and text for every value."""
    locale = Locale.parse(tag)
    if locale.default_numbering_system not in ZEROS:
        raise ValueError(f"`locales` must have digits in {sorted(ZEROS)}. Received: {tag!r}")
    digits = {ord("0") + i: ord(ZEROS[locale.default_numbering_system]) + i for i in range(10)}
    patterns = [locale.date_formats[width] for width in ("short", "medium", "long", "full")]
    patterns += [locale.datetime_skeletons[s] for s in SKELETONS if s in locale.datetime_skeletons]
    forms = []
    for template in dict.fromkeys(pattern.format for pattern in patterns):
        prefix, *parts = re.split(r"%\((\w+)\)s", f"{tag} {template}")
        columns, pieces = [NOTHING], [[prefix]]
        for field, literal in zip(parts[::2], parts[1::2], strict=True):
            columns.append(COLUMNS[field[0]])
            texts = [DateTimeFormat(date, locale)[field] for date in SAMPLES[columns[-1]]]
            pieces.append([(t.translate(digits) if t.isdecimal() else t) + literal for t in texts])
        span = TWO_DIGIT_YEARS if "yy" in parts else (0, len(DATES))
        unused = PIECES - len(pieces)
        forms.append((span, columns + [NOTHING] * unused, pieces + [[""]] * unused))
    return forms
