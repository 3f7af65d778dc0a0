"""What a treatment changes for whom: learners, how far they are believed, and the policies that follow.

`UpliftModel` learns; `estimated_probabilities` where the assignment's are not known; `policies` turns effects into who
gets what.
"""

from models.uplift.assignment import AssignmentFit, estimated_probabilities
from models.uplift.model import UpliftModel
from models.uplift.policies import PolicyTree, best_arms, fit_policy_tree, one_arm, spend_at_most

__all__ = [
    "AssignmentFit",
    "PolicyTree",
    "UpliftModel",
    "best_arms",
    "estimated_probabilities",
    "fit_policy_tree",
    "one_arm",
    "spend_at_most",
]
