"""What tokens cost: a dated table of prices, and usage times price in whole nano-dollars."""

from batchrun.pricing.book import Deployment, Price, PriceBook, Tier, Why, full_model_id
from batchrun.pricing.cost import cost_nano_usd, tier_of
from batchrun.pricing.file import load_prices

__all__ = [
    "Deployment",
    "Price",
    "PriceBook",
    "Tier",
    "Why",
    "cost_nano_usd",
    "full_model_id",
    "load_prices",
    "tier_of",
]
