"""The user's object: load a model, ask for a sound, get it and the rest of the recording."""

from marssep.separate.files import FileResult, FileSettings
from marssep.separate.progress import Progress
from marssep.separate.provenance import Provenance, SavedFiles
from marssep.separate.separation import Separation
from marssep.separate.separator import Separator

__all__ = ["FileResult", "FileSettings", "Progress", "Provenance", "SavedFiles", "Separation", "Separator"]
