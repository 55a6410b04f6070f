"""The only room that touches what is not public in Flower: records, the Fleet API, its processes."""
