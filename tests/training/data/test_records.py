"""Records of every format, and what is wrong with some."""

import csv
import gzip
import io
import itertools
import json
import struct
import warnings

import pytest
import tensorflow as tf

from keras_attn.training import LabelledTextDataset, Records

PAIRS = [("ein Hund", "a dog"), ("zwei, drei", 'two, "three"'), ("früh\u2028auf", "up early"), ("日本", "Japan")]
CSV = (
    'de,note,en\r\nein Hund,1,a dog\r\n"zwei, drei",2,"two, ""three"""\r\nfrüh\u2028auf,3,up early\r\n日本,4,Japan\r\n'
)
TSV = "\n".join(f"{en}\t-\t{de}" for de, en in PAIRS)  # no line feed behind the last
JSONL = "".join(json.dumps({"id": i, "translation": {"de": d, "en": e}}) + "\n" for i, (d, e) in enumerate(PAIRS))
FILES = {
    "pairs.csv": (CSV, ["de", "en"]),
    "pairs.tsv": (TSV, [2, 0]),
    "pairs.jsonl": (JSONL, ["translation.de", "translation.en"]),
}


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def example(**features):
    def feature(value):
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        values = value if isinstance(value, list) else [value]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    features = tf.train.Features(feature={name: feature(value) for name, value in features.items()})
    return tf.train.Example(features=features).SerializeToString()


def write_tfrecord(path, records):
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else None) as writer:
        for record in records:
            writer.write(record)
    return path


@pytest.mark.parametrize("compressed", ["", ".gz"])
@pytest.mark.parametrize("name", FILES)
def test_tables_and_json(name, compressed, tmp_path):
    content, columns = FILES[name]
    assert list(Records(write(tmp_path / (name + compressed), content), columns=columns)) == PAIRS


@pytest.mark.parametrize("compressed", ["", ".gz"])
def test_parallel_text_of_several_files_a_side(compressed, tmp_path):
    sides = list(zip(*PAIRS, strict=True))
    cuts = [(0, 1, 4), (0, 3, 4)]
    files = [
        [
            write(tmp_path / f"{side}.{start}.{language}{compressed}", "\r\n".join(lines[start:end]) + "\n")
            for start, end in itertools.pairwise(cut)
        ]
        for side, (lines, cut, language) in enumerate(zip(sides, cuts, ("de", "en"), strict=True))
    ]
    assert list(Records(*files)) == PAIRS


@pytest.mark.parametrize("name", ["pairs.tfrecord", "pairs.tfrecords.gz"])
def test_tfrecord(name, tmp_path):
    records = [example(text=de.encode(), label=i, other=b"x") for i, (de, _) in enumerate(PAIRS)]
    path = write_tfrecord(tmp_path / name, records)
    assert list(Records(path, columns=("label", "text"))) == [(str(i), de) for i, (de, _) in enumerate(PAIRS)]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = write(tmp_path / "a.csv", b"\xef\xbb\xbfde,en\nx,y\n")
    assert list(Records(path, columns=["de"])) == [("x",)]


def test_columns_by_number_need_no_header(tmp_path):
    path = write(tmp_path / "a.csv", '"3","a\nb","c"\n"1","d","e"\n')
    assert list(Records(path, columns=[1, 0])) == [("a\nb", "3"), ("d", "1")]
    assert list(Records(path)) == [("3", "a\nb", "c"), ("1", "d", "e")]


def test_format_overrides_the_name(tmp_path):
    path = write(tmp_path / "a.data", "x\ty\n")
    assert list(Records(path)) == [("x\ty",)]
    assert list(Records(path, format="tsv")) == [("x", "y")]


