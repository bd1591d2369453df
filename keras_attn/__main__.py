"""`python -m keras_attn` is the command `keras-attn`."""

import sys

from keras_attn.cli import main

sys.exit(main())
