"""`python -m cluster` is `raymill`, for clusters where only the dependencies are installed."""

import sys

from cluster.cli.main import main

sys.exit(main())
