"""How threads share one interpreter, so that reports wait for little: turns, priorities, garbage.

The event loop answers; flushes, compactions, imports and questions run beside it in threads. Only one of all can hold
the interpreter's lock, and on a machine with one core only one of all runs.

- Who wants the lock gets it after `_SWITCH_S`. Python's own 5 ms are waited for anew each time that the loop comes back
  from waiting for the network, hundreds of times a second.
- Threads that nobody waits for give way (`give_way`): a flush that shares a core with the event loop takes longer, and
  reports do not. One that gives way and holds the lock holds up reports where other programs take all cores; so it has
  a third of an equal share then, and no stretch of its work keeps the lock for more than some milliseconds.
- Python looks for garbage in cycles after so many allocations, whatever is going on, and for as long as it takes to
  look at all that came since: up to half a second in a service with ten thousand connections. Nearly all garbage of a
  service is freed by counting, without that. So it is looked for each second among what came in that second, which
  takes some milliseconds. What is in use then is put aside, and looked at again every ten minutes.
"""

import gc
import os
import sys
import threading

_SWITCH_S = 0.0005
_NICER = 5
"""Of a share of 1 it makes 0.33 (`sched(7)`)."""
_LOOK_EVERY_S = 1.0
_ALL_EVERY = 600
"""Rounds."""
_BACKSTOP = 1_000_000
"""So many new objects within a second are looked at when they come."""


def give_way() -> None:
    """Have the others go first from now on, as far as the system can say so of a thread: Linux."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + _NICER, 19))


def share_it() -> None:
    """Switch often, put aside what there is, and look for garbage in a thread for as long as the process lives."""
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_BACKSTOP, 20, 100)
    threading.Thread(target=_look_for_garbage, name="garbage", daemon=True).start()


def collect(*, everything: bool = False) -> None:
    """Free garbage among what came since the last call, or among all, and put the rest aside."""
    if everything:
        gc.unfreeze()
        gc.collect()
    else:
        gc.collect(1)
    gc.freeze()


def _look_for_garbage() -> None:
    pause = threading.Event()
    rounds = 0
    while not pause.wait(_LOOK_EVERY_S):
        # Who makes much that stays has switched it off meanwhile (`service.app`).
        if gc.isenabled():
            rounds += 1
            collect(everything=rounds % _ALL_EVERY == 0)
