"""The life of a model: train, evaluate, export, import into the store, sign.

The controller itself needs only the store, the manifests and the keys. Training, evaluation and
export need the ``models`` extra (Ultralytics and PyTorch) and are reached through
``controller.models.yolo`` alone, which is imported when one of those commands runs.
"""
