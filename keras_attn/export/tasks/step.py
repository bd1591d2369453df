"""A decoding step of a language model with the names that Hugging Face's runtimes use."""

import json

import numpy as np

from keras_attn.export.tasks import random_inputs
from keras_attn.export.tasks.prompt_task import checked_tokenizer
from keras_attn.export.tasks.step_task import StepTask
from keras_attn.export.tensor_spec import TensorSpec
from keras_attn.ops.arrays import axis_size

# (batch, new tokens, tokens in the cache): a prompt, a step and several tokens at once.
SIZES = ((1, 5, 0), (3, 1, 7), (2, 3, 5))
# For models with fewer than eight positions.
SHORT = ((1, 2, 0), (3, 1, 1))


class Task(StepTask):
    """Exports prefill and step of a `LanguageModel` as one graph, for onnxruntime-genai and Optimum.

    In: `input_ids` int64 `(batch, sequence)`; `attention_mask` int64 `(batch, past + sequence)`, 0 at padding on either
    side of a text; `past_key_values.N.key` and `.value`, float32 `(batch, K, past, H)` of layer `N`, with an empty
    `past` for a prompt. Out: `logits` `(batch, sequence, V)`; `present.N.key` and `.value`, the cache after these
    tokens.
    The artefact is a folder with `model.onnx` and the settings that these runtimes read.

    Args:
        model: A `LanguageModel`.
        tokenizer: Tokenizer to write next to the model if the model has none; the artefact takes ids.

    Raises:
        ValueError: If the model is not a `LanguageModel`, or its layers have heads of different shapes.
    """

    name = "step"
    formats = ("onnx",)

    def __init__(self, model, tokenizer=None):
        from keras_attn.layers import MultiHeadAttention
        from keras_attn.models import LanguageModel

        if not isinstance(model, LanguageModel):
            raise ValueError(
                "`tasks` may hold 'step' only for a LanguageModel; use 'prefill' and 'decode' for others. "
                f"Received: {type(model).__name__}"
            )
        self.model = model
        self.known_tokenizer = checked_tokenizer(model, tokenizer or None)
        if foreign := [layer for layer in self._layers() if not isinstance(layer, MultiHeadAttention)]:
            raise ValueError(
                "`tasks` may hold 'step' only for a model whose `attention` is MultiHeadAttention, as its runtimes "
                f"know no other caches; use 'prefill' and 'decode'. Received: {type(foreign[0]).__name__}"
            )
        shapes = {(layer.num_heads, layer.num_kv_heads, layer.key_dim, layer.value_dim) for layer in self._layers()}
        if len(shapes) > 1:
            raise ValueError(
                "`tasks` may hold 'step' only for a model whose layers have heads of the same shape. "
                f"Received: (num_heads, num_kv_heads, key_dim, value_dim) of {sorted(shapes)}"
            )
        self.inputs = {
            "input_ids": TensorSpec(("batch", "sequence"), "int64"),
            "attention_mask": TensorSpec(("batch", "total_length"), "int64"),
        }
        self.output_axes = {"logits": ("batch", "sequence")}
        for i, layer in enumerate(self._layers()):
            for part, width in (("key", layer.key_dim), ("value", layer.value_dim)):
                axes = ("batch", layer.num_kv_heads, "past_length", width)
                self.inputs[f"past_key_values.{i}.{part}"] = TensorSpec(axes, "float32")
                self.output_axes[f"present.{i}.{part}"] = ("batch", layer.num_kv_heads, "total_length", width)

    def call(self, input_ids, attention_mask, **past):
        """Tensors by name, see above."""
        from keras import ops

        from keras_attn.ops.cache_slots import FAR
        from keras_attn.ops.target import current, tracing_for

        ids, mask = ops.cast(input_ids, "int32"), ops.cast(attention_mask, "int32")
        places = ops.maximum(ops.cumsum(mask, axis=1) - 1, 0)
        positions = places[:, axis_size(mask, 1) - axis_size(ids, 1) :]
        slot_positions = ops.where(ops.equal(mask, 1), places, FAR)
        layers = range(len(self._layers()))
        caches = tuple(tuple(past[f"past_key_values.{i}.{part}"] for part in ("key", "value")) for i in layers)
        x = self.model._embed(ids, positions)
        with tracing_for(current(), cache_writes="concat"):
            x, caches = self.model.decoder(
                x, positions=positions, caches=caches, slots=tuple((positions, slot_positions) for _ in layers)
            )
        named = zip(("key", "value"), zip(*caches, strict=True), strict=True)
        presents = {f"present.{i}.{part}": pair for part, pairs in named for i, pair in enumerate(pairs)}
        return {"logits": self.model.logits(x)[..., : self._vocabulary_size()], **presents}

    def cases(self, samples=None):
        """Prompts and steps, with left padding in the caches."""
        rng, limit = np.random.default_rng(0), random_inputs.vocabulary_size(self.model)
        cases = []
        for batch, new, known in SIZES if self._context_length() >= 8 else SHORT:
            sizes = {"batch": batch, "sequence": new, "past_length": known, "total_length": known + new}
            mask = np.ones((batch, known + new), "int64")
            mask[1:, : known // 2] = 0
            case = {
                name: rng.normal(size=[sizes.get(axis, axis) for axis in spec.axes]).astype("float32")
                for name, spec in self.inputs.items()
            }
            ids = rng.integers(1, limit, (batch, new)).astype("int64")
            cases.append({**case, "input_ids": ids, "attention_mask": mask})
        return cases

    def companions(self):
        """Text of the files next to the model, by name."""
        files = {"config.json": self._config(), "generation_config.json": self._generation_config()}
        files["genai_config.json"] = self._genai_config()
        files = {name: json.dumps(content, indent=2) + "\n" for name, content in files.items()}
        tokenizer = self.known_tokenizer
        return files if tokenizer is None else {**files, **tokenizer.hugging_face_files()}

    def _vocabulary_size(self):
        from keras_attn.generation.generative_model import vocabulary_size_of

        return vocabulary_size_of(self.model, self.known_tokenizer)

    def _layers(self):
        return [block.attention_layer() for block in self.model.decoder.layers]

    def _sizes(self):
        layer = self._layers()[0]
        return {
            "hidden_size": self.model.embedding.output_dim,
            "num_hidden_layers": len(self._layers()),
            "num_attention_heads": layer.num_heads,
            "num_key_value_heads": layer.num_kv_heads,
        }

    def _special_ids(self):
        from keras_attn.generation.prompts import settings_of

        ids = {
            "bos_token_id": getattr(self.known_tokenizer, "start_id", None),
            "pad_token_id": max(self.model.pad_id, 0),
        }
        if ends := settings_of(self.model, tokenizer=self.known_tokenizer).end_ids:
            ids["eos_token_id"] = ends[0] if len(ends) == 1 else list(ends)
        return {name: value for name, value in ids.items() if value is not None}

    def _context_length(self):
        """The number of positions of the model; if unlimited, a number above any prompt length."""
        return self.model.position.max_length or 2**17

    def _config(self):
        layer = self._layers()[0]
        return {
            # Optimum chooses the cache format by the model type; this is the common one.
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": self._vocabulary_size(),
            "head_dim": layer.key_dim,
            "max_position_embeddings": self._context_length(),
            **self._sizes(),
            **self._special_ids(),
        }

    def _generation_config(self):
        config = self.model.generation_config
        return {**({} if config is None else {"max_new_tokens": config.max_length}), **self._special_ids()}

    def _genai_config(self):
        sizes, context = self._sizes(), self._context_length()
        decoder = {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": "model.onnx",
            "head_size": self._layers()[0].key_dim,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
            **sizes,
        }
        ids = self._special_ids()
        # Without an end id the runtime ends at id 0; a model without one hardly ever generates padding.
        special = {"bos_token_id": 0, "eos_token_id": ids["pad_token_id"], **ids}
        model = {"type": "decoder", "context_length": context, "vocab_size": self._vocabulary_size(), **special}
        search = {"do_sample": False, "num_beams": 1, "max_length": context, "past_present_share_buffer": False}
        return {"model": {**model, "decoder": decoder}, "search": search}
