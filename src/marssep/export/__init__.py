"""A model as ONNX graphs and one JSON file, for `marssep.runtime` and for runtimes in other languages."""

from marssep.export.export import ExportSettings, export_model

__all__ = ["ExportSettings", "export_model"]
