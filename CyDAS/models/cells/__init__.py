"""The cells of DARTS: operations, genotypes, search and evaluation networks, whole cells as one native step."""
