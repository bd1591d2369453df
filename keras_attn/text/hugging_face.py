"""Tokenizer files in Hugging Face's format."""

import json

from keras_attn.extras import require


def files(tokenizer, library_tokenizer, config):
    """Returns the contents of `tokenizer.json` and `tokenizer_config.json` by name.

    They add the same special ids to a text as `tokenizer`.

    Args:
        tokenizer: A `Tokenizer` with a `vocabulary`.
        library_tokenizer: The equivalent `tokenizers.Tokenizer`. It is modified in place.
        config: Dict, the contents of `tokenizer_config.json`. Each `*_token` string in it becomes a special token.
    """
    library = require("tokenizers", "text")
    specials = dict.fromkeys(v for name, v in config.items() if name.endswith("_token") and isinstance(v, str))
    library_tokenizer.add_special_tokens(list(specials))
    if around := [*tokenizer.prefix, *tokenizer.suffix]:
        before, after = ([tokenizer.vocabulary[i] for i in ids] for ids in (tokenizer.prefix, tokenizer.suffix))
        pairs = [(tokenizer.vocabulary[i], i) for i in dict.fromkeys(around)]
        library_tokenizer.post_processor = library.processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", *after, "$B:1", *(f"{piece}:1" for piece in after)],
            special_tokens=pairs,
        )
    if tokenizer.max_length is not None:
        config = {**config, "model_max_length": tokenizer.max_length}
    settings = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
    return {"tokenizer.json": library_tokenizer.to_str(), "tokenizer_config.json": settings}
