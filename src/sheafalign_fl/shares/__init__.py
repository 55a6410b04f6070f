"""What a run leaves behind to be used: one share for each client (docs/using.md).

A share is what a client learnt, and a client needs its own alone. It holds no training data, and
nothing in it is code: weights are safetensors, the rest is JSON.
"""
