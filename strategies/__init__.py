"""The relay's side: the Flower ServerApp and the peer-to-peer strategy."""
