"""A street corner: four sensors' shares as services, and one of them is killed (docs/corner.md)."""
