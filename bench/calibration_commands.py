"""What the command calibrate does. Heavy modules are imported where they are needed."""

from __future__ import annotations

import argparse

from segscale.catalogue import config_file, config_files

from .commands import _quiet_libraries, _reports, _run_options


def calibrate(arguments: argparse.Namespace) -> None:
    backbones = arguments.backbone or [name for name in config_files("backbone") if name.startswith("pocket-")]
    for name in backbones:
        config_file("backbone", name)
    for name in arguments.method or []:
        config_file("method", name)
    config_file("dataset", arguments.dataset)
    config_file("protocol", arguments.protocol)
    from .calibration import calibrate, store_thresholds

    _quiet_libraries()
    cell = (arguments.dataset, arguments.protocol, _run_options(arguments))
    stores = calibrate(backbones, arguments.method, *cell)
    if not _reports():
        return
    path, thresholds = store_thresholds(stores, *cell)
    for method, threshold in thresholds.items():
        print(f"{method:22} {threshold:g}")
    print(f"wrote {path}")
