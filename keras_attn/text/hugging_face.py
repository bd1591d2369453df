"""The files in which Hugging Face keeps a tokenizer."""

import json

from keras_attn.extras import require


def files(tokenizer, library_tokenizer, config):
    """`tokenizer.json` and `tokenizer_config.json`, which add the same special ids to a text as `tokenizer`.

    Args:
        tokenizer: a `Tokenizer` with a `vocabulary`.
        library_tokenizer: the same as a `tokenizers.Tokenizer`, which is changed.
        config: dict, what `tokenizer_config.json` holds; each `*_token` in it that is a string is special.
    """
    library = require("tokenizers", "text")
    specials = dict.fromkeys(v for name, v in config.items() if name.endswith("_token") and isinstance(v, str))
    library_tokenizer.add_special_tokens(list(specials))
    if around := [*tokenizer.prefix, *tokenizer.suffix]:
        before, behind = ([tokenizer.vocabulary[i] for i in ids] for ids in (tokenizer.prefix, tokenizer.suffix))
        pairs = [(tokenizer.vocabulary[i], i) for i in dict.fromkeys(around)]
        library_tokenizer.post_processor = library.processors.TemplateProcessing(
            single=[*before, "$A", *behind],
            pair=[*before, "$A", *behind, "$B:1", *(f"{piece}:1" for piece in behind)],
            special_tokens=pairs,
        )
    if tokenizer.max_length is not None:
        config = {**config, "model_max_length": tokenizer.max_length}
    settings = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
    return {"tokenizer.json": library_tokenizer.to_str(), "tokenizer_config.json": settings}
