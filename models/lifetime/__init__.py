"""How often customers will buy, and for how much: models of buying and leaving, fitted by maximum likelihood."""

from models.lifetime.beta_geometric import BgNbd, MbgNbd
from models.lifetime.choosing import PLAIN, Choice, Tried, choose
from models.lifetime.forecasts import Forecast, Frequency, forecast
from models.lifetime.gamma_gamma import GammaGamma
from models.lifetime.habits import Habits
from models.lifetime.likelihood import Fit, fit
from models.lifetime.pareto_nbd import ParetoNbd, ParetoNbdFirst
from models.lifetime.summary import Outcome, Summary, by_day, from_features, outcome, summarise

MODELS = {kind.name: kind for kind in (*PLAIN, ParetoNbdFirst)}
"""Models of how often, by name."""

__all__ = [
    "MODELS",
    "BgNbd",
    "Choice",
    "Fit",
    "Forecast",
    "Frequency",
    "GammaGamma",
    "Habits",
    "MbgNbd",
    "Outcome",
    "ParetoNbd",
    "ParetoNbdFirst",
    "Summary",
    "Tried",
    "by_day",
    "choose",
    "fit",
    "forecast",
    "from_features",
    "outcome",
    "summarise",
]
