"""What one writes in an afternoon: FastAPI before implicit's least squares. Run by `benchmarks/serve.py`.

No keys, no live events, no rules, no reasons, no log of what was chosen, and nobody whom it was not fitted with.
"""

import os
import sys
from pathlib import Path

import pandas as pd
import uvicorn
from fastapi import FastAPI, HTTPException
from implicit.cpu.als import AlternatingLeastSquares
from pydantic import BaseModel
from scipy import sparse

FACTORS = 64


class Ask(BaseModel):
    """Of what is sent, what it reads."""

    user_id: str
    k: int


class Item(BaseModel):
    """A recommended item."""

    item_id: str
    score: float


class Answer(BaseModel):
    """Items, best first."""

    items: list[Item]


seen = pd.read_parquet(Path(os.environ["SEEN"]))
users, items = (pd.Categorical(seen[name]) for name in ("user_id", "item_id"))
histories = sparse.csr_matrix((seen["weight"].to_numpy("float32"), (users.codes, items.codes)))
model = AlternatingLeastSquares(factors=FACTORS, iterations=1, num_threads=1)
model.fit(histories, show_progress=False)
codes = {user_id: code for code, user_id in enumerate(users.categories)}
app = FastAPI()


@app.post("/v1/recommend")
def recommend(ask: Ask) -> Answer:
    """The best items."""
    code = codes.get(ask.user_id)
    if code is None:
        raise HTTPException(404, "unknown user")
    found, scores = model.recommend(code, histories[code], N=ask.k)
    shown = zip(items.categories[found], scores.tolist(), strict=True)
    return Answer(items=[Item(item_id=item_id, score=score) for item_id, score in shown])


@app.get("/readyz")
def readyz() -> str:
    """There is nothing to wait for."""
    return "ready"


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[-1]), log_level="warning", access_log=False)
