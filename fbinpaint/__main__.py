import sys

from fbinpaint.cli import main

sys.exit(main())
