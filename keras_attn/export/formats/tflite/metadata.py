"""Files attached to a TensorFlow Lite file, readable by Android's `MetadataExtractor` and by ZIP tools."""

import io
import zipfile

from keras_attn.export.formats.tflite import graphs

_BUFFER = b"TFLITE_METADATA"
_IDENTIFIER = b"M001"
# Fields of the tables `ModelMetadata` and `AssociatedFile` in TensorFlow Lite's `metadata_schema.fbs`, and values of
# `AssociatedFileType`.
_MODEL_FIELDS, _NAME, _ASSOCIATED_FILES, _MIN_PARSER_VERSION = 8, 0, 6, 7
_FILE_FIELDS, _FILE_NAME, _FILE_TYPE = 5, 0, 2
_AXIS_LABELS, _VOCABULARY = 2, 5


def packed(content, files):
    """Attaches files to a `.tflite` file, as a ZIP archive after the model and a record in its metadata.

    Args:
        content: The bytes of the original file.
        files: Dict from name to text.

    Returns:
        Bytes.
    """
    schema, model = graphs.unpacked(content)
    entry = schema.MetadataT(name=_BUFFER, buffer=len(model.buffers))
    model.buffers.append(schema.BufferT(data=_record(files)))
    model.metadata = [*(model.metadata or ()), entry]
    file = io.BytesIO()
    file.write(graphs.packed(schema, model))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            # A fixed date, so that equal models give equal files.
            archive.writestr(zipfile.ZipInfo(name), text.encode(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def unpacked(path):
    """The attached texts by name."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def _record(files):
    import flatbuffers
    import numpy as np

    builder = flatbuffers.Builder()
    entries = []
    for name in files:
        kind, text = _AXIS_LABELS if name.startswith("labels") else _VOCABULARY, builder.CreateString(name)
        builder.StartObject(_FILE_FIELDS)
        builder.PrependUOffsetTRelativeSlot(_FILE_NAME, text, 0)
        builder.PrependInt8Slot(_FILE_TYPE, kind, 0)
        entries.append(builder.EndObject())
    builder.StartVector(4, len(entries), 4)
    for entry in reversed(entries):
        builder.PrependUOffsetTRelative(entry)
    entries = builder.EndVector()
    name, version = builder.CreateString("keras_attn"), builder.CreateString("1.0.0")
    builder.StartObject(_MODEL_FIELDS)
    builder.PrependUOffsetTRelativeSlot(_NAME, name, 0)
    builder.PrependUOffsetTRelativeSlot(_ASSOCIATED_FILES, entries, 0)
    builder.PrependUOffsetTRelativeSlot(_MIN_PARSER_VERSION, version, 0)
    builder.Finish(builder.EndObject(), file_identifier=_IDENTIFIER)
    return np.frombuffer(bytes(builder.Output()), "uint8")
