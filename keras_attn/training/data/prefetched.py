"""Prefetching in a background thread."""

import atexit
import queue
import threading
import weakref

DEPTH = 4
END = object()
_RUNNING = weakref.WeakKeyDictionary()


class Prefetched:
    """Prefetches the items of an iterator in a background thread.

    An error of the iterator is raised by the corresponding `next`. The thread ends with the iterator, with `close`, and
    when this object is garbage-collected.

    Args:
        iterator: The iterator.
        depth: Maximum number of prefetched items.

    Example:

    >>> from keras_attn.training.data.prefetched import Prefetched
    >>> list(Prefetched(iter(range(3))))
    [0, 1, 2]
    """

    def __init__(self, iterator, depth=DEPTH):
        self._items = queue.Queue(depth)
        self._stop = threading.Event()
        # The thread must not reference this object, or it could never be garbage-collected.
        self._thread = threading.Thread(
            target=_fill, args=(iterator, self._items, self._stop), name="prefetch", daemon=True
        )
        self._close = weakref.finalize(self, _end, self._items, self._stop)
        _RUNNING[self._thread] = self._items, self._stop
        self._thread.start()

    def __iter__(self):
        return self

    def __next__(self):
        if self._stop.is_set():
            raise StopIteration
        item, error = self._items.get()
        if error is None:
            return item
        self.close()
        raise error if error is not END else StopIteration

    def close(self):
        """Ends the thread."""
        self._close()
        self._thread.join()


def _fill(iterator, items, stop):
    try:
        for item in iterator:
            items.put((item, None))
            if stop.is_set():
                return
        items.put((None, END))
    except BaseException as error:
        items.put((None, error))
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


def _end(items, stop):
    """Empties the queue, so that a blocked thread continues and sees the stop event."""
    stop.set()
    while True:
        try:
            items.get_nowait()
        except queue.Empty:
            return


def _end_all():
    """Ends the threads before the interpreter, which would abort the process if one is in C++ code."""
    for thread, (items, stop) in list(_RUNNING.items()):
        _end(items, stop)
        thread.join(timeout=10)


atexit.register(_end_all)
