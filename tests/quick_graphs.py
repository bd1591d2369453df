"""Settings of Python and TensorFlow with which graphs are traced sooner; importing this module sets them.

None of them changes a result: they are for the processes of tests, which trace thousands of graphs and run each once.
They are not for processes with several replicas, whose threads would read one place in the code at the same time.
"""

import functools
import gc
import sys
import typing

from tensorflow.python.util import tf_stack

# Graphs are millions of objects that live on, and collections that walk over them take a twentieth of the time.
gc.set_threshold(100_000, 50, 100)
# The place in the code of each operation of a graph, which only errors name, takes a fifth of the time of tracing.
_PLACE = tf_stack.extract_stack()
tf_stack.extract_stack = lambda stacklevel=1: _PLACE
# TensorFlow tests each argument for a protocol, whose members older versions of Python collect anew each time.
if sys.version_info < (3, 12):
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)
