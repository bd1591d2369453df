"""The position of a training run in its data."""

import dataclasses
import warnings

import numpy as np

from keras_attn.training.data import batch_sharding

_PREFIX = "place/"


@dataclasses.dataclass(frozen=True)
class Place:
    """How much of the data a training run has consumed, and how to recognise the data when it resumes.

    Args:
        batches: Number of global batches.
        records: Number of rows in them, or None if it is not known.
        rows: Number of rows of the first global batch, or None.
        checksum: Checksum of the first global batch, or None.
    """

    batches: int = 0
    records: int | None = 0
    rows: int | None = None
    checksum: str | None = None

    def after(self, batches, records, first):
        """The place after more batches. `first` is that of their `Source`."""
        known = first if self.batches == 0 else (self.rows, self.checksum)
        return Place(self.batches + batches, None if self.records is None else self.records + records, *known)

    def state(self):
        """The state as a dict of arrays."""
        return {f"{_PREFIX}{k}": np.asarray(v) for k, v in dataclasses.asdict(self).items() if v is not None}

    @classmethod
    def restored(cls, state, batches):
        """Restores the place from `state`. Checkpoints of older versions have none, and stopped after `batches`."""
        found = {k.removeprefix(_PREFIX): v.item() for k, v in state.items() if k.startswith(_PREFIX)}
        return cls(**({"records": None} | found)) if found else cls(batches, None)

    def found_in(self, dataset, unchanged):
        """Finds the same place in a data set without a fingerprint, possibly with another batch size.

        Args:
            dataset: A data set as for `Trainer.fit`.
            unchanged: Whether the batch settings of the data set are the same as before.

        Raises:
            ValueError: If no batch begins at this place.
        """
        if self.records is None or self.rows is None or not self.batches:
            return self
        rows, checksum = batch_sharding.first_batch(dataset)
        if rows == self.rows and unchanged:
            if checksum != self.checksum and None not in (checksum, self.checksum):
                warnings.warn(
                    "`dataset` begins with another batch than in the checkpoint: it is another data set, or in another "
                    f"order. Training resumes at its batch {self.batches}",
                    stacklevel=6,
                )
            return self
        batches = batch_sharding.batches_before(dataset, self.records)
        if batches is None:
            raise ValueError(
                f"`dataset` must have a batch that begins at record {self.records}, at which the checkpoint stopped "
                f"after {self.batches} batches, the first with {self.rows} rows. Received: batches, the first with "
                f"{rows} rows, of which none begins there"
            )
        return Place(batches, self.records, rows, checksum)