# File name, content, columns, and for each malformed record its line and a part of the reason.
MALFORMED = {
    "columns.csv": (b"a,b\n1,2\n3\n4,5,6\n\n7,8\n", ["a"], {3: "expected 2 columns, got 1", 4: "got 3"}),
    "quote.csv": (b'1,2\n"3"4,5\n6,"7\n8"\n9\n', [1], {2: "invalid CSV", 5: "got 1"}),
    "bytes.txt": (b"caf\xc3\xa9\ncaf\xe9\nok\n", None, {2: "not UTF-8"}),
    "bytes.csv": (b'"x\ny",caf\xe9\nok,ok\n', None, {1: "not UTF-8"}),
    "bytes.tsv": (b"a\tb\nx\tcaf\xe9\n", None, {2: "not UTF-8"}),
    "json.jsonl": (
        b'{"t": "x"}\n{"t": \n["t"]\n{"u": "x"}\n{"t": null}\n{"t": "\\ud800"}\n{"t": 5}\n\n' + b"[" * 99_999 + b"\n",
        ["t"],
        {
            2: "invalid JSON",
            3: "got list",
            4: "no field 't'",
            5: "got NoneType",
            6: "not UTF-8",
            8: "invalid JSON",
            9: "invalid JSON",
        },
    ),
    "empty.txt": (b"a\n\n \t\nb\n", None, {2: "empty", 3: "empty"}),
    "empty.tsv": (b"a\tb\n\tb\na\t\n", None, {2: "empty", 3: "empty"}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_records_are_named_and_counted(name, tmp_path):
    content, columns, expected = MALFORMED[name]
    path = write(tmp_path / name, content)
    line, reason = next(iter(expected.items()))
    with pytest.raises(ValueError, match=f"well-formed.* {path}:{line}: .*{reason}"):
        list(Records(path, columns=columns))
    with pytest.warns(UserWarning, match=f"^{len(expected)} of ") as caught:
        kept = list(Records(path, columns=columns, on_error="skip"))
    assert kept
    assert f"first at {path}:{line}: " in str(caught[0].message)
    # A data set says the same of each.
    with pytest.warns(UserWarning, match="malformed"):
        data = LabelledTextDataset(_labelled(path, columns), len_ids, batch_size=1)
    assert (data.summary.malformed, data.summary.examples) == (len(expected), len(kept))
    assert data.summary.records == len(kept) + len(expected)
    for (line, reason), problem in zip(expected.items(), data.summary.problems, strict=True):
        assert problem.startswith(f"{path}:{line}: ")
        assert reason in problem


def len_ids(texts):
    return [[len(text)] for text in texts]


def _labelled(path, columns):
    """Records of a file whose first value is text and label."""

    class Twice(Records):
        def located(self, log):
            return ((place, (fields[0], fields[0])) for place, fields in super().located(log))

    return Twice(path, columns=columns, on_error="skip")


def test_malformed_tfrecords(tmp_path):
    good = [example(t=b"x", n=i) for i in range(3)]
    bad = [b"\xff\xff", example(t=b"x"), example(t=[b"x", b"y"], n=1), example(t=b"caf\xe9", n=1), example(t=5, n=1)]
    path = write_tfrecord(tmp_path / "a.tfrecord", [good[0], *bad[:2], good[1], *bad[2:], good[2]])
    with pytest.raises(ValueError, match=f"{path}:2: not an Example"):
        list(Records(path, columns=["t", "n"]))
    with pytest.warns(UserWarning, match="4 of 8 .*:3: feature 'n' .* got 0; .*:5: .* got 2; .*:6: .* not UTF-8"):
        kept = list(Records(path, columns=["t", "n"], on_error="skip"))
    # An integer is a text where a text is asked for, as in JSON.
    assert kept == [("x", "0"), ("x", "1"), ("5", "1"), ("x", "2")]


LONG = "\n".join(f'line {i}, of ""one"" document' for i in range(9000))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_value_is_as_long_as_it_is(on_error, tmp_path):
    limit = csv.field_size_limit()
    path = write(tmp_path / "a.csv", f'text,label\n"{LONG}",a\nshort,b\n')
    expected = [(LONG.replace('""', '"'), "a"), ("short", "b")]
    assert len(LONG) > 200_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(Records(path, columns=["text", "label"], on_error=on_error)) == expected
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        # A quote that is not doubled: its lines are one malformed record, up to where all quotes are closed.
        ('"he said "no" and\nwent, away",1\nnext,2\n', [("next", "2")]),
        ('"a\nb"c,1\nd,2\n', [("d", "2")]),
        ('"a"b,"c\nd,1\ne",2\nf,3\n', [("f", "3")]),
        ("a\rb,1\nc,2\n", [("c", "2")]),
        # Only at the beginning of a value does a quote open.
        ('"a"x,5" b\nd,3\n', [("d", "3")]),
        ('"a\nb"x,5" b,"c\n",5"\nd,3\n', [("d", "3")]),
    ],
)
def test_the_middle_of_a_malformed_record_is_no_record(content, kept, tmp_path):
    path = write(tmp_path / "a.csv", content)
    with pytest.warns(UserWarning, match="^1 of 2 .*a.csv:1: invalid CSV"):
        assert list(Records(path, on_error="skip")) == kept


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_files_are_read_as_the_csv_module_reads_them(name, tmp_path):
    content = '\r\ntext,label\r\n\r\n"a\r\nb",1\r\n\n"c\n\nd\re",2\n\r\nlast,"3"'
    rows = [row for row in csv.reader(io.StringIO(content, newline="")) if row]
    path = write(tmp_path / name, content)
    assert list(Records(path)) == [tuple(row) for row in rows]
    assert list(Records(path, columns=["label", "text"])) == [("1", "a\r\nb"), ("2", "c\n\nd\re"), ("3", "last")]


