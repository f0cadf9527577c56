#!/usr/bin/env python3
"""Starts the prompt processing agent; see ``--help``."""

from __future__ import annotations

import sys
from pathlib import Path

# Started as a script, wherever that is done, Python knows this directory only.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.streaming.processing_program import main

if __name__ == "__main__":
    main()
