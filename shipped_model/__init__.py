"""The model that ships with Storefleet: ``shelf.zip`` (OpenVINO, the default) and ``shelf.onnx``.

What it is and how well it does is in MODEL_CARD.md, what it learnt from in DATASET_CARD.md; both are
generated, like metrics.json, by ``storefleet models card``. Read the files by
``importlib.resources.files("shipped_model")``.
"""
