"""Content variants: a contextual bandit per slot, from the words of a new variant to the evidence about an old one."""

from models.variants.choice import Draws, shown
from models.variants.context import Context
from models.variants.model import Evidence, Scores, VariantModel
from models.variants.wording import Variant

__all__ = ["Context", "Draws", "Evidence", "Scores", "Variant", "VariantModel", "shown"]
