"""What the two sides say to each other: verbs, who speaks, what for."""

from typing import Literal

PROTOCOL_VERSION = 3

# Verbs: the actions of the ClientApp that the strategy's messages ask for.
DESCRIBE = "query.describe"
AGREE = "query.agree"
EXCHANGE = "train.exchange"
EVALUATE_EMBED = "evaluate.embed"
EVALUATE_SCORE = "evaluate.score"
FINISH = "query.finish"
PRESENT = "query.present"
REFUSE = "query.refuse"

RELAY = "relay"
EVALUATOR = "evaluator"

Purpose = Literal["setup", "train", "evaluate"]
PURPOSES: tuple[Purpose, ...] = ("setup", "train", "evaluate")
