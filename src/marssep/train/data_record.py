"""What a run was trained on, written beside its settings, so that a model's card can say it."""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from marssep.corpus.store import MANIFEST, Corpus


def data_record(corpus: Corpus, splits: Sequence[str]) -> dict[str, Any]:
    """Classes, amounts, licences, sources and manifest checksums of the items that a run draws from."""
    used = [item for item in corpus.items if item.split in splits]
    # `source` begins with the package or collection.
    sources = Counter(item.source.replace(":", "/").split("/")[0] for item in used)
    return {
        "manifests_sha256": [sha256((folder / MANIFEST).read_bytes()).hexdigest() for folder in corpus.folders],
        "splits": list(splits),
        "recordings": sum(item.kind == "audio" for item in used),
        "hours": round(sum(item.duration for item in used) / 3600, 2),
        "pictures": sum(item.kind == "image" for item in used),
        "classes": sorted({item.label for item in used if item.kind == "audio"}),
        "items_by_licence": dict(sorted(Counter(item.licence for item in used).items())),
        "items_by_source": dict(sources.most_common()),
    }
