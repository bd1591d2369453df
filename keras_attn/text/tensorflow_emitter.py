"""A character tokenizer as TensorFlow ops, for SavedModel and TFLite."""

from keras_attn.extras import require
from keras_attn.text.character_tokenizer import CharacterTokenizer

# ngrams is the only op that joins strings in TFLite. It builds every window of the width asked for, so rows
# are joined in two steps; and in TensorFlow it crashes on inputs over 23 bytes: 5 characters have 20 at most.
CHUNK = 5


def tensorflow_tokenizer(tokenizer: CharacterTokenizer):
    """Builds the ops that encode and decode as `tokenizer` does.

    The returned `tf.Module` has no variables and two methods, to be called from any `tf.function`:

    - `encode(texts)`: strings of shape `(B,)` to int32 ids of shape `(B, L)`, where `L` is that of the
      longest text in the batch, and 1 where all are empty.
    - `decode(ids)`: ids of shape `(B, L)`, where `L` is static, to UTF-8 strings of shape `(B,)`.

    Both convert to TFLite with `TFLITE_BUILTINS` and `allow_custom_ops`, and run there in an
    `InterpreterWithCustomOps` that has tensorflow-text's ops registered.

    Args:
        tokenizer: A `CharacterTokenizer`.

    Returns:
        A `tf.Module`.

    Raises:
        ImportError: If tensorflow-text is not installed.

    Example:
        >>> module = tensorflow_tokenizer(CharacterTokenizer("abc "))
        >>> module.encode(["cab", "a b??"]).numpy()
        array([[6, 4, 5, 0],
               [4, 7, 5, 1]], dtype=int32)
        >>> module.decode([[6, 4, 5, 3, 5]]).numpy()
        array([b'cab'], dtype=object)
    """
    import tensorflow as tf

    tf_text = require("tensorflow_text", "text")

    def join(strings, width):
        windows = tf_text.ngrams(strings, width, reduction_type=tf_text.Reduction.STRING_JOIN, string_separator="")
        return windows[::width]

    class TensorFlowTokenizer(tf.Module):
        def __init__(self):
            super().__init__(name="tokenizer")
            self._sentencepiece = tf_text.FastSentencepieceTokenizer(model=tokenizer.sentencepiece_model())

        def encode(self, texts):
            ids = self._sentencepiece.tokenize(texts).to_tensor(tokenizer.pad_id)
            length = tf.shape(ids)[1]
            # A model may not take a matrix without columns.
            return tf.pad(ids, [[0, 0], [0, 1]], constant_values=tokenizer.pad_id)[:, : tf.maximum(length, 1)]

        def decode(self, ids):
            ids = tf.convert_to_tensor(ids)
            if ids.shape.rank != 2 or ids.shape[1] is None:
                raise ValueError(f"`ids` must be of shape (B, L), where L is static. Received: shape={ids.shape}")
            is_end = tf.cast(tf.equal(ids, tokenizer.end_id), tf.int32)
            ids = tf.where(tf.cumsum(is_end, axis=1) > 0, tf.cast(tokenizer.pad_id, ids.dtype), ids)
            chunks = max(1, -(-ids.shape[1] // CHUNK))
            padding = CHUNK * chunks - ids.shape[1]
            ids = tf.pad(ids, [[0, 0], [0, padding]], constant_values=tokenizer.pad_id)
            strings = tf.gather(tf.constant(tokenizer.id_to_character), tf.reshape(ids, [-1]))
            return join(join(strings, CHUNK), chunks)

    return TensorFlowTokenizer()
