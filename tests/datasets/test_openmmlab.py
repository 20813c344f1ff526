from __future__ import annotations

import subprocess
import sys

import pytest

from segscale.datasets.mmseg_import import import_mmseg
from segscale.errors import UserError


def test_datasets_and_metrics_import_without_compiled_operators() -> None:
    assert import_mmseg("datasets").PascalVOCDataset
    assert import_mmseg("evaluation").IoUMetric


def test_mmengine_sees_that_compiled_operators_are_missing() -> None:
    import_mmseg("datasets")
    from mmengine.utils.dl_utils.misc import mmcv_full_available

    assert not mmcv_full_available()


def test_a_compiled_operator_raises_only_when_it_is_called() -> None:
    import_mmseg("datasets")
    import torch
    from mmcv.ops import sigmoid_focal_loss

    with pytest.raises(UserError, match=r"the compiled operator .* of mmcv is not installed"):
        sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))


def test_segscale_alone_imports_neither_mmseg_nor_mmcv() -> None:
    code = (
        "import sys, segscale.bench.runs.loop, segscale.datasets.voc;"
        "print(*(m for m in ('mmseg', 'mmcv') if m in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
