"""Errors whose message is one clear sentence for the person who asked: what is wrong, where, and what to do."""


class MarssepError(Exception):
    """Base of every error that a user can mend; the command line prints its message and exits with `exit_code`."""

    exit_code = 1


class InputError(MarssepError):
    """A recording, picture or waveform cannot be used."""


class OutputError(MarssepError):
    """A result cannot be written."""


class ModelError(MarssepError):
    """A model or its weights cannot be loaded."""


class CorpusError(MarssepError):
    """A manifest, shard or recipe is broken or incomplete."""


class UsageError(MarssepError):
    """The call itself is wrong (a query with nothing in it, an unknown option)."""

    exit_code = 2


class SettingsError(UsageError):
    """A preset or an override has an unknown key or a value that is out of range."""


class CancelledError(MarssepError):
    """The caller's callback asked to stop; nothing was left behind."""
