import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from marssep.errors import ModelError, OutputError
from marssep.query import load_encoder
from marssep.query.pretrained.convert import convert


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return os.mkdir, (self.made,)


def test_a_folder_of_an_old_model_becomes_one_that_loads(made_models, tmp_path, marssep):
    old = tmp_path / "old"
    shutil.copytree(made_models.clap, old)
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="models convert"):
        load_encoder(f"transformers:clap={old}")
    ran = marssep("models", "convert", old, "-o", tmp_path / "new")
    assert ran.code == 0, ran.err
    first, second = (load_encoder(f"transformers:clap={place}") for place in (made_models.clap, tmp_path / "new"))
    assert torch.equal(first.embed_text(["rain"]), second.embed_text(["rain"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_what_training_programs_wrap_around_weights_is_taken_off(tmp_path):
    weight = torch.randn(2, 3)
    state = {"module.a.weight": weight, "module.tied": weight, "_orig_mod.b": torch.ones(1), "module.n": 3}
    torch.save({"epoch": 3, "optimizer": {"lr": 1}, "state_dict": state}, tmp_path / "run.ckpt")
    made = convert(tmp_path / "run.ckpt", tmp_path / "out")
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == {"a.weight", "tied", "b"}
    assert made.left_out == ("epoch", "optimizer", "module.n")


def test_a_checkpoint_that_could_run_code_is_refused(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}, "hook": Trap(str(tmp_path / "ran"))}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match="could run code"):
        convert(tmp_path / "evil.pt", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pt"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_what_is_no_checkpoint_is_named(content, tmp_path):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.pt: (not a readable checkpoint|refused)"):
        convert(tmp_path / "x.pt", tmp_path / "out")


def test_several_or_empty_checkpoints_and_taken_folders(tmp_path):
    with pytest.raises(ModelError, match="has none"):
        convert(tmp_path, tmp_path / "out")
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ModelError, match="holds a list"):
        convert(tmp_path, tmp_path / "out")
    torch.save({"state_dict": {"lr": 1}}, tmp_path / "b.pt")
    with pytest.raises(ModelError, match=r"a\.pt, b\.pt; name the file"):
        convert(tmp_path, tmp_path / "out")
    with pytest.raises(ModelError, match="no tensors"):
        convert(tmp_path / "b.pt", tmp_path / "out")
    torch.save({"a": torch.ones(1)}, tmp_path / "b.pt")
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        convert(tmp_path / "b.pt", tmp_path / "out")
