"""The labels that losses and metrics ignore."""

from numbers import Integral
from typing import Any

from keras_attn.special_ids import NO_TOKEN

AUTO = "auto"


class IgnoredLabels:
    """Mixin of losses and metrics with an `ignore_id`: an integer, None or "auto".

    "auto" is the padding label of the data set or model. The `Trainer` takes it from its data set, or else from its
    model; `compile` of this package's models also sets it. Otherwise it is 0. -100 is ignored too.

    Put it before the Keras class among the bases, and call `set_ignore_id`.
    """

    # Inner losses that ignore the same labels.
    _followers = ()

    def set_ignore_id(self, ignore_id: int | str | None) -> None:
        """Checks and stores the argument of the constructor."""
        is_integer = isinstance(ignore_id, Integral) and not isinstance(ignore_id, bool)
        if ignore_id is not None and ignore_id != AUTO and not is_integer:
            raise ValueError(f'`ignore_id` must be an integer, None or "auto". Received: ignore_id={ignore_id!r}')
        self.given_ignore_id = int(ignore_id) if is_integer else ignore_id
        self._padding_label, self._is_bound = 0, False
        for follower in self._followers:
            follower.set_ignore_id(ignore_id)

    @property
    def ignore_id(self) -> int | None:
        """The ignored label, or None."""
        return self._padding_label if self.given_ignore_id == AUTO else self.given_ignore_id

    @property
    def ignored_labels(self) -> tuple[int, ...]:
        """Tuple of all ignored labels."""
        found = () if self.ignore_id is None else (self.ignore_id,)
        return found if self.given_ignore_id != AUTO or NO_TOKEN in found else (*found, NO_TOKEN)

    def bind_ignore_id(self, ignore_id: int | None, is_final: bool = True) -> None:
        """Sets the label of "auto", finally or until a final call.

        Raises:
            ValueError: If another label has been set finally.
        """
        if self.given_ignore_id == AUTO and self._is_bound and ignore_id != self.ignore_id:
            raise ValueError(
                f"{self.name!r} must be made anew for each data set, or given an `ignore_id`, as data mark padding "
                f"with different labels. Received: {self.ignore_id} before and {ignore_id} now"
            )
        self._padding_label, self._is_bound = ignore_id, self._is_bound or is_final
        for follower in self._followers:
            follower.bind_ignore_id(ignore_id, is_final)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ignore_id": self.given_ignore_id}
