"""The programs that train: supervised separation and the alignment of the query encoder."""
