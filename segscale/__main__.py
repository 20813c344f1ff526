"""``python -m segscale``."""

from segscale.bench.cli import main

if __name__ == "__main__":
    main()
