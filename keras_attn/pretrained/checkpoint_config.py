"""A `config.json` of which every entry must be understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# What does not change the numbers that a loaded model computes.
_HARMLESS = {
    # How the model is stored, found and run.
    *(
        "_name_or_path",
        "_commit_hash",
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_flash_attn_2_enabled",
        "attn_implementation",
        "use_return_dict",
        "architectures",
        "auto_map",
        "model_type",
        "torchscript",
        "transformers.js_config",
        "xla_device",
        "language",
        "name",
    ),
    # Of cross-encoders: what sentence-transformers does with the logits.
    *("sbert_ce_default_activation_function", "sentence_transformers"),
    # Left by the programs that trained the model.
    *("unsloth_fixed", "unsloth_version", "replacing_rate", "student_encoder_layers", "student_decoder_layers"),
    *("transformers_version", "torch_dtype", "dtype", "use_cache", "return_dict", "return_dict_in_generate"),
    *("output_hidden_states", "output_attentions", "output_past", "output_scores", "use_bfloat16", "pretraining_tp"),
    *("is_encoder_decoder", "is_decoder", "add_cross_attention", "cross_attention_hidden_size", "tie_encoder_decoder"),
    *("chunk_size_feed_forward", "gradient_checkpointing", "tf_legacy_loss", "task_specific_params", "finetuning_task"),
    # Initial values.
    *("initializer_range", "initializer_factor", "init_std", "initializer_cutoff_factor"),
    # Classes and tokens, of which the tensors and the tokenizer have the last word.
    *(
        "problem_type",
        "id2label",
        "label2id",
        "num_labels",
        "_num_labels",
        "pad_to_max_length",
        "cls_token_id",
        "mask_token_id",
        "tokenizer_class",
        "prefix",
        "bos_token_id",
        "eos_token_id",
    ),
    *("pad_token_id", "sep_token_id", "unk_token_id", "decoder_start_token_id"),
    # Settings of generation, see `generation_settings.py`.
    *("forced_bos_token_id", "forced_eos_token_id", "max_length", "min_length", "do_sample", "early_stopping"),
    *("num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p"),
    *("repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
    *("suppress_tokens", "begin_suppress_tokens", "remove_invalid_values", "exponential_decay_length_penalty"),
    *("num_return_sequences", "max_new_tokens", "min_new_tokens", "renormalize_logits", "sequence_bias", "min_p"),
    *("encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff", "top_h", "guidance_scale", "penalty_alpha"),
    # Dropout of parts that ours do not drop.
    *("classifier_dropout", "summary_first_dropout", "classifier_dropout_prob", "encoder_layerdrop", "layerdrop"),
    *("decoder_layerdrop", "classif_dropout", "classifier_dropout_rate"),
}
_REQUIRED = object()


class CheckpointConfig:
    """The entries of a `config.json`, which records those that were used.

    Args:
        entries: The contents of the file.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self.entries = dict(entries)
        self._used = set()

    def __call__(self, name: str, default: Any = _REQUIRED) -> Any:
        """The entry `name`, or `default` if it is missing.

        Raises:
            ValueError: If it is missing and has no default.
        """
        self._used.add(name)
        if name not in self.entries and default is _REQUIRED:
            raise ValueError(f"`config.json` must have an entry {name!r}. Received: {sorted(self.entries)}")
        return self.entries.get(name, default)

    def set_defaults(self, **values: Any) -> None:
        """Sets entries that are missing."""
        self.entries = values | self.entries

    def size(self, name: str, default: int | None = None, minimum: int = 1) -> int:
        """An integer of at least `minimum`. A missing or null entry is `default`."""
        value = self(name, default)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value < 2**31:
            rule = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
            raise ValueError(f"`config.json` must have {rule} as {name!r}. Received: {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        value = self(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e38:
            raise ValueError(f"`config.json` must have a finite number as {name!r}. Received: {value!r}")
        return value

    def only(self, name: str, *values: Any) -> None:
        """Raises a ValueError if an entry is present and not one of `values`, the only ones that are supported."""
        self._used.add(name)
        value = self.entries.get(name, values[0])
        if not any(value == x and isinstance(value, bool) == isinstance(x, bool) for x in values):
            allowed = " or ".join(repr(x) for x in values)
            raise ValueError(f"`config.json` may have {name!r} only as {allowed}. Received: {value!r}")

    def part(self, name: str) -> CheckpointConfig:
        """The entries of a nested config; the caller also calls its `check_all_used`."""
        value = self(name, {})
        if not isinstance(value, dict):
            raise ValueError(f"`config.json` must have an object as {name!r}. Received: {value!r}")
        return CheckpointConfig(value)

    def ignore(self, *names: str) -> None:
        """Marks entries as understood that change no number."""
        self._used.update(names)

    @property
    def labels(self) -> Sequence[str] | None:
        """The names of the classes in order, or None if `id2label` is missing or has holes."""
        names = self.entries.get("id2label")
        if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))):
            return None
        found = [names[str(i)] for i in range(len(names))]
        return found if len(set(found)) == len(found) and all(isinstance(x, str) for x in found) else None

    def check_all_used(self) -> None:
        """Raises a ValueError that lists entries which no one read, and which may change the model's outputs."""
        known = self._used | _HARMLESS
        unknown = {x: v for x, v in self.entries.items() if x not in known and not _is_empty(v)}
        if "quantization_config" in unknown:
            raise ValueError(
                "`config.json` must be of a model that is not quantised: the tensors of others are read only where "
                "keras_attn knows the method. Take the checkpoint from which it was quantised, or convert it with "
                "transformers: `model.dequantize()`, then `model.save_pretrained(folder)`. "
                f"Received: quantization_config={unknown['quantization_config']}"
            )
        if unknown:
            raise ValueError(
                "`config.json` has entries that keras_attn does not know for "
                f"{self.entries.get('model_type')!r}, and that may change the outputs. Remove them from a copy of the "
                f"file only if they change nothing. Received: {unknown}"
            )


def _is_empty(value):
    return value is None or (isinstance(value, str | list | dict) and not value)
