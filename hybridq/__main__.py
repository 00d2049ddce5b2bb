"""`python -m hybridq`: the SQL console."""

import sys

from hybridq.console.main import main

if __name__ == "__main__":
    sys.exit(main())
