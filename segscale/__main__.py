"""``python -m segscale``."""

import importlib

if __name__ == "__main__":
    importlib.import_module("segscale.bench.commands.main").main()
