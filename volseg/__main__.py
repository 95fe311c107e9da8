"""`python -m volseg`: the command, for where the folder of scripts is not on PATH."""

from __future__ import annotations

from volseg.cli import main

if __name__ == "__main__":
    main()
