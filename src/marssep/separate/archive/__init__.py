"""Whole archives: files or shards in, one result for each of them out, whatever happens on the way."""

from marssep.separate.archive.inputs import ArchiveInput, InputList, list_inputs
from marssep.separate.archive.ledger import ArchiveRow, Ledger
from marssep.separate.archive.work import ArchiveJob, ArchiveWorker

__all__ = ["ArchiveInput", "ArchiveJob", "ArchiveRow", "ArchiveWorker", "InputList", "Ledger", "list_inputs"]
