"""Files in which something is wrong: what is lost is said, what cannot be read is named, and nothing takes for ever."""

import bz2
import codecs
import csv
import gzip
import io
import lzma
import os
import signal
import warnings

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from keras_attn import lines
from keras_attn.training import CallableTokenizer, ParallelTextDataset, Records
from keras_attn.training.data import formats

FORMATS = {"a.txt": None, "a.tsv": [0], "a.csv": [0], "a.jsonl": ["t"], "a.tfrecord": ["t"], "a.tfrecord.gz": ["t"]}
TEXTS = [f"text {i:02d}" for i in range(6)]


def tfrecords():
    """The bytes of a file of `TEXTS`, and the size of one record."""
    with tf.io.TFRecordWriter("tmp.tfrecord") as writer:
        for text in TEXTS:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
            writer.write(tf.train.Example(features=tf.train.Features(feature={"t": feature})).SerializeToString())
    with open("tmp.tfrecord", "rb") as file:
        whole = file.read()
    os.remove("tmp.tfrecord")
    return whole, len(whole) // len(TEXTS)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, content):
    with open(name, "wb") as file:
        file.write(gzip.compress(content, 1) if name.endswith(".gz") else content)
    return name


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_tfrecord_file_ends_where_a_record_ends(name, on_error, in_folder):
    whole, size = tfrecords()
    for more in range(0, size, 1 if on_error == "raise" else 11):
        records = Records(write(name, whole[: 2 * size + more]), columns=["t"], on_error=on_error)
        if not more:
            assert list(records) == [(text,) for text in TEXTS[:2]]
            continue
        with pytest.raises(ValueError, match=rf"must be whole.* {name}, damaged after record"):
            list(records)
    assert len(list(Records(write(name, whole), columns=["t"]))) == len(TEXTS)
    assert list(Records(write(name, b""), columns=["t"])) == []


def test_what_follows_a_compressed_file_is_not_lost(in_folder):
    whole, size = tfrecords()
    content = gzip.compress(whole[: 4 * size]) + gzip.compress(whole[4 * size :])
    with open("a.tfrecord.gz", "wb") as file:
        file.write(content)
    try:
        assert len(list(Records("a.tfrecord.gz", columns=["t"]))) == len(TEXTS)
    except ValueError as error:
        assert "damaged after record" in str(error)  # noqa: PT017 - TensorFlow reads one part, and that is said


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_what_is_no_file_is_named(name, on_error, in_folder):
    records = Records(name, columns=FORMATS[name], on_error=on_error)
    with pytest.raises(FileNotFoundError, match=name):
        list(records)
    write("b.txt", b"x\n")
    with pytest.raises(FileNotFoundError, match=name):
        # Before the first of them is read, however long that takes.
        next(iter(Records(["b.txt", name], columns=None)))
    os.mkdir(name)
    with pytest.raises(ValueError, match=f"must be regular files.* {name}, a folder"):
        list(records)
    os.rmdir(name)
    os.mkfifo(name)
    signal.alarm(20)
    try:
        with pytest.raises(ValueError, match=f"must be regular files.* {name}, a pipe"):
            list(records)
    finally:
        signal.alarm(0)


