"""Where in its data a training run is."""

import dataclasses
import warnings

import numpy as np

from keras_attn.training.data import batch_sharding

_PREFIX = "place/"


@dataclasses.dataclass(frozen=True)
class Place:
    """How much of the data a training run has consumed, and by what its next run knows the data again.

    Args:
        batches: Number of global batches.
        records: Number of rows in them, or None if it is not known.
        rows: Rows of the first global batch, or None.
        checksum: Checksum of the first global batch, or None.
    """

    batches: int = 0
    records: int | None = 0
    rows: int | None = None
    checksum: str | None = None

    def after(self, batches, records, first):
        """The place after more batches; `first` is what the `Source` of them says of its first one."""
        known = first if self.batches == 0 else (self.rows, self.checksum)
        return Place(self.batches + batches, None if self.records is None else self.records + records, *known)

    def state(self):
        """Dict of arrays by name."""
        return {f"{_PREFIX}{k}": np.asarray(v) for k, v in dataclasses.asdict(self).items() if v is not None}

    @classmethod
    def restored(cls, state, batches):
        """The place that `state` tells; a checkpoint of an older version tells none, and stopped after `batches`."""
        found = {k.removeprefix(_PREFIX): v.item() for k, v in state.items() if k.startswith(_PREFIX)}
        return cls(**({"records": None} | found)) if found else cls(batches, None)

    def found_in(self, dataset, unchanged):
        """The same place in a data set that has no fingerprint, whose batches may be of another size.

        Args:
            dataset: What `Trainer.fit` takes.
            unchanged: Whether the data set says the same of its batches as it did.

        Raises:
            ValueError: No batch begins at this place.
        """
        if self.records is None or self.rows is None or not self.batches:
            return self
        rows, checksum = batch_sharding.first_batch(dataset)
        if rows == self.rows and unchanged:
            if checksum != self.checksum and None not in (checksum, self.checksum):
                warnings.warn(
                    "`dataset` begins with another batch than in the checkpoint: it is another one, or shuffled in "
                    f"another order. The training run goes on at its batch {self.batches}",
                    stacklevel=6,
                )
            return self
        batches = batch_sharding.batches_before(dataset, self.records)
        if batches is None:
            raise ValueError(
                f"`dataset` must have a batch that begins at record {self.records}, which is where the checkpoint "
                f"stopped, after {self.batches} batches, the first of {self.rows} rows. Received: batches, the first "
                f"of {rows} rows, of which none begins there"
            )
        return Place(batches, self.records, rows, checksum)
