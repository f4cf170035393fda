"""Tiny models of other people's kinds, made by their configuration: random weights, a tokenizer of single bytes."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

CLAP_RATE, CLAP_SECONDS = 8000, 1
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def save_tokenizer(folder):
    """Bytes as tokens, framed by <s> and </s>, as RoBERTa and CLIP frame theirs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet, "<end>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = vocabulary["<end>"]  # the largest number, which CLIP takes for the end
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <end>", special_tokens=[("<s>", 0), ("<end>", end)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return len(vocabulary)


def save(folder, made, processor):
    made.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def clap_processor():
    return {
        "feature_size": 16,
        "sampling_rate": CLAP_RATE,
        "hop_length": 128,
        "max_length_s": CLAP_SECONDS,
        "fft_window_size": 512,
        "frequency_min": 50,
        "frequency_max": 3500,
    }


def make_clap(folder, *, fusion=False):
    from transformers import ClapConfig, ClapModel

    folder.mkdir(parents=True)
    words = save_tokenizer(folder)
    text = {"vocab_size": words, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 16, "max_position_embeddings": 64, "pad_token_id": 1, "projection_dim": 12}
    audio = {"num_mel_bins": 16, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4], "hidden_size": 32}
    audio |= {"patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "window_size": 4}
    audio |= {"enable_fusion": fusion, "projection_dim": 12, "aff_block_r": 2}
    torch.manual_seed(1)
    return save(
        folder, ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12)), clap_processor()
    )


def picture_processor(**other):
    return {"do_center_crop": False, "size": {"height": 24, "width": 24}, "resample": 3} | {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.25, 0.3],
        **other,
    }


def towers(words, **text):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return {
        "text_config": {**small, "vocab_size": words, "max_position_embeddings": 40, **text},
        "vision_config": {**small, "image_size": 24, "patch_size": 8},
    }


def make_clip(folder):
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True)
    words = save_tokenizer(folder)
    config = CLIPConfig(**towers(words, bos_token_id=0, eos_token_id=words - 1), projection_dim=10)
    cut = {"do_center_crop": True, "size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
    torch.manual_seed(2)
    return save(folder, CLIPModel(config), picture_processor(**cut))


def make_siglip(folder):
    from transformers import SiglipConfig, SiglipModel

    folder.mkdir(parents=True)
    words = save_tokenizer(folder)
    torch.manual_seed(3)
    return save(folder, SiglipModel(SiglipConfig(**towers(words, pad_token_id=1))), picture_processor())


def pe_text(words):
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    marks = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    return {"model_type": "modernbert", "vocab_size": words, "max_position_embeddings": 64, **small, **marks}


def pe_small():
    return {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }


def pe_audio():
    codec = {"encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "hidden_size": 32, "codebook_dim": 8}
    return {**pe_small(), "dac_config": {**codec, "sampling_rate": 8000, "hop_length": 8}}


def pe_processor():
    return {"sampling_rate": 8000, "hop_length": 8}


def make_pe_audio(folder):
    from transformers import PeAudioConfig, PeAudioModel

    folder.mkdir(parents=True)
    words = save_tokenizer(folder)
    torch.manual_seed(4)
    config = PeAudioConfig(text_config=pe_text(words), audio_config=pe_audio())
    return save(folder, PeAudioModel(config), pe_processor())


@dataclass(frozen=True)
class MadeModels:
    """Folders of the tiny models."""

    clap: Path
    fused: Path
    clip: Path
    siglip: Path
    pe_a: Path

    @property
    def specifications(self):
        """Names of encoders by a short name."""
        return {
            "clap": f"transformers:clap={self.clap}",
            "clap-fused": f"transformers:clap={self.fused}",
            "clip": f"transformers:clip={self.clip}",
            "siglip": f"transformers:siglip={self.siglip}",
            "pe-a": f"transformers:pe-a={self.pe_a}",
            "clap+clip": f"transformers:clap={self.clap},clip={self.clip}",
        }


@pytest.fixture(scope="session")
def made_models(tmp_path_factory):
    """Tiny models, made once."""
    pytest.importorskip("transformers")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    folder = tmp_path_factory.mktemp("pretrained")
    with torch.random.fork_rng():
        return MadeModels(
            clap=make_clap(folder / "clap"),
            fused=make_clap(folder / "fused", fusion=True),
            clip=make_clip(folder / "clip"),
            siglip=make_siglip(folder / "siglip"),
            pe_a=make_pe_audio(folder / "pe-a"),
        )


class PeAvMaker:
    """Writes a folder as PE-AV's is, and keeps the model of it, with a ViT for eyes."""

    def __call__(self, folder):
        from transformers import PeAudioVideoConfig, PeAudioVideoModel, ViTConfig

        folder.mkdir(parents=True)
        words = save_tokenizer(folder)
        eyes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        vision = ViTConfig(**eyes, image_size=24, patch_size=8, num_labels=12)
        both = {"audio_config": pe_audio(), "video_config": {**pe_small(), "vision_config": vision}}
        with torch.random.fork_rng():
            torch.manual_seed(5)
            config = PeAudioVideoConfig(text_config=pe_text(words), audio_video_config={**pe_small(), **both})
            self.model = PeAudioVideoModel(config)
        save(folder, self.model, {**pe_processor(), **picture_processor()})


@pytest.fixture
def pe_av_model():
    """Maker of a PE-AV folder."""
    return PeAvMaker()
