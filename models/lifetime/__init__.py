"""How often customers will buy, and for how much: models of buying and leaving, fitted by maximum likelihood."""

from models.lifetime.beta_geometric import BgNbd, MbgNbd
from models.lifetime.forecast import Forecast, Frequency, forecast
from models.lifetime.gamma_gamma import GammaGamma
from models.lifetime.likelihood import Fit, fit
from models.lifetime.pareto_nbd import ParetoNbd
from models.lifetime.summary import Outcome, Summary, by_day, outcome, summarise

MODELS = {kind.name: kind for kind in (BgNbd, MbgNbd, ParetoNbd)}
"""Models of how often, by name."""

__all__ = [
    "MODELS",
    "BgNbd",
    "Fit",
    "Forecast",
    "Frequency",
    "GammaGamma",
    "MbgNbd",
    "Outcome",
    "ParetoNbd",
    "Summary",
    "by_day",
    "fit",
    "forecast",
    "outcome",
    "summarise",
]
