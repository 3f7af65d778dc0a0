"""Pure decision code: rules, arms, ranking. Imports no bentoml and no sqlalchemy."""
