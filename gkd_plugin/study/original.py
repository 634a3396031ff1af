"""What the process imports of which workers are copies (``warm_up`` of the command): all that they need.

None of it is searched for garbage any more, so copies go on sharing its memory.
"""

import gc

import distributed.nanny
import distributed.worker  # noqa: F401

import gkd_plugin.study.cluster  # noqa: F401

gc.collect()
gc.freeze()
