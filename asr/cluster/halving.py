"""Which trials are worth going on with: asynchronous successive halving (ASHA, Li et al. 2020).

It is Ray Tune's scheduler, without the Tuner that would run the trials too. What a Tuner goes on
from after an interruption is pickled, so that reading it runs code; it is written now and then, so
that a kill loses reports; it holds the number of trials, which then cannot grow; trials are ended
without a chance to save; and Ray has to be started for a single trial on this machine. A scheduler
is a function of the reports it has had: made anew, it is given them once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asr.cluster.ray import first_line, import_ray
from asr.errors import UserError

METRIC = "rate"
TIME = "training_iteration"
REDUCTION = 4  # a trial goes on from a rung if it is in the best quarter of those that came there


@dataclass(frozen=True)
class _Trial:
    """What the scheduler asks of a trial."""

    trial_id: str


class Halving:
    """Decides after each report; rungs are at `grace_epochs`, four times as many, and so on.

    Raises:
        UserError: Ray Tune cannot be imported.
    """

    def __init__(self, max_epochs: int, grace_epochs: int) -> None:
        try:
            import_ray()
            from ray.tune.schedulers import ASHAScheduler
        except ImportError as error:  # Ray is there without what its part Tune needs
            raise UserError(
                f"asr tune needs Ray Tune: {first_line(error).rstrip('.')}."
                " pip install 'ray[tune]' brings it."
            ) from error
        self._max_epochs = max_epochs
        self._scheduler: Any = ASHAScheduler(
            time_attr=TIME,
            metric=METRIC,
            mode="min",
            max_t=max_epochs,
            grace_period=min(grace_epochs, max_epochs),
            reduction_factor=REDUCTION,
        )
        self._known: set[int] = set()

    def goes_on(self, trial: int, epoch: int, rate: float) -> bool:
        """Whether the trial is worth going on with after this report, its next one.

        After its last epoch it always is: nothing is left to be stopped.
        """
        from ray.tune.schedulers import TrialScheduler

        asked = _Trial(str(trial))
        if trial not in self._known:
            self._scheduler.on_trial_add(None, asked)
            self._known.add(trial)
        result = {TIME: epoch, METRIC: rate}
        decision = self._scheduler.on_trial_result(None, asked, result)
        return epoch >= self._max_epochs or decision != TrialScheduler.STOP
