"""The only room that touches what is not public in Flower: records, Fleet API, processes."""
