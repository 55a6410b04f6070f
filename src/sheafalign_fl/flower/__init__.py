"""Everything in the library that imports Flower: records, the in-process engine, the launcher of simulations."""
