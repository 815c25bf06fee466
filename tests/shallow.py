"""main.py with U-Nets of two levels, for tests that start it as a program of its own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import main
import model

model.LEVELS = 2
sys.exit(main.main())
