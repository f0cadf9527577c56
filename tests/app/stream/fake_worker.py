"""``prompt-processing worker`` with the fake slot application."""

from __future__ import annotations

import sys

import app.service_factory
from app.cli import main

if __name__ == "__main__":
    app.service_factory.SLOT_APPLICATION = "tests.services.slots.fake_application:blueprint"
    sys.argv[1:] = ["worker"]
    main()
