"""Recipes for corpora that a list or their folders describe, by name."""

from marssep.corpus.recipes import catalogues, folders
from marssep.corpus.recipes.clips import Recipe

RECIPES: dict[str, Recipe] = {
    "vggsound": catalogues.vggsound,
    "music": catalogues.music,
    "audiocaps": catalogues.audiocaps,
    "fsd50k": catalogues.fsd50k,
    "clipsep": catalogues.clipsep,
    "audiosep": catalogues.audiosep,
    "fuss": folders.fuss,
    "demand": folders.demand,
    "musdb": folders.musdb,
    "folder": folders.labelled,
}
