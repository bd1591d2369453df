"""A tokenizer's text operators in TensorFlow, for SavedModel and TFLite."""

import hashlib

from keras_attn.extras import require

# The only TFLite operator that joins strings is ngrams, which joins every window of a given width.
WIDTH = 8
# For rows of unknown length: those of up to 8**6 strings.
LEVELS = 6


def tensorflow_text_ops(tokenizer, format="saved_model"):
    """Builds the text operators before and after a graph that contains `tokenizer`.

    The returned `tf.Module` has no variables and two methods, to be called from any `tf.function`:

    - `symbols(texts)` converts strings of shape `(B,)` to the input of `tokenizer.ids_of_symbols`, right-padded with at
      least one -1.
    - `strings(rows)` converts the output of `tokenizer.text_of_ids` to UTF-8 strings of shape `(B,)`.

    Those for `"tflite"` convert with `TFLITE_BUILTINS` and `allow_custom_ops`, and run in an `InterpreterWithCustomOps`
    that has the operators of tensorflow-text registered. They may crash in TensorFlow itself.

    Args:
        tokenizer: A `Tokenizer`.
        format: `"saved_model"` or `"tflite"`.

    Returns:
        A `tf.Module`.

    Raises:
        ImportError: If tensorflow-text is not installed.

    Example:

    >>> from keras_attn.text import CharacterTokenizer
    >>> from keras_attn.text.tensorflow_writer import tensorflow_text_ops
    >>> tokenizer = CharacterTokenizer("abc ")
    >>> module = tensorflow_text_ops(tokenizer)
    >>> ids = tokenizer.ids_of_symbols(module.symbols(["cab", "a b??"]))
    >>> ids.numpy()
    array([[6, 4, 5, 0],
           [4, 7, 5, 1]], dtype=int32)
    >>> module.strings(tokenizer.text_of_ids(ids)).numpy()
    array([b'cab', b'a b'], dtype=object)
    """
    import tensorflow as tf

    tf_text = require("tensorflow_text", "text")
    model = tokenizer.operator_model()

    class TextOps(tf.Module):
        def __init__(self):
            super().__init__(name="text_ops")
            if format == "tflite" or tokenizer.has_fast_symbols:
                self._sentencepiece = tf_text.FastSentencepieceTokenizer(model)
            else:
                # Models of the same name are shared by everything loaded in a process.
                name = f"sentencepiece_{hashlib.sha256(model).hexdigest()}"
                self._sentencepiece = tf_text.SentencepieceTokenizer(model, name=name)

        def symbols(self, texts):
            if format != "tflite":
                # In TFLite, `symbol_ids` replaces invalid UTF-8.
                texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
            symbols = self._sentencepiece.tokenize(texts).to_tensor(-1)
            return tf.pad(symbols, [[0, 0], [0, 1]], constant_values=-1)

        def strings(self, rows):
            table = tf.constant(tokenizer.text_of_ids.strings)
            if format == "tflite":
                return (_joined_by_ngrams if rows.shape[1] else _joined_by_groups)(table, rows)
            return tf.strings.reduce_join(tf.gather(table, rows), axis=1)

    return TextOps()


def _joined_by_ngrams(strings, rows):
    """Joins the strings of each row. The first string of the table is empty; `rows` is `(B, L)`, with a static `L`."""
    import tensorflow as tf

    tf_text = require("tensorflow_text", "text")
    # All levels have the same width. Indices are padded, because strings cannot be.
    length = rows.shape[1]
    levels = next(n for n in range(1, 99) if WIDTH**n >= length)
    width = next(w for w in range(1, WIDTH + 1) if w**levels >= length)
    # ngrams crashes on a matrix.
    joined = tf.gather(strings, tf.reshape(tf.pad(rows, [[0, 0], [0, width**levels - length]]), [-1]))
    for _ in range(levels):
        windows = tf_text.ngrams(joined, width, reduction_type=tf_text.Reduction.STRING_JOIN, string_separator="")
        joined = windows[::width]
    return joined


def _joined_by_groups(strings, rows):
    """The same for rows whose length is known only at run time, of up to `WIDTH**LEVELS` strings."""
    import tensorflow as tf

    tf_text = require("tensorflow_text", "text")
    size, length = tf.shape(rows)[0], tf.shape(rows)[1]
    # The last group of each row joins to the empty string, which stands for all that a level lacks.
    groups = (length + WIDTH - 1) // WIDTH + 1
    joined = tf.gather(strings, tf.reshape(tf.pad(rows, [[0, 0], [0, groups * WIDTH - length]]), [-1]))
    for _ in range(LEVELS):
        windows = tf_text.ngrams(joined, WIDTH, reduction_type=tf_text.Reduction.STRING_JOIN, string_separator="")
        fewer = (groups + WIDTH - 1) // WIDTH + 1
        columns = tf.minimum(tf.range(fewer * WIDTH), groups - 1)
        joined = tf.gather(windows[::WIDTH], tf.reshape(tf.range(size)[:, None] * groups + columns, [-1]))
        groups = fewer
    return tf.gather(joined, tf.range(size) * groups * WIDTH)