def test_two_columns_of_one_name_are_refused(tmp_path):
    for name, comma in (("a.csv", ","), ("a.tsv", "\t")):
        path = write(tmp_path / name, "text,label,text\na,1,b\n".replace(",", comma))
        with pytest.raises(
            ValueError, match=r"names that occur once in .*: rename repeated ones in its .* Received: \['text'\]"
        ):
            list(Records(path, columns=["text", "label"], on_error="skip"))
        assert list(Records(path, columns=["label"])) == [("1",)]
        assert list(Records(path, columns=[2, 1]))[1] == ("b", "1")
    path = write(tmp_path / "a.jsonl", '{"text": "a", "text": "b", "label": {"id": 1, "id": 2}, "other": "c"}\n')
    for column in ("text", "label.id"):
        with pytest.raises(ValueError, match=f"a.jsonl:1: field '{column}' must occur once"):
            list(Records(path, columns=[column]))
    assert list(Records(path, columns=["other"])) == [("c",)]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_unequal_line_counts_raise_and_name_both(on_error, tmp_path):
    de = write(tmp_path / "a.de", "1\n2\n3\n4\n5\n")
    en = write(tmp_path / "a.en.gz", "1\n2\n3\n")
    with pytest.raises(ValueError, match=f"5 in {de}, 3 in {en}"):
        list(Records(de, en, on_error=on_error))
    with pytest.raises(ValueError, match=f"3 in {en}, 5 in {de}"):
        list(Records(en, de, on_error=on_error))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_malformed_line_leaves_out_its_whole_pair(on_error, tmp_path):
    de, en = write(tmp_path / "de", "1\n\n3\n4\n"), write(tmp_path / "en", b"1\n2\n\xff\n4\n")
    records = Records(de, en, on_error=on_error)
    if on_error == "raise":
        with pytest.raises(ValueError, match=f"{de}:2: a text is empty"):
            list(records)
        return
    with pytest.warns(UserWarning, match=f"2 of 4 .*{de}:2: .*; {en}:3: "):
        assert list(records) == [("1", "1"), ("4", "4")]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_damaged_files_raise(on_error, tmp_path):
    whole = gzip.compress("".join(f"line {i} {i * 7919 % 104729}\n" for i in range(5000)).encode())
    for content in (whole[:-20], whole[: len(whole) // 2], whole[:2000] + b"\x00" * 50 + whole[2050:], b"no gzip"):
        with pytest.raises(ValueError, match=r"must be whole.*a\.gz, damaged after line"):
            list(Records(write_raw(tmp_path / "a.gz", content), on_error=on_error))
    with pytest.raises(ValueError, match="after line 2: a quote is never closed"):
        list(Records(write(tmp_path / "a.csv", 'a,b\nc,d\ne,"f\ng,h\ni,j\n'), on_error=on_error))
    path = write_tfrecord(tmp_path / "a.tfrecord", [example(t=b"x") for _ in range(7)])
    content = bytearray(path.read_bytes())
    size = len(content) // 7
    for damage in (content[:-3], content[: 5 * size + 12 + 1] + b"?" + content[5 * size + 14 :]):
        write_raw(path, bytes(damage))
        with pytest.raises(ValueError, match=r"must be whole.*damaged after record"):
            list(Records(path, columns=["t"], on_error=on_error))
    assert struct.unpack("<Q", content[:8])[0] == size - 16


def write_raw(path, content):
    path.write_bytes(content)
    return path


def test_labels_that_are_not_given_are_malformed(tmp_path):
    path = write(tmp_path / "a.tsv", "x\tgood\ny\tbad\nz\tugly\n")
    with pytest.raises(ValueError, match=f"{path}:3: label 'ugly' is not one of"):
        LabelledTextDataset(Records(path), len_ids, labels=["good", "bad"], batch_size=1)
    with pytest.warns(UserWarning, match="1 of 3"):
        data = LabelledTextDataset(Records(path, on_error="skip"), len_ids, labels=["good", "bad"], batch_size=1)
    assert data.summary.problems == (f"{path}:3: label 'ugly' is not one of ['good', 'bad']",)
    assert (data.summary.records, data.summary.examples) == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((), {}, "`files` must be at least one"),
        (([],), {}, "`files` must be at least one"),
        (("a.csv",), {"columns": "text"}, "`columns` must be a list"),
        (("a.csv",), {"columns": ["text", 1]}, "`columns` must be a list"),
        (("a.csv",), {"format": "parquet"}, "`format` must be one of"),
        (("a.csv",), {"on_error": "ignore"}, "`on_error` must be one of"),
    ],
)
def test_bad_arguments(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        Records(*arguments, **settings)


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("a.txt", ["text"], "`columns` must be None for plain text"),
        ("a.csv", ["text"], r"must be among \['a', 'b'\] of .*Received: \['text'\]"),
        ("a.csv", [0, 2], r"must be among \[0, 1\] of .*Received: \[2\]"),
        ("a.jsonl", None, "`columns` must be the names of the fields"),
        ("a.tfrecord", [0], "`columns` must be the names of the fields"),
    ],
)
def test_columns_that_do_not_fit_the_file(name, columns, message, tmp_path):
    path = write(tmp_path / name, "a,b\n1,2\n")
    with pytest.raises(ValueError, match=message):
        list(Records(path, columns=columns, on_error="skip"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        list(Records(tmp_path / "absent.txt"))
