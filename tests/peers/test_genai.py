"""onnxruntime-genai generates from our files what the model generates."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_attn import GenerationConfig, LanguageModel
from keras_attn.export import export
from keras_attn.generation import BeamSearch
from keras_attn.text import BytePairTokenizer

pytest.importorskip("onnxruntime_genai", reason="make peers installs it")
transformers = pytest.importorskip("transformers", reason="needs transformers: make peers")

SIZES = {"num_layers": 2, "hidden_dim": 16, "num_heads": 4, "intermediate_dim": 32}
MODELS = {
    "rotary": lambda **kwargs: LanguageModel(41, **SIZES, num_kv_heads=2, **kwargs),
    "gpt2": lambda **kwargs: LanguageModel.gpt2(41, 64, **SIZES, **kwargs),
    "llama": lambda **kwargs: LanguageModel.llama(41, 2, 16, 4, 32, **kwargs),
}
PROMPTS = [[5, 9, 3, 30], [4], [11, 40, 2, 8, 8, 19, 33]]
LENGTH, END = 12, 7
# A process of its own: this runtime comes with an onnxruntime of its own.
SCRIPT = """
import json, sys
import numpy as np
import onnxruntime_genai as genai

folder, prompts, length, beams = sys.argv[1], *map(json.loads, sys.argv[2:])
model, rows = genai.Model(folder), []
for prompt in prompts:
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=len(prompt) + length, num_beams=beams)
    generator = genai.Generator(model, params)
    generator.append_tokens(np.array([prompt], "int32"))
    while not generator.is_done():
        generator.generate_next_token()
    rows.append([int(token) for token in generator.get_sequence(0)[len(prompt):]])
print(json.dumps(rows))
"""


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    keras.utils.set_random_seed(3)
    model = MODELS[request.param](generation_config=GenerationConfig(LENGTH, end_id=END))
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.3 * rng.standard_normal(w.shape) for w in model.get_weights()])
    folder = tmp_path_factory.mktemp(request.param)
    assert export(model, folder, "onnx", tasks="step").ok
    return model, folder / "step"


@pytest.mark.peer("LanguageModel", "onnxruntime_genai.Generator")
@pytest.mark.parametrize("beams", [1, 3])
def test_tokens(exported, beams):
    model, folder = exported
    command = [sys.executable, "-c", SCRIPT, folder, json.dumps(PROMPTS), LENGTH, beams]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    strategy = BeamSearch(beams) if beams > 1 else None
    config = GenerationConfig(LENGTH, end_id=END, strategy=strategy)
    for prompt, tokens in zip(PROMPTS, json.loads(run.stdout), strict=True):
        expected = model.generate(np.array([prompt]), config=config)[0].tolist()
        expected = expected[: expected.index(END) + 1] if END in expected else expected
        tokens = tokens[: tokens.index(END) + 1] if END in tokens else tokens
        assert tokens == expected


TEXTS = ["the old man and the sea", "it's a ship, at sea! 12", "née Ünïcode 日本 🙂", ""]
TOKENIZE = """
import json, sys
import onnxruntime_genai as genai

tokenizer = genai.Tokenizer(genai.Model(sys.argv[1]))
tokenizer.update_options(add_special_tokens="true")
rows = [[int(token) for token in tokenizer.encode(text)] for text in json.loads(sys.argv[2])]
print(json.dumps([rows, [tokenizer.decode(row) for row in rows]]))
"""


@pytest.mark.parametrize("add_start", [False, True])
def test_the_tokenizer_beside_the_step_model(add_start, tmp_path):
    pytest.importorskip("tokenizers", reason="it trains")
    tokenizer = BytePairTokenizer.train(TEXTS * 3, 300, add_start=add_start)
    config = GenerationConfig(LENGTH, start_id=tokenizer.start_id, end_id=tokenizer.end_id)
    model = LanguageModel(
        tokenizer.vocabulary_size, **SIZES, pad_id=tokenizer.pad_id, tokenizer=tokenizer, generation_config=config
    )
    assert export(model, tmp_path, "onnx", tasks="step").ok
    command = [sys.executable, "-c", TOKENIZE, str(tmp_path / "step"), json.dumps(TEXTS)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    rows, texts = json.loads(run.stdout)
    assert rows == [[*tokenizer.prefix, *row] for row in tokenizer.tokenize(TEXTS)]
    assert texts[:3] == TEXTS[:3]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "step")
    assert theirs(TEXTS)["input_ids"] == rows
