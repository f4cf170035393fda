"""Recordings and pictures with labels: manifests, recipes that build them, mixing, shards."""

from marssep.corpus.labels import SoundClass, class_of, family_of, load_classes
from marssep.corpus.manifest import Item, read_manifest, write_manifest
from marssep.corpus.store import CORPUS_RATE, Corpus

__all__ = [
    "CORPUS_RATE",
    "Corpus",
    "Item",
    "SoundClass",
    "class_of",
    "family_of",
    "load_classes",
    "read_manifest",
    "write_manifest",
]
