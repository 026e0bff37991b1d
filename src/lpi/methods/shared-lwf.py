"""One prompt set for the whole stream that distils its answers of before each task (Learning without Forgetting)."""

from lpi.methods.common.one_set import OneSet
from lpi.parameters import Number, Section
from lpi.systems.base import Answers, Batch

from pydantic import Field
from torch import Tensor, nn


class Settings(Section):
    """What `shared-lwf` alone reads."""

    weight: Number = Field(1.0, ge=0, le=1e6, description="weight of the distillation")
    temperature: Number = Field(2.0, ge=1e-3, le=1e3, description="temperature of both answers in the distillation")


class SharedLwF(OneSet):
    """Learning without Forgetting (Li and Hoiem, ECCV 2016): the new prompts must answer as those of the last task did.

    There are no classes here: what is distilled is, in retrieval, for every image of a batch the distribution over its
    captions, and the other way round; in grounding that over the boxes of a picture; at a temperature.
    """

    Settings = Settings

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        vision, text = self.prompts(0)
        self.reference = (vision.clone(), text.clone()) if self.tasks else None
        return super().begin_task(similarity)

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        answers = self.answers_under(batch, self.current())
        terms = {self.system.name: self.system.loss(answers, batch)}
        if self.reference is not None:
            target = reference or self.reference_answers(batch)
            distillation = self.system.distillation(answers, target, self.own("temperature"))
            terms["distillation"] = self.own("weight") * distillation
        return terms
