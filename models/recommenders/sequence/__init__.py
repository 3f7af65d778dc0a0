"""A causal transformer over what a person did: learnt in PyTorch, served by onnxruntime."""

from models.recommenders.sequence.recommender import CausalTransformer

__all__ = ["CausalTransformer"]
