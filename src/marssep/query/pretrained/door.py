"""The one door to transformers: which of its classes we load, and how."""

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from marssep.errors import ModelError
from marssep.query.pretrained.folders import read_config

CLASSES = {
    "clap": "ClapModel",
    "clip": "CLIPModel",
    "siglip": "SiglipModel",
    "pe_audio": "PeAudioModel",
    "pe_audio_video": "PeAudioVideoModel",
    "bert": "BertModel",
    "xlm-roberta": "XLMRobertaModel",
    "distilbert": "DistilBertModel",
}
"""Class by `model_type` of `config.json`; nothing else is loaded, whatever a folder says."""
_OPTIONS: dict[str, dict[str, Any]] = {kind: {"add_pooling_layer": False} for kind in ("bert", "xlm-roberta")}


def load_model(folder: Path) -> nn.Module:
    """A model of `CLASSES` with all its weights, frozen, float32, on the CPU.

    Args:
        folder: as `folders.model_folder` gives it.

    Raises:
        ModelError: transformers is missing or has no such class, the class is not in the table, or weights are missing
            or damaged.
    """
    kind = str(read_config(folder).get("model_type"))
    if kind not in CLASSES:
        raise ModelError(
            f"{folder / 'config.json'}: model_type '{kind}' is not one that is loaded; known: {', '.join(CLASSES)}."
        )
    library = _library()
    made = getattr(library, CLASSES[kind], None)
    if made is None:
        raise ModelError(f"{folder}: transformers {library.__version__} has no {CLASSES[kind]}; install a newer one.")
    model = _read(made, folder, _OPTIONS.get(kind, {}))
    return model.requires_grad_(False).eval()


def _read(made: Any, folder: Path, options: dict[str, Any]) -> nn.Module:
    from safetensors import SafetensorError

    try:
        model, notes = made.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype="float32", **options
        )
    except ImportError as error:
        cause = " ".join(str(error).split("\n")[0].split())
        raise ModelError(f"{folder}: needs a library that is not installed ({cause}).") from None
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder}: cannot be loaded ({cause}); get the model again.") from None
    wrong = sorted([*notes["missing_keys"], *(str(key) for key in notes["mismatched_keys"])])
    if wrong:
        raise ModelError(f"{folder}: lacks {len(wrong)} of its weights, the first is '{wrong[0]}'; get it again.")
    loaded: nn.Module = model
    return loaded


def _library() -> ModuleType:
    try:
        import transformers
    except ImportError:
        raise ModelError("This encoder needs transformers; run 'pip install marssep[encoders]'.") from None
    for name in ("transformers", "transformers.modeling_utils"):
        logging.getLogger(name).setLevel(logging.ERROR)  # its progress and advice are not ours to print
    quiet: Any = transformers.utils.logging
    quiet.disable_progress_bar()
    return transformers
