"""What the clients of all formats share."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from keras_attn.export.verification import clients, fresh_process

PATH = Path(clients.script("onnx")).with_name("client.py")
SPEC = importlib.util.spec_from_file_location("client", PATH)
client = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(client)


@pytest.mark.parametrize(
    ("text", "bytes_of_it"),
    [("é日", "é日".encode()), ("ab\udcff\udcfec", b"ab\xff\xfec"), ("\ud83da", b"\xed\xa0\xbda"), ("", b"")],
)
@pytest.mark.parametrize("dtype", [None, object])
def test_texts_that_are_not_utf8(text, bytes_of_it, dtype):
    expected = bytes_of_it.decode("utf-8", "replace")
    for value in (np.array([[text], ["b"]], dtype), np.array([[bytes_of_it], [b"b"]], dtype)):
        assert client.texts(value, decode=True).tolist() == [[expected], ["b"]]
    # A graph that takes bytes replaces what is wrong in them itself.
    assert client.texts(np.array([text, bytes_of_it], object)).tolist() == [expected, bytes_of_it]
    assert client.texts(np.array([bytes_of_it, b"b"], dtype)).tolist() == [bytes_of_it, b"b"]


def test_no_texts():
    with pytest.raises(ValueError, match=r"must hold at least one text. Received: shape \(0,\)"):
        client.texts(np.array([], "U1"))


def test_it_reads_protocol_buffers_as_this_process_does(monkeypatch):
    class StartedError(Exception):
        pass

    def start(command, environment, timeout, imported):
        assert environment["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] == "upb"
        raise StartedError

    monkeypatch.setattr(fresh_process, "run", start)
    # As onnxruntime_extensions leaves it.
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    with pytest.raises(StartedError):
        clients.run("saved_model", "artefact", {"encode": "cases.npz"})
