"""A recipe's stages in a run folder: prepare, train, distil, evaluate."""

from __future__ import annotations

from typing import Any

from mrigen.engine.processes import on_rank_zero
from mrigen.recipe.context import StudyContext
from mrigen.recipe.distillation import distill
from mrigen.recipe.evaluation import evaluate, require_references
from mrigen.recipe.laps import check_laps, run_laps
from mrigen.recipe.prepare import prepare
from mrigen.recipe.stages import Stage
from mrigen.recipe.training import train


class Study(StudyContext):
    """The stages of a recipe; each needs the ones before it and skips what is finished."""

    def prepare(self) -> None:
        """Simulate and prepare the data, unless a store was given; of several processes the first does it."""
        if self.given_store is None:
            stage = Stage("data", self.out / "data", {"data": self.data_settings()})
            data = self.recipe.data
            self.run_stage(
                stage, lambda: on_rank_zero(lambda: prepare(data, self.out, self.store_folder, self.console))
            )

    def train(self) -> None:
        """Train the teacher and its laps, unless a teacher was given."""
        check_laps(self)
        train(self)
        run_laps(self)

    def distill(self) -> None:
        """Distil the teacher into a generator of one or a few steps; ``data_free`` ones need no data."""
        distill(self)

    def evaluate(self) -> dict[str, Any]:
        """Compare observations, teacher and student with the references; figure and summary.json."""
        self.fabric  # noqa: B018
        on_rank_zero(self.write_recipe)
        return evaluate(self)

    def run(self) -> dict[str, Any]:
        """All stages in order; whether the last one is possible is known before the first network learns.

        Raises:
            UsageError: the data have nothing to evaluate with.
        """
        self.prepare()
        require_references(self)
        self.train()
        self.distill()
        return self.evaluate()
