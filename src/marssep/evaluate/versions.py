"""Which libraries and which machine made a figure."""

import os
import platform
from importlib import metadata

LIBRARIES = ("marssep", "torch", "numpy", "scipy", "museval")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a figure depends on, and the machine's processors."""
    versions = {"python": platform.python_version(), "machine": platform.machine(), "processors": str(os.cpu_count())}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