@pytest.mark.parametrize("name", ["a.txt", "a.csv.gz", "a.jsonl"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_text_in_utf_16_is_refused(name, on_error, encoding, in_folder):
    records = Records(
        write(name, 'hello, "world"\nmore\n'.encode(encoding)), columns=["t"] * (name == "a.jsonl") or None
    )
    records.on_error = on_error
    with pytest.raises(ValueError, match=f"must be text in UTF-8. Received: {name}, which is UTF-16"):
        list(records)


@pytest.mark.parametrize("name", ["a.txt", "a.csv.bz2", "a.jsonl.gz"])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_text_that_is_compressed_in_another_way_says_so(name, compress, in_folder):
    with pytest.raises(ValueError, match=f"decompress others. Received: {name}, which is compressed"):
        list(Records(write(name, compress(b"1\n")), columns=["t"] * ("jsonl" in name) or None, on_error="skip"))


@pytest.mark.parametrize("name", ["a.txt.gz", "a.csv.gz", "a.tfrecord.gz"])
def test_a_compressed_file_that_lost_all_bytes(name, in_folder):
    open(name, "wb").close()
    with pytest.raises(ValueError, match=f"`files` must be whole. Received: {name}"):
        list(Records(name, columns=None if "txt" in name else ["t"]))


def test_characters_of_another_encoding_are_no_text(in_folder):
    """A file of which a part is in UTF-16."""
    name = write("a.txt", b"plain\n" * 20 + "hello\nworld\n".encode("utf-16-be") + b"\nplain\n")
    with pytest.warns(UserWarning, match=r"of 2\d records are malformed .* a text contains NUL characters"):
        assert set(Records(name, on_error="skip")) == {("plain",)}


@pytest.mark.parametrize(
    ("name", "content", "columns", "expected"),
    [
        ("a.csv", b"1,a\n\xef\xbb\xbf1,b\n2,c\n", [1, 0], [("a", "1"), ("b", "1"), ("c", "2")]),
        ("a.csv", b'1,"a\n\xef\xbb\xbfb"\n\xef\xbb\xbf"2",c\n', None, [("1", "a\n\ufeffb"), ("2", "c")]),
        ("a.tsv", b"1\ta\n\xef\xbb\xbf1\tb\n", [0], [("1",), ("1",)]),
        ("a.txt", b"x\r\n\xef\xbb\xbfy\xef\xbb\xbf\n", None, [("x",), ("y\ufeff",)]),
        ("a.jsonl", b'{"t": "x"}\n\xef\xbb\xbf{"t": "y"}\n', ["t"], [("x",), ("y",)]),
    ],
)
def test_a_mark_inside_a_file_is_no_text(name, content, columns, expected, in_folder):
    assert list(Records(write(name, codecs.BOM_UTF8 + content), columns=columns)) == expected


def test_lines_that_an_open_quote_swallows_are_counted(in_folder):
    name = write("a.csv", b'1,a\n2,"b\n3,c\n4,d\n5,"e"",\n6,f\n')
    with pytest.warns(
        UserWarning, match=rf"^1 of 3 records \(4 lines\) are malformed .* first at {name}:2: invalid CSV"
    ):
        assert list(Records(name, on_error="skip")) == [("1", "a"), ("6", "f")]
    name = write("b.csv", b'1,a\n2,"b\nc\n",d\n3,e\n4\n')
    with pytest.warns(UserWarning, match=r"^2 of 4 records \(4 lines\)"):
        assert list(Records(name, on_error="skip")) == [("1", "a"), ("3", "e")]
    # One quote too many, in the lines before the end of which another one says so.
    name = write("c.csv", b'1,a\n2,"b\n3,c\n4,d\n5,"e"\n6,f\n')
    with pytest.warns(UserWarning, match=rf"^1 of 3 records \(4 lines\) .* first at {name}:2: invalid CSV"):
        assert list(Records(name, on_error="skip")) == [("1", "a"), ("6", "f")]
    # Nobody knows in which of the lines.
    for content in (b'1,a\n2,"b\n3,c\n4,d\n5,"e"\n6,"f"\n', b'1,a\n2,"b\n3,c\n4,d\n5,e\n6,f\n'):
        with pytest.raises(ValueError, match="after line 1: a quote is never closed: lines 2 to 6, 5 in all, may be l"):
            list(Records(write("d.csv", content), on_error="skip"))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.csv", "a.jsonl.gz"])
def test_a_line_without_end_is_bounded(name, in_folder, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 10_000)
    write(name, b"short\n" + b"a" * 20_000)
    with pytest.raises(ValueError, match=f"at most 10,000 characters. Received: {name}, whose line 2 is longer"):
        list(Records(name, columns=["t"] if "json" in name else None, on_error="skip"))


def test_a_record_without_end_is_bounded(in_folder, monkeypatch):
    monkeypatch.setattr(formats, "LONGEST_LINE", 10_000)
    write("a.csv", b'x,y\nx,"' + b"abc,def\n" * 3000 + b'"\n')
    with pytest.raises(ValueError, match=r"damaged after line 1: a record of more than 10,000 char.* is a quote open"):
        list(Records("a.csv", on_error="skip"))


@pytest.mark.parametrize("name", ["a.txt.gz", "a.csv.gz", "a.tfrecord.gz"])
def test_a_compressed_bomb_is_bounded(name, in_folder, monkeypatch):
    monkeypatch.setattr(lines, "_MOST_EXPANDED", 2**16)
    content = b"a,b\n" * 2**17 if "tf" not in name else bytes(2**18)
    with pytest.raises(ValueError, match=f"not expand to more than 200 times their size.*Received: {name}, which"):
        list(Records(write(name, content), columns=FORMATS.get(name), on_error="skip"))
    monkeypatch.setattr(lines, "_MOST_EXPANDED", 2**20)
    if "tf" not in name:
        assert sum(1 for _ in Records(name)) == 2**17


CONTENT = b'1,a\n"2","b,\n""c"""\n3,\xc3\xa9\n'


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.integers(0, len(CONTENT)),
    cut=st.integers(0, 9),
    more=st.binary(max_size=9) | st.text(',"\n\r1').map(str.encode),
)
@example(start=0, cut=0, more=b"")
def test_damaged_csv_is_read_as_csv_or_refused(start, cut, more, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    content = CONTENT[:start] + more + CONTENT[start + cut :]
    path.write_bytes(content)
    try:
        got = list(Records(path))
    except ValueError:
        got = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kept = list(Records(path, on_error="skip"))
        except ValueError:
            kept = None
    if got is not None:
        text = content.decode().removeprefix("\ufeff")
        rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline="\n"), strict=True) if row]
        assert got == kept == rows
    elif kept is not None:
        assert len({len(row) for row in kept}) <= 1


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_tfrecords_lose_nothing_silently(data, in_folder):
    whole, size = tfrecords()
    start = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged, kept = whole[:start], start // size if start % size == 0 else None
    else:
        damaged, kept = (
            whole[:start] + bytes([whole[start] ^ data.draw(st.integers(1, 255))]) + whole[start + 1 :],
            None,
        )
    records = Records(write("a.tfrecord", damaged), columns=["t"], on_error="skip")
    if kept is None:
        with pytest.raises(ValueError, match="must be whole"):
            list(records)
    else:
        assert list(records) == [(text,) for text in TEXTS[:kept]]


def test_mapped_data_are_other_data():
    tokenizer = CallableTokenizer(lambda texts: [[ord(c) - 90 for c in text] for text in texts], start_id=2, end_id=3)
    data = ParallelTextDataset([("ab", "cd"), ("efg", "h")], tokenizer, batch_size=2)

    def mapped(change):
        def function(batch, number):
            inputs, labels = batch[0], batch[1]
            return {**inputs, "source_ids": change(inputs["source_ids"])}, labels

        return data.map(function).fingerprint

    def unseeded(ids):
        return ids + np.random.default_rng().integers(10**6, size=ids.shape)

    backwards = mapped(lambda ids: ids[:, ::-1])
    assert backwards == mapped(lambda ids: np.flip(ids, 1))
    assert mapped(unseeded) == mapped(unseeded)
    known = {backwards, mapped(lambda ids: ids), mapped(lambda ids: ids.astype("int64")), mapped(unseeded)}
    assert len(known | {data.fingerprint}) == 5
