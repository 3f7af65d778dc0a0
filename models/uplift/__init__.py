"""What a treatment changes for whom: learners, how far they are believed, and the policies that follow.

`UpliftModel` learns from an experiment, `PooledEffects` from decisions about many offers; `estimated_probabilities`
where the assignment's are not known; `policies` turns effects into who gets what.
"""

from models.uplift.assignment import AssignmentFit, estimated_probabilities
from models.uplift.model import UpliftModel
from models.uplift.policies import PolicyTree, best_arms, fit_policy_tree, spend_at_most
from models.uplift.pooled import PooledEffects

__all__ = [
    "AssignmentFit",
    "PolicyTree",
    "PooledEffects",
    "UpliftModel",
    "best_arms",
    "estimated_probabilities",
    "fit_policy_tree",
    "spend_at_most",
]
