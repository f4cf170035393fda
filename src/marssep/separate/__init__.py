"""The user's object: load a model, ask for a sound, get it and the rest of the recording."""

from marssep.separate.provenance import Provenance, SavedFiles
from marssep.separate.separation import Separation
from marssep.separate.separator import Separator

__all__ = ["Provenance", "SavedFiles", "Separation", "Separator"]
