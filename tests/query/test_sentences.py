"""Text models in the layout of sentence-transformers: tiny ones made here, against the library's own arithmetic."""

import json

import numpy as np
import pytest
import torch

from marssep.corpus.made import make_corpus
from marssep.corpus.store import Corpus
from marssep.errors import ModelError, UsageError
from marssep.query import load_encoder, new_encoder
from marssep.query.pretrained.sentences import SentencesPart
from marssep.query.weights import is_fetched
from marssep.train.align_run import run_alignment

from .conftest import save_tokenizer

TEXTS = ["dog", "bellender Hund", "une flûte traversière", "小提琴"]
POOLING = "sentence_transformers.models.Pooling"
DENSE = "sentence_transformers.models.Dense"


def make_sentences(folder, *, kind="bert", pooling=None, dense=False):
    import transformers

    folder.mkdir(parents=True)
    common = {"vocab_size": save_tokenizer(folder), "pad_token_id": 1, "max_position_embeddings": 40}
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    if kind == "distilbert":
        small = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16}
    names = {"bert": "Bert", "xlm-roberta": "XLMRoberta", "distilbert": "DistilBert"}
    torch.manual_seed(3)
    config = getattr(transformers, f"{names[kind]}Config")(**common, **small)
    getattr(transformers, f"{names[kind]}Model")(config).save_pretrained(folder)
    modules = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]
    if pooling is not None:
        modules.append({"idx": 1, "path": "1_Pooling", "type": POOLING})
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if dense:
        from safetensors.torch import save_file

        modules.append({"idx": 2, "path": "2_Dense", "type": DENSE})
        (folder / "2_Dense").mkdir()
        stated = {"in_features": 16, "out_features": 6, "bias": True}
        stated["activation_function"] = "torch.nn.modules.activation.Tanh"
        (folder / "2_Dense" / "config.json").write_text(json.dumps(stated))
        layer = torch.nn.Linear(16, 6)
        state = {f"linear.{name}": value.detach() for name, value in layer.state_dict().items()}
        save_file(state, folder / "2_Dense" / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    return folder


def one_by_one(folder, text, *, mark):
    """Without padding: the library on a single text, cut at 12 tokens."""
    import transformers
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    ids = ids if len(ids) <= 12 else [*ids[:11], ids[-1]]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return states[0] if mark else states.mean(0)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "distilbert"])
@pytest.mark.parametrize("mark", [False, True])
def test_a_batch_is_what_the_library_gives_one_by_one(kind, mark, tmp_path):
    pooling = {"pooling_mode_mean_tokens": not mark, "pooling_mode_cls_token": mark}
    folder = make_sentences(tmp_path / "model", kind=kind, pooling=pooling)
    made = SentencesPart(str(folder)).text(TEXTS)
    wanted = torch.stack([one_by_one(folder, text, mark=mark) for text in TEXTS])
    torch.testing.assert_close(made, torch.nn.functional.normalize(wanted, dim=-1), atol=2e-5, rtol=0)


def test_a_dense_layer_is_applied(tmp_path):
    from safetensors.torch import load_file

    folder = make_sentences(tmp_path / "model", pooling={"pooling_mode": "mean"}, dense=True)
    part = SentencesPart(str(folder))
    state = load_file(folder / "2_Dense" / "model.safetensors")
    pooled = one_by_one(folder, "dog", mark=False)
    wanted = torch.tanh(state["linear.weight"] @ pooled + state["linear.bias"])
    torch.testing.assert_close(part.text(["dog"])[0], wanted / wanted.norm(), atol=2e-5, rtol=0)
    assert part.width == 6
    assert part.digest != SentencesPart(str(make_sentences(tmp_path / "plain"))).digest


def test_what_is_not_known_is_refused(tmp_path):
    folder = make_sentences(tmp_path / "max", pooling={"pooling_mode_max_tokens": True})
    with pytest.raises(ModelError, match="max_tokens"):
        SentencesPart(str(folder))
    folder = make_sentences(tmp_path / "relu", dense=True)
    path = folder / "2_Dense" / "config.json"
    path.write_text(path.read_text().replace("Tanh", "ReLU"))
    with pytest.raises(ModelError, match="ReLU"):
        SentencesPart(str(folder))
    folder = make_sentences(tmp_path / "half", dense=True)
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="dense layer"):
        SentencesPart(str(folder))


def test_our_trunks_as_a_part_are_named(tmp_path):
    with pytest.raises(UsageError, match="open=trunks"):
        new_encoder("transformers:open=somewhere")


@pytest.mark.skipif(not is_fetched("open"), reason="weights are not fetched")
def test_heads_for_other_words_are_trained_with_our_trunks(tmp_path):
    folder = make_sentences(tmp_path / "model", kind="xlm-roberta")
    make_corpus(tmp_path / "corpus", per_split=2)
    name = f"transformers:sentences={folder},open=trunks"
    run = run_alignment(
        [tmp_path / "corpus"], tmp_path / "heads", encoder_name=name, settings={"steps": 60, "batch_size": 32}
    )
    encoder, corpus = load_encoder(f"{name},heads={run.heads}"), Corpus.open(tmp_path / "corpus")
    items = corpus.select(kind="audio", split="train")
    sounds = torch.cat(
        [encoder.embed_audio(torch.from_numpy(corpus.audio(i.id))[None], sample_rate=32000) for i in items]
    )
    names = sorted({item.captions[0] for item in items})
    nearest = (sounds @ encoder.embed_text(names).T).argmax(1)
    right = np.mean([items[row].captions[0] == names[place] for row, place in enumerate(nearest.tolist())])
    assert right > 0.7, "a quarter is chance"
