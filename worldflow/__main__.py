"""`python -m worldflow` is the console command `worldflow`."""

import sys

from worldflow.cli import main

sys.exit(main())
