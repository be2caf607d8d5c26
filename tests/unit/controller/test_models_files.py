"""Datasets, weight compression, normalized graphs and cards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controller.models.cards import dataset_card, model_card
from controller.models.dataset import read_dataset
from controller.models.errors import DatasetError
from controller.models.onnx_file import quantized
from controller.models.openvino_ir import normalized


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "images" / split / "1.jpg").write_bytes(b"")
    raw = {"path": "/somewhere/else", "train": "images/train", "val": "images/val", "names": {0: "a", 1: "b"}}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(raw | {"download": "import os"}))
    (tmp_path / "dataset.json").write_text('{"name": "shelves"}')
    return tmp_path


def test_dataset_is_read_wherever_it_was_moved(dataset: Path) -> None:
    found = read_dataset(dataset)
    assert found.names == ("a", "b")
    assert found.images("val") == dataset / "images" / "val"
    assert found.card == {"name": "shelves"}
    assert read_dataset(dataset / "data.yaml") == found


def test_what_ultralytics_gets_holds_nothing_to_execute(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    raw = yaml.safe_load(read_dataset(dataset).write_for_ultralytics(out).read_text())
    assert set(raw) == {"train", "val", "names"}
    assert Path(raw["train"]).is_absolute()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": None}, "no list of class names"),
        ({"names": {0: "a", 2: "b"}}, "without holes"),
        ({"names": ["a", "a"]}, "twice"),
        ({"val": "images/nowhere"}, "no images in"),
        ({"val": 3}, "not an image directory"),
        ({"train": None, "val": None}, "names no images"),
    ],
)
def test_unusable_dataset_is_refused(dataset: Path, change: dict[str, Any], words: str) -> None:
    file = dataset / "data.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    with pytest.raises(DatasetError, match=words):
        read_dataset(dataset)


def test_directory_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is .* a dataset directory"):
        read_dataset(tmp_path)
    (tmp_path / "data.yaml").write_text("[")
    with pytest.raises(DatasetError, match="cannot read"):
        read_dataset(tmp_path)


def test_missing_split_names_those_that_exist(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="no 'test' images; it has train, val"):
        read_dataset(dataset).images("test")


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_eight_bit_weights_are_off_by_half_a_step_at_most(seed: int, spread: float) -> None:
    weights = np.random.default_rng(seed).normal(0, spread, (4, 3, 3, 3)).astype(np.float32)
    weights[1] = 0
    integers, scale = quantized(weights)
    assert integers.dtype == np.int8
    error = np.abs(integers * scale - weights)
    assert (error <= scale * 0.5 * (1 + 1e-3)).all()


def test_graph_text_loses_counters_and_origin() -> None:
    def text(counter: int, version: str) -> str:
        return (
            '<?xml version="1.0"?>\n<net name="n" version="11">\n\t<layers>\n'
            f'\t\t<layer id="3" name="Convert_{counter}" type="Convert">\n'
            f'\t\t<layer id="4" name="Reshape_{counter}/scale" type="Const">\n'
            '\t\t<layer id="5" name="/model.0/Conv_2" type="Convolution">\n'
            "\t\t<rt_info>\n\t\t\t<attribute/>\n\t\t</rt_info>\n"
            "\t</layers>\n\t<edges>\n\t</edges>\n"
            f'\t<rt_info>\n\t\t<info value="{version}"/>\n\t</rt_info>\n</net>\n'
        )

    made = normalized(text(17, "1"))
    assert made == normalized(text(4711, "2"))
    assert 'name="/model.0/Conv_2"' in made
    assert "<attribute/>" in made
    assert made.endswith("</edges>\n</net>\n")
    assert "\t" not in made


def test_cards_are_written_from_recorded_figures() -> None:
    row = {"images": 9, "instances": 12, "precision": 0.9, "recall": 0.8, "map50": 0.95, "map50_95": 0.7}
    metrics = {
        "map50": 0.951,
        "map50_95": 0.71,
        "precision": 0.9,
        "recall": 0.8,
        "per_class": {"cola-can": row},
    }
    data = {
        "name": "shelves",
        "version": "3",
        "origin": "drawn",
        "classes": ["cola-can"],
        "splits": {
            "train": {
                "pictures": 40,
                "seeds": {"first": 1, "last": 20, "count": 20},
                "labels": {"cola-can": 99},
            },
            "test": {"pictures": 9, "seeds": None, "labels": {}},
        },
    }
    training = {
        "architecture": "yolo26n",
        "weights": None,
        "settings": {"epochs": 2, "batch": 16, "image_size": 320, "seed": 0},
        "seconds": 120.0,
        "validation": {"images": 4, **metrics},
        "dataset": data,
    }
    report = {
        "file": "shelf.zip",
        "digest": "sha256:ab",
        "info": {"format": "openvino", "image_size": [384, 640], "size_bytes": 5},
        "data": "eval.yaml",
        "split": "val",
        "images": 9,
        "metrics": metrics,
    }
    card = model_card(
        "shelf", "1", [json.loads(json.dumps(training)), training | {"weights": "best.pt"}], [report]
    )
    assert "| shelf.zip | openvino | 384 x 640 | 5 | `sha256:ab` |" in card
    assert "| cola-can | 12 | 0.900 | 0.800 | 0.950 | 0.700 |" in card
    assert "| **all** | 12 | 0.900 | 0.800 | 0.951 | 0.710 |" in card
    assert "1. from random weights, on shelves 3: 2 epochs" in card
    assert "2. from `best.pt`, on shelves 3" in card
    text = dataset_card([training], [report | {"dataset": data}])
    assert "| train | 40 | 20, from 1 to 20 |" in text
    assert "| cola-can | 99 |" in text
    assert (
        text.index("## Training, stage 1") < text.index("## Evaluation") < text.index("| test | 9 | none |")
    )
